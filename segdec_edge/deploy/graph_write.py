"""A Network as an ONNX graph: uint8 pixels in, score and heatmap out. Its nodes are named after the layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from segdec_edge.deploy.network import Conv, Layer, Network, Norm, Pool, Relu, Standardise, after
from segdec_edge.runtime.checks import HEATMAP, INPUT, SCORE

OPSET = 17
"""What TensorRT 8.6 (JetPack 6.0) and everything after it reads."""
IR_VERSION = 8
EPSILON = 1e-3
DARKEST_DEVIATION = 1.0 / 255
"""No picture is stretched by more than a deviation of one grey level asks for."""
VOLUME, SEGMENTATION, FEATURES = "volume", "segmentation", "features"


def to_onnx(network: Network, size_hw: tuple[int, int], *, watch: Sequence[str] = ()) -> bytes:
    """The graph of a network for pictures of size_hw, valid ONNX of opset 17, dynamic batch.

    watch: names of convolutions and norms whose result becomes one more output each, float32 (N, C, H, W), named
    NAME.out; nothing else is given out then, and nothing behind the last of them is in the graph.
    """
    writer = _Writer()
    _write(writer, network, size_hw)
    nodes, outputs = writer.nodes, _results(network, size_hw)
    if watch:
        outputs = [_float(f"{name}.out", ["batch", None, None, None]) for name in watch]
        nodes = _needed(nodes, {output.name for output in outputs})
    taken = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "segdecnet",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", *size_hw, network.channels])],
        outputs,
        [constant for constant in writer.constants if constant.name in taken],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="segdec-edge")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _results(network: Network, size_hw: tuple[int, int]) -> list[onnx.ValueInfoProto]:
    return [_float(SCORE, ["batch"]), _float(HEATMAP, ["batch", *after(network.trunk, size_hw)])]


def _float(name: str, shape: Sequence[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


class _Writer:
    """Nodes and constants in the order in which they were added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: Any, dtype: type = np.float32) -> str:
        if all(one.name != name for one in self.constants):
            self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name


def _write(writer: _Writer, network: Network, size_hw: tuple[int, int]) -> None:
    # Cast first: TensorRT computes nothing in uint8, not even a transposition.
    cast = writer.add("Cast", [INPUT], "input.cast", to=TensorProto.FLOAT)
    scaled = writer.add("Mul", [cast, writer.constant("input.scale", 1 / 255)], "input.scaled")
    planes = writer.add("Transpose", [scaled], "input.planes", perm=[0, 3, 1, 2])
    if network.standardise is not None:
        planes = _standardised(writer, planes, network.standardise)
    eighth_hw = after(network.trunk, size_hw)
    volume = _layers(writer, network.trunk, planes, VOLUME, size_hw)
    segmentation = _layers(writer, network.segmentation, volume, SEGMENTATION, eighth_hw)
    features = _decision(writer, network, volume, segmentation, eighth_hw)
    pooled = [
        writer.add(op, [value], f"{value}.{word}", axes=[2, 3], keepdims=0)
        for value in (features, segmentation)
        for op, word in (("ReduceMax", "max"), ("ReduceMean", "mean"))
    ]
    joined = writer.add("Concat", pooled, "fc.input", axis=1)
    weight, bias = writer.constant("fc.weight", network.fc_weight), writer.constant("fc.bias", network.fc_bias)
    logit = writer.add("Gemm", [joined, weight, bias], "fc", transB=1)
    axis = writer.constant("axis", [1], np.int64)
    writer.add("Squeeze", [writer.add("Sigmoid", [logit], "fc.sigmoid"), axis], SCORE)
    writer.add("Squeeze", [writer.add("Sigmoid", [segmentation], "segmentation.sigmoid"), axis], HEATMAP)


def _decision(writer: _Writer, network: Network, volume: str, segmentation: str, eighth_hw: tuple[int, int]) -> str:
    """Pooled before they are put side by side, which gives the same and moves a quarter of the memory."""
    sides, layers = [volume, segmentation], network.decision
    if isinstance(layers[0], Pool):
        layers = layers[1:]
        sides = [
            _pool(writer, side, f"decision.{word}") for side, word in zip(sides, (VOLUME, SEGMENTATION), strict=True)
        ]
        eighth_hw = after([Pool()], eighth_hw)
    return _layers(writer, layers, writer.add("Concat", sides, "decision.input", axis=1), FEATURES, eighth_hw)


