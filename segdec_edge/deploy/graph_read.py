"""The graph of a SegDecNet bundle as a Network. It reads what export and graph_write write, and refuses the rest.

It checks the shape of the graph, not every constant in it: whoever uses the result compares it with the file itself on
real pictures first, as deploy.fold does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from segdec_edge.deploy.network import Conv, Layer, Network, Norm, Pool, Relu, Standardise, float32
from segdec_edge.errors import BundleError
from segdec_edge.runtime.checks import HEATMAP, INPUT, SCORE


def read_network(content: bytes) -> Network:
    """The layers of a model.onnx in FP32. Raises BundleError on any other graph, and on a quantised one."""
    return _Reader(onnx.load_from_string(content)).network()


class _Reader:
    """Walks from the outputs back to the pixels."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        _without_detours(graph)
        self.channels = next(one.type.tensor_type.shape.dim[3].dim_value for one in graph.input if one.name == INPUT)
        self.makers = {name: node for node in graph.node for name in node.output}
        self.constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(_attribute(node, "value"))
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                raise BundleError("the graph is quantised, wanted FP32. Give the bundle that it was made from.")

    def network(self) -> Network:
        gemm = self._maker(self._input(self._input(SCORE, "Squeeze"), "Sigmoid"), "Gemm")
        pooled = self._maker(gemm.input[0], "Concat").input
        features, same_features = self._input(pooled[0], "ReduceMax"), self._input(pooled[1], "ReduceMean")
        logits, same_logits = self._input(pooled[2], "ReduceMax"), self._input(pooled[3], "ReduceMean")
        shown = self._input(self._input(HEATMAP, "Squeeze"), "Sigmoid")
        decision, joined = self._chain(features, "")
        volume, same = self._maker(joined, "Concat").input
        if self._maker(same).op_type == "MaxPool":  # pooled before they were joined, as graph_write does
            volume, same = self._pooled(volume), self._pooled(same)
            decision = (Pool(), *decision)
        if features != same_features or len({logits, same_logits, shown, same}) != 1:
            raise _foreign(gemm)
        segmentation, _ = self._chain(logits, volume)
        trunk, start = self._chain(volume, "")
        planes, standardise = self._standardise(start)
        self._pixels(planes)
        return Network(
            channels=self.channels,
            trunk=trunk,
            segmentation=segmentation,
            decision=decision,
            fc_weight=float32(self.constants[gemm.input[1]]),
            fc_bias=float32(self.constants[gemm.input[2]]),
            standardise=standardise,
        )

    def _chain(self, value: str, stop: str) -> tuple[tuple[Layer, ...], str]:
        """The layers that make `value`, first one first, and the value that they start from."""
        layers: list[Layer] = []
        while value != stop:
            node = self._maker(value)
            match node.op_type:
                case "Relu":
                    layers.append(Relu())
                case "MaxPool" if _halves(node):
                    layers.append(Pool())
                case "Conv":
                    layers.append(self._conv(node))
                case "Add" if not self.constants.keys() & set(node.input):
                    norm, value = self._norm(node)
                    layers.append(norm)
                    continue
                case _:
                    break
            value = node.input[0]
        return tuple(layers[::-1]), value

    def _pooled(self, value: str) -> str:
        """What a pooling by two takes."""
        node = self._maker(value, "MaxPool")
        if not _halves(node):
            raise _foreign(node)
        return str(node.input[0])

    def _conv(self, node: onnx.NodeProto) -> Conv:
        weight, *rest = (float32(self._constant(name, node)) for name in node.input[1:])
        kernel = list(weight.shape[2:])
        pads = [side // 2 for side in kernel] * 2
        plain = _attribute(node, "pads", pads) == pads and set(_attribute(node, "strides", [1])) == {1}
        if not plain or _attribute(node, "group", 1) != 1 or set(_attribute(node, "dilations", [1])) != {1}:
            raise _foreign(node)
        return Conv(_name_of(node), weight, rest[0] if rest else None)

    def _norm(self, node: onnx.NodeProto) -> tuple[Norm, str]:
        """FeatureNorm ends in x · gain + (bias − mean · gain), with gain = scale / root."""
        scaled, offset = self._maker(node.input[0], "Mul"), self._maker(node.input[1], "Sub")
        conv = self._maker(scaled.input[0], "Conv")
        gain = self._maker(scaled.input[1], "Div")
        scale, bias = (float32(self._constant(one.input[0], one)).reshape(-1) for one in (gain, offset))
        return Norm(f"{_name_of(conv)}.norm", scale, bias), scaled.input[0]

    def _standardise(self, value: str) -> tuple[str, Standardise | None]:
        node = self._maker(value)
        if node.op_type != "Add":
            return value, None
        stretched = self._maker(node.input[0], "Mul")
        centred, gain = self._maker(stretched.input[0], "Sub"), self._maker(stretched.input[1], "Div")
        mean, deviation = (float(self._constant(one, node)) for one in (node.input[1], gain.input[0]))
        return centred.input[0], Standardise(mean, deviation)

    def _pixels(self, planes: str) -> None:
        scaled = self._maker(self._input(planes, "Transpose"))
        factor = float(self._constant(scaled.input[1], scaled))
        legal = {"Div": 255.0, "Mul": 1 / 255}
        if not np.isclose(factor, legal.get(scaled.op_type, np.nan)) or self._input(scaled.input[0], "Cast") != INPUT:
            raise _foreign(scaled)

    def _maker(self, value: str, op: str = "") -> onnx.NodeProto:
        node: onnx.NodeProto | None = self.makers.get(value)
        if node is None or (op and node.op_type != op):
            raise _foreign(node, op)
        return node

    def _input(self, value: str, op: str) -> str:
        return str(self._maker(value, op).input[0])

    def _constant(self, name: str, node: onnx.NodeProto) -> NDArray[Any]:
        if name not in self.constants:
            raise _foreign(node)
        return self.constants[name]


def _without_detours(graph: onnx.GraphProto) -> None:
    """Let every node take what an Identity, or a Cast of what is float already, would hand it."""
    same = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Identity" or (node.op_type == "Cast" and node.input[0] != INPUT)
    }
    for node in graph.node:
        for index, name in enumerate(node.input):
            while name in same:
                name = same[name]
            node.input[index] = name


def _halves(node: onnx.NodeProto) -> bool:
    return bool([2, 2] == _attribute(node, "kernel_shape") == _attribute(node, "strides"))


def _attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    found = (onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name)
    return next(found, default)


def _name_of(conv: onnx.NodeProto) -> str:
    """volume.2 for the exporter's /net/volume/volume.2/volume.2.0/Conv as for our own volume.2.out."""
    if conv.name.endswith("/Conv"):
        return str(conv.name.split("/")[-2].removesuffix(".0"))
    return str(conv.name.removesuffix(".out"))


def _foreign(node: onnx.NodeProto | None, wanted: str = "") -> BundleError:
    found = f"{node.op_type} {node.name}" if node is not None else "no node"
    return BundleError(
        f"the bundle's graph holds {found}{f' where {wanted} was wanted' if wanted else ''}, which is no SegDecNet as"
        " segdec export writes it. Export the checkpoint again."
    )
