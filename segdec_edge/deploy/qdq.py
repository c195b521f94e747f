"""Which layers of a graph can be INT8, and the same graph with Q/DQ nodes at chosen ones. Knows no picture.

Q and DQ stand on a convolution's two inputs, never on its output: ReLU and max pooling between two convolutions then
work on INT8, and TensorRT fuses convolution, bias, ReLU and the next layer's Q into one kernel (its rule for placing
Q/DQ: quantise the inputs of weighted layers, not their outputs). The last, fully connected layer stays as it is: 66
multiply-adds, and the score itself comes out of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto

from segdec_edge.errors import QuantizeError

Activations: TypeAlias = Literal["int8", "uint8"]
"""int8: symmetric, what TensorRT takes. uint8: the zero point may lie anywhere, so that the values after a ReLU get
all 255 steps instead of 127, and onnxruntime computes in INT8 on x86-64, which it does not for the other."""
NO_BIAS = 1e-12


@dataclass(frozen=True)
class Layer:
    """A convolution that can be INT8. name as users write it; output, source, weight: tensors; channels: it gives."""

    name: str
    output: str
    source: str
    weight: str
    macs_share: float
    channels: int


def quantisable(model: onnx.ModelProto, size_hw: tuple[int, int]) -> tuple[Layer, ...]:
    """The convolutions with constant weights, in the graph's order, each with its share of their multiply-adds.

    size_hw: of the pictures. Raises QuantizeError where there is none, or the graph is quantised already.
    """
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        raise QuantizeError("the graph is INT8 already. Give the bundle that it was made from.")
    weights = {one.name: list(one.dims) for one in model.graph.initializer}
    shapes = _shapes(model, size_hw)
    found = []
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in weights:
            height, width = shapes[node.output[0]][2:]
            macs = float(np.prod(weights[node.input[1]])) * height * width
            layer = Layer(
                layer_name(node), node.output[0], node.input[0], node.input[1], macs, weights[node.input[1]][0]
            )
            found.append(layer)
    if not found:
        raise QuantizeError(
            "the graph has no convolution with constant weights. Give a bundle that segdec export wrote."
        )
    total = sum(layer.macs_share for layer in found)
    return tuple(replace(layer, macs_share=layer.macs_share / total) for layer in found)


def layer_name(node: onnx.NodeProto) -> str:
    """volume.2 for the exporter's /net/volume/volume.2/volume.2.0/Conv as for our own volume.2.out."""
    if node.name.endswith("/Conv"):
        return str(node.name.split("/")[-2].removesuffix(".0"))
    return str((node.name or node.output[0]).removesuffix(".out"))


def named_layers(layers: Sequence[Layer], names: Collection[str]) -> tuple[Layer, ...]:
    """The layers of these names, in the graph's order. Raises QuantizeError on a name that none has."""
    known = {layer.name for layer in layers}
    for name in names:
        if name not in known:
            raise QuantizeError(
                f"no layer {name} to quantise, wanted one of {', '.join(layer.name for layer in layers)}."
            )
    return tuple(layer for layer in layers if layer.name in set(names))


def with_qdq(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    ranges: Mapping[str, tuple[float, float]],
    activations: Activations = "int8",
) -> onnx.ModelProto:
    """A copy of the model with Q/DQ at all of these layers. ranges: (lowest, highest) of each layer's source.

    Weights: INT8, symmetric, a scale for each output channel. Opset and float biases stay.
    """
    from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorData, TensorsData

    symmetric = activations == "int8"
    covered = {
        layer.source: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for layer in layers
        for low, high in [ranges[layer.source]]
    }
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    wanted = {layer.output for layer in layers}
    quantizer = QDQQuantizer(
        copied,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, covered),
        nodes_to_quantize=[node.name for node in model.graph.node if node.output[0] in wanted],
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv"],
        extra_options={
            "ActivationSymmetric": symmetric,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["Conv"],
            "QDQKeepRemovableActivations": True,
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    made: onnx.ModelProto = quantizer.model.model
    _add_biases(made, layers)
    return made


def only(quantised: onnx.ModelProto, original: onnx.ModelProto, layers: Sequence[Layer]) -> onnx.ModelProto:
    """Of a graph with Q/DQ at every layer, one that has them at these layers alone: quicker than quantising anew.

    Every other convolution reads what it read in the original graph again.
    """
    made = onnx.ModelProto()
    made.CopyFrom(quantised)
    kept, sources = {layer.output for layer in layers}, {layer.source for layer in layers}
    before = {output: node for node in original.graph.node for output in node.output}
    for node in made.graph.node:
        plain = before.get(node.output[0])
        if plain is None or node.output[0] in kept:
            continue
        inputs = [
            found if name in sources and node.op_type != "Conv" else name
            for name, found in zip(plain.input, node.input, strict=False)
        ]
        del node.input[:]
        node.input.extend(inputs)
    present = {one.name for one in made.graph.initializer}
    made.graph.initializer.extend(one for one in original.graph.initializer if one.name not in present)
    return pruned(made)


def before_pools(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with each Q behind a max pooling also before it, with the same scale; changed in place.

    The maximum of rounded values is the rounded maximum: no output changes. The pooling itself then works on INT8, and
    what makes its input writes a quarter of the bytes. OpenVINO and onnxruntime do not find this by themselves.
    """
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    for quantize in [node for node in graph.node if node.op_type == "QuantizeLinear"]:
        pool = makers.get(quantize.input[0])
        if pool is None or pool.op_type != "MaxPool":
            continue
        scales, name = list(quantize.input[1:]), pool.input[0]
        pairs = {"QuantizeLinear": [name, *scales], "DequantizeLinear": [f"{name}_before_pool", *scales]}
        place = list(graph.node).index(pool)
        for offset, (op, inputs) in enumerate(pairs.items()):
            output = f"{name}_before_pool" if offset == 0 else f"{name}_pooled"
            node = onnx.helper.make_node(op, inputs, [output], name=f"{output}_{op}")
            for one in quantize.attribute:
                node.attribute.append(one)
            graph.node.insert(place + offset, node)
        pool.input[0] = f"{name}_pooled"
    return model


def pruned(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without nodes, constants and shapes that no output needs; changed in place."""
    graph = model.graph
    needed, nodes = {one.name for one in graph.output}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    constants = [one for one in graph.initializer if one.name in needed]
    shapes = [one for one in graph.value_info if one.name in needed]
    for field, values in ((graph.node, nodes[::-1]), (graph.initializer, constants), (graph.value_info, shapes)):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)
    return model


def _add_biases(model: onnx.ModelProto, layers: Sequence[Layer]) -> None:
    """Give INT8 convolutions without a bias one that changes no score.

    OpenVINO 2026.4 scales the result of an INT8 convolution without bias twice where arithmetic follows, as in
    FeatureNorm: all scores of an unfolded network came out alike. A bias of zeros is optimised away, and the same.
    """
    channels = {layer.output: layer.channels for layer in layers}
    for node in model.graph.node:
        if node.output[0] in channels and len(node.input) == 2:
            name = f"{node.output[0]}.bias"
            values = np.full(channels[node.output[0]], NO_BIAS, np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
            node.input.append(name)


def _shapes(model: onnx.ModelProto, size_hw: tuple[int, int]) -> dict[str, list[int]]:
    """Shapes of all tensors with batch 1."""
    one = onnx.ModelProto()
    one.CopyFrom(model)
    one.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    one.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(one)
    return {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in inferred.graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
