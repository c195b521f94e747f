"""What every layer gives on a picture, under names that torch, exported graphs and ours share. Judges nothing.

A layer is a convolution (the last one of a factorised pair) with its norm and its ReLU, as far as it has them, or the
fully connected layer; its output is what the next layer sees, before that one's quantisation. Asking a runtime for
them keeps it from fusing layers: what only a fused kernel does wrong does not show here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from segdec_edge.deploy.qdq import layer_name
from segdec_edge.errors import BackendError
from segdec_edge.files import temporary_folder
from segdec_edge.runtime.checks import INPUT
from segdec_edge.types import Pixels

if TYPE_CHECKING:
    from segdec_edge.model.backend import TorchBackend

Layers: TypeAlias = Mapping[str, NDArray[np.float32]]
"""Outputs (N, C, H, W), of the fully connected layer (N, 1), by name in the order of the graph."""
Ask: TypeAlias = Callable[[Pixels], Layers]
FC = "fc"
_OUTER = ".b"
"""deploy.compress writes a layer NAME as NAME.a and NAME.b."""
_WITHIN = frozenset({"Add", "BatchNormalization", "Cast", "Div", "Identity", "Mul", "ReduceMean", "Sqrt", "Sub"})
"""What a norm is made of: the walk from a convolution to its layer's end passes these alone."""
_ERRORS_ONLY = 3


def taps(model: onnx.ModelProto) -> dict[str, str]:
    """The tensor that each layer ends in, by the layer's name, in the order of the graph."""
    found = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            name = layer_name(node)
            found[name.removesuffix(_OUTER)] = _end(model.graph, node.output[0])
        elif node.op_type == "Gemm":
            found[FC] = node.output[0]
    return found


def ask_onnx(content: bytes, runtime: str = "onnxruntime") -> Ask:
    """Run a model.onnx with its layers as further outputs. runtime: onnxruntime or openvino.

    Raises BackendError where the runtime cannot take it.
    """
    model = onnx.load_from_string(content)
    found = taps(model)
    known = {one.name for one in model.graph.output}
    # Without a type: a tensor may be FP16, and each runtime knows that itself.
    wanted = dict.fromkeys(name for name in found.values() if name not in known)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    wider = bytes(model.SerializeToString())
    return _openvino(wider, found) if runtime == "openvino" else _onnxruntime(wider, found)


def ask_torch(backend: TorchBackend) -> Ask:
    """Run a checkpoint's network and keep what its blocks give."""

    def ask(pixels: Pixels) -> Layers:
        kept: dict[str, NDArray[np.float32]] = {}

        def keep(name: str) -> Callable[[Any, Any, Any], None]:
            return lambda module, inputs, output: kept.update({name: output.float().cpu().numpy().copy()})

        modules = dict(backend.net.named_modules())
        hooks = [
            module.register_forward_hook(keep(name)) for name, module in modules.items() if _is_layer(name, modules)
        ]
        try:
            backend.infer(pixels)
        finally:
            for hook in hooks:
                hook.remove()
        return kept

    return ask


def _is_layer(name: str, modules: Mapping[str, Any]) -> bool:
    """A block whose first part is a convolution: exported graphs name that convolution after the block."""
    first = modules.get(f"{name}.0")
    return name == FC or (bool(name) and getattr(getattr(first, "weight", None), "ndim", 0) == 4)


def _end(graph: onnx.GraphProto, convolved: str) -> str:
    """The ReLU behind a convolution, else the norm's last addition, else the convolution's own output."""
    reached, last = {convolved}, convolved
    for node in graph.node:
        if reached.isdisjoint(node.input):
            continue
        if node.op_type == "Relu":
            return str(node.output[0])
        if node.op_type in _WITHIN:
            reached.update(node.output)
            last = node.output[0] if node.op_type in ("Add", "BatchNormalization") else last
    return str(last)


def _onnxruntime(content: bytes, found: Mapping[str, str]) -> Ask:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def ask(pixels: Pixels) -> Layers:
        values = session.run(list(found.values()), {INPUT: pixels})
        return {name: np.asarray(one, np.float32) for name, one in zip(found, values, strict=True)}

    return ask


def _openvino(content: bytes, found: Mapping[str, str]) -> Ask:
    from segdec_edge.runtime.openvino import compile_for_cpu

    with temporary_folder("segdec_layers_") as folder:
        path = folder / "model.onnx"
        path.write_bytes(content)
        try:
            compiled = compile_for_cpu(path, {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise BackendError(f"openvino cannot give the layers ({reason}). Compare on onnxruntime.") from error

    def ask(pixels: Pixels) -> Layers:
        values = compiled({INPUT: pixels})
        return {name: np.array(values[compiled.output(tensor)], np.float32) for name, tensor in found.items()}

    return ask