def _standardised(writer: _Writer, value: str, wanted: Standardise) -> str:
    """(x − mean of the picture) · wanted deviation / deviation of the picture + wanted mean."""
    mean = writer.add("ReduceMean", [value], "standardise.mean", axes=[1, 2, 3], keepdims=1)
    centred = writer.add("Sub", [value, mean], "standardise.centred")
    squares = writer.add("Mul", [centred, centred], "standardise.squares")
    variance = writer.add("ReduceMean", [squares], "standardise.variance", axes=[1, 2, 3], keepdims=1)
    deviation = writer.add("Sqrt", [variance], "standardise.deviation")
    floor = writer.constant("standardise.floor", DARKEST_DEVIATION)
    wanted_deviation = writer.constant("standardise.wanted_deviation", wanted.deviation)
    gain = writer.add(
        "Div", [wanted_deviation, writer.add("Max", [deviation, floor], "standardise.safe")], "standardise.gain"
    )
    stretched = writer.add("Mul", [centred, gain], "standardise.stretched")
    return writer.add("Add", [stretched, writer.constant("standardise.wanted_mean", wanted.mean)], "standardise")


def _layers(writer: _Writer, layers: Sequence[Layer], value: str, name: str, size_hw: tuple[int, int]) -> str:
    """Write the layers one after another; gives the name of the last one's result. name: what to call the others."""
    for index, layer in enumerate(layers):
        match layer:
            case Conv():
                value = _conv(writer, layer, value)
            case Norm():
                height, width = after(layers[:index], size_hw)
                value = _norm(writer, layer, value, height * width)
            case Relu():
                value = writer.add("Relu", [value], f"{name}.{index}.relu")
            case Pool():
                value = _pool(writer, value, f"{name}.{index}.pool")
    return value


def _pool(writer: _Writer, value: str, name: str) -> str:
    return writer.add("MaxPool", [value], name, kernel_shape=[2, 2], strides=[2, 2])


def _conv(writer: _Writer, layer: Conv, value: str) -> str:
    inputs = [value, writer.constant(f"{layer.name}.weight", layer.weight)]
    if layer.bias is not None:
        inputs.append(writer.constant(f"{layer.name}.bias", layer.bias))
    kernel = list(layer.weight.shape[2:])
    pads = [side // 2 for side in kernel]
    return writer.add("Conv", inputs, f"{layer.name}.out", kernel_shape=kernel, pads=[*pads, *pads])


def _norm(writer: _Writer, layer: Norm, value: str, count: int) -> str:
    """FeatureNorm with its unbiased deviation over `count` elements, as gain and offset a channel."""
    name, shape = layer.name, (1, -1, 1, 1)
    mean = writer.add("ReduceMean", [value], f"{name}.mean", axes=[2, 3], keepdims=1)
    centred = writer.add("Sub", [value, mean], f"{name}.centred")
    squares = writer.add("Mul", [centred, centred], f"{name}.squares")
    variance = writer.add("ReduceMean", [squares], f"{name}.variance", axes=[2, 3], keepdims=1)
    factor = writer.constant(f"unbiased.{count}", count / (count - 1))
    unbiased = writer.add("Mul", [variance, factor], f"{name}.unbiased")
    deviation = writer.add("Sqrt", [unbiased], f"{name}.deviation")
    safe = writer.add("Add", [deviation, writer.constant("epsilon", EPSILON)], f"{name}.safe")
    root = writer.add("Sqrt", [safe], f"{name}.root")
    gain = writer.add("Div", [writer.constant(f"{name}.scale", layer.scale.reshape(shape)), root], f"{name}.gain")
    shift = writer.add("Mul", [mean, gain], f"{name}.shift")
    offset = writer.add("Sub", [writer.constant(f"{name}.bias", layer.bias.reshape(shape)), shift], f"{name}.offset")
    return writer.add("Add", [writer.add("Mul", [value, gain], f"{name}.scaled"), offset], f"{name}.out")


def _needed(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """The nodes that the wanted values come from, in their order."""
    needed = set(wanted)
    kept = []
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    return kept[::-1]
