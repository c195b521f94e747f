"""A graph in FP16 where that is safe, FP32 where it is not. Knows no picture and no data set.

FP16: convolutions, and what passes values on to and from them (ReLU, max pooling, concatenation). FP32: everything
else, above all reductions and FeatureNorm's statistics, whose sums overflow 65 504 on a 640×232 picture; the fully
connected layer and both sigmoids cost nothing. An operator that is not known to be safe stays FP32. Pixels stay uint8,
both outputs float32.

onnxruntime's float16 converter (onnxruntime.transformers, formerly onnxconverter-common) was read: where two FP32
nodes read one FP16 tensor, as FeatureNorm's do, it writes the same Cast twice, and the graph is invalid.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from segdec_edge.deploy.qdq import pruned

LARGEST = 65504.0
_CARRIERS = frozenset({"Relu", "MaxPool", "Concat", "Transpose"})


def to_half(model: onnx.ModelProto, keep: Collection[str] = ()) -> onnx.ModelProto:
    """A copy of the model with FP16 convolutions. keep: convolutions (by the name of their output) that stay FP32.

    A convolution between Q/DQ nodes is INT8 and stays untouched; so a partly quantised graph gets INT8 and FP16 layers.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    halves = _half_nodes(made, keep)
    if not halves:
        return made
    _Casts(made, halves).insert()
    return pruned(made)


def half_layers(model: onnx.ModelProto) -> tuple[str, ...]:
    """Outputs of the convolutions whose weights are FP16."""
    halves = {one.name for one in model.graph.initializer if one.data_type == TensorProto.FLOAT16}
    return tuple(node.output[0] for node in model.graph.node if node.op_type == "Conv" and node.input[1] in halves)


def _half_nodes(model: onnx.ModelProto, keep: Collection[str]) -> set[str]:
    """First outputs of the nodes that become FP16.

    Convolutions; what carries a value that is FP16 already; and what carries one that is FP16 afterwards anyway, as the
    ReLU between a norm and a convolution: half the memory traffic for the same rounding.
    """
    graph = model.graph
    constants = {one.name for one in graph.initializer}
    halves: set[str] = set()
    for node in graph.node:
        name = node.output[0]
        is_conv = node.op_type == "Conv" and node.input[1] in constants and name not in keep
        if is_conv or (node.op_type in _CARRIERS and any(one in halves for one in node.input)):
            halves.add(name)
    readers: dict[str, set[str]] = {}
    for node in reversed(graph.node):
        name = node.output[0]
        if node.op_type in _CARRIERS and readers.get(name, {""}) <= halves:
            halves.add(name)
        for one in node.input:
            readers.setdefault(one, set()).add(name)
    return halves


class _Casts:
    """Rewrites the graph's nodes in order, with one Cast for each tensor and direction."""

    def __init__(self, model: onnx.ModelProto, halves: set[str]) -> None:
        self.graph = model.graph
        self.halves = halves
        self.floats = _float_tensors(model)
        self.constants = {one.name: one for one in self.graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.made: set[str] = set()

    def insert(self) -> None:
        for node in self.graph.node:
            wants_half = node.output[0] in self.halves
            for index, name in enumerate(node.input):
                if name in self.floats and (name in self.halves) != wants_half:
                    node.input[index] = self._cast(name, wants_half)
            self.nodes.append(node)
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self.nodes]
        del self.graph.node[:]
        self.graph.node.extend(copies)
        for value in self.graph.value_info:
            if value.name in self.halves:
                value.type.tensor_type.elem_type = TensorProto.FLOAT16

    def _cast(self, name: str, to_half: bool) -> str:
        cast = f"{name}.{'fp16' if to_half else 'fp32'}"
        if cast not in self.made:
            self.made.add(cast)
            if name in self.constants:
                self.graph.initializer.append(_half_constant(self.constants[name], cast))
            else:
                to = TensorProto.FLOAT16 if to_half else TensorProto.FLOAT
                self.nodes.append(helper.make_node("Cast", [name], [cast], name=cast, to=to))
        return cast


def _half_constant(constant: onnx.TensorProto, name: str) -> onnx.TensorProto:
    """Raises no error on a weight beyond FP16: it is clipped, and the caller's comparison on pictures shows it."""
    values = np.clip(numpy_helper.to_array(constant), -LARGEST, LARGEST)
    return numpy_helper.from_array(values.astype(np.float16), name)


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 tensors and constants, as shape inference tells."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    floats = {one.name for one in values if one.type.tensor_type.elem_type == TensorProto.FLOAT}
    return floats | {one.name for one in model.graph.initializer if one.data_type == TensorProto.FLOAT}
