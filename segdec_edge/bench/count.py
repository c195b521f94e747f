"""Operations and bytes of every layer of a model.onnx, counted from the graph. Knows no machine.

Counted are convolutions and matrix products, at 2 operations a multiply-add; everything else (norms, activations,
pooling, casts, quantising) is taken as fused into them and free, so that a floor made of these figures is one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx
from onnx import shape_inference

from segdec_edge.bundle import Bundle
from segdec_edge.errors import BundleError

_COUNTED = ("Conv", "Gemm", "MatMul")
_PASSING = {"Relu", "Identity", "MaxPool", "Clip"}
"""What keeps a tensor as narrow as it is, or will be quantised to."""
_DEQUANTISING = {"DequantizeLinear", *_PASSING}


@dataclass(frozen=True)
class LayerCost:
    """precision: what its inputs hold (fp32, fp16 or int8). operations and bytes of one batch.

    weight_bytes: as stored; moved_bytes: input read and output written through memory once, without weights.
    """

    name: str
    kind: str
    precision: str
    operations: int
    weight_bytes: int
    moved_bytes: int

    @property
    def bytes(self) -> int:
        return self.weight_bytes + self.moved_bytes


def layers_of(bundle: Bundle, batch: int = 1) -> tuple[LayerCost, ...]:
    """Each convolution and matrix product of a bundle, in the graph's order. Raises BundleError where shapes stay
    unknown."""
    return count_layers(bundle.model_path.read_bytes(), batch)


def count_layers(content: bytes, batch: int = 1) -> tuple[LayerCost, ...]:
    model = onnx.load_from_string(content)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    del model.graph.value_info[:]  # the exporter's own has a free batch
    return _Counter(shape_inference.infer_shapes(model, data_prop=True)).layers()


def compulsory_bytes(layers: tuple[LayerCost, ...], bundle: Bundle, batch: int) -> int:
    """What has to move however large the caches are: weights, pixels in, heat maps out."""
    spec = bundle.spec
    pictures = batch * (math.prod(spec.size_hw) * spec.channels + 4 * math.prod(spec.heatmap_hw))
    return sum(layer.weight_bytes for layer in layers) + pictures


class _Counter:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        values = (*self._graph.value_info, *self._graph.input, *self._graph.output)
        self._types = {one.name: one.type.tensor_type for one in values}
        self._constants = {one.name: (tuple(one.dims), one.data_type) for one in self._graph.initializer}
        self._constants |= {
            node.output[0]: (tuple(value.dims), value.data_type)
            for node in self._graph.node
            if node.op_type == "Constant" and (value := _tensor_of(node)) is not None
        }
        self._makers = {name: node for node in self._graph.node for name in node.output}
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in self._graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)

    def layers(self) -> tuple[LayerCost, ...]:
        return tuple(self._layer(node) for node in self._graph.node if node.op_type in _COUNTED)

    def _layer(self, node: onnx.NodeProto) -> LayerCost:
        given, weight, made = self._shape(node.input[0]), self._shape(node.input[1]), self._shape(node.output[0])
        inner = math.prod(weight[1:]) if node.op_type == "Conv" else given[-1]
        width_in, width_out = self._narrow_in(node.input[0]), self._narrow_out(node.output[0])
        width_weight = self._narrow_in(node.input[1])
        return LayerCost(
            name=node.name.split("/")[-2].removesuffix(".0") if node.name.count("/") > 1 else node.name,
            kind=node.op_type,
            precision={1: "int8", 2: "fp16"}.get(width_in, "fp32"),
            operations=2 * math.prod(made) * inner,
            weight_bytes=math.prod(weight) * width_weight,
            moved_bytes=math.prod(given) * width_in + math.prod(made) * width_out,
        )

    def _narrow_in(self, name: str) -> int:
        """Bytes an element of what is read: the integers in front of a dequantiser where there is one."""
        maker = self._makers.get(name)
        while maker is not None and maker.op_type in _DEQUANTISING:
            name = maker.input[0]
            maker = self._makers.get(name)
        return self._width(name)

    def _narrow_out(self, name: str) -> int:
        """Bytes an element of what is written: the integers behind a quantiser that every reader has."""
        users = self._users.get(name, [])
        while len(users) == 1 and users[0].op_type in _PASSING:
            users = self._users.get(users[0].output[0], [])
        quantised = bool(users) and all(user.op_type == "QuantizeLinear" for user in users)
        return 1 if quantised else self._width(name)

    def _width(self, name: str) -> int:
        kind = self._constants[name][1] if name in self._constants else self._type(name).elem_type
        return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)

    def _shape(self, name: str) -> tuple[int, ...]:
        if name in self._constants:
            return self._constants[name][0]
        shape = tuple(dim.dim_value for dim in self._type(name).shape.dim)
        if not shape or 0 in shape:
            raise BundleError(f"the shape of {name} in model.onnx is unknown: its layers cannot be counted.")
        return shape

    def _type(self, name: str) -> onnx.TypeProto.Tensor:
        if name not in self._types:
            raise BundleError(f"the shape of {name} in model.onnx is unknown: its layers cannot be counted.")
        found: onnx.TypeProto.Tensor = self._types[name]
        return found


def _tensor_of(node: onnx.NodeProto) -> onnx.TensorProto | None:
    return next((one.t for one in node.attribute if one.name == "value"), None)
