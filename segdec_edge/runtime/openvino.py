"""OpenVINO on the CPU: the fastest runtime on x86-64 boards without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segdec_edge.errors import BackendError
from segdec_edge.runtime.checks import HEATMAP, INPUT, SCORE, check_pixels, check_signature
from segdec_edge.runtime.openvino_light import load_openvino
from segdec_edge.runtime.signal_stack import kept_signal_stack
from segdec_edge.types import ModelSpec, Pixels, Prediction

if TYPE_CHECKING:
    import openvino

_runtime = load_openvino()


class OpenVinoBackend:
    """Precision as the graph says. Raises BackendError where the model cannot be loaded or is not what spec says."""

    name = "openvino"

    def __init__(self, model: Path, spec: ModelSpec, threads: int | None = None) -> None:
        self.spec = spec
        try:
            compiled = compile_for_cpu(model, compile_options(threads))
        # UnicodeDecodeError: of its own message, which quotes a damaged model.
        except (RuntimeError, UnicodeDecodeError) as error:
            raise BackendError(f"{model}: openvino cannot load it ({_reason(error)}). Export it again.") from error
        check_signature(spec, _signature(compiled.inputs), _signature(compiled.outputs))
        self._request: openvino.InferRequest | None = compiled.create_infer_request()
        self.infer(np.zeros((1, *spec.size_hw, spec.channels), np.uint8))

    def infer(self, pixels: Pixels) -> Prediction:
        """pixels (N, H, W, C) uint8 of the spec's size. Raises BackendError; the result is the caller's own."""
        check_pixels(pixels, self.spec)
        if self._request is None:
            raise BackendError("this openvino backend is closed. Open the bundle again.")
        try:
            self._request.infer({INPUT: pixels})
        except RuntimeError as error:
            raise BackendError(f"openvino failed ({_reason(error)}). Is there enough memory?") from error
        # The request writes every result into the same memory: without a copy the next picture would change this one.
        return Prediction(
            self._request.get_tensor(SCORE).data.copy(),
            self._request.get_tensor(HEATMAP).data.copy(),
        )

    def close(self) -> None:
        self._request = None


def compile_for_cpu(model: Path | bytes, options: dict[str, str | int]) -> openvino.CompiledModel:
    """Of a file or its content. Another thread than this one may release it.

    Raises as openvino does: RuntimeError, UnicodeDecodeError.
    """
    with kept_signal_stack():
        core = _runtime.Core()
        given = core.read_model(model) if isinstance(model, bytes) else str(model)
        return core.compile_model(given, "CPU", options)


def compile_options(threads: int | None) -> dict[str, str | int]:
    options: dict[str, str | int] = {
        "PERFORMANCE_HINT": "LATENCY",
        # On CPUs that have it OpenVINO else runs FP32 graphs in bfloat16: twice as fast, but scores move by 1e-3.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    if threads is None:
        return options
    # Pinned, every model of one process gets the same first cores: two with a thread each shared one core of two.
    return {**options, "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}


def _signature(ports: list[openvino.Output]) -> list[tuple[str, list[object]]]:
    return [
        (port.get_any_name(), [None if size.is_dynamic else size.get_length() for size in port.partial_shape])
        for port in ports
    ]


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
