"""ONNX Runtime on the CPU: the backend that every installation has, and the one parity is measured through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from segdec_edge.errors import BackendError
from segdec_edge.runtime.checks import HEATMAP, INPUT, SCORE, check_pixels, check_signature
from segdec_edge.types import ModelSpec, Pixels, Prediction

_ERRORS_ONLY = 3
# They share no base class below Exception.
_FAILURES = (
    state.EPFail,
    state.EngineError,
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NoSuchFile,
    state.NotImplemented,
    state.RuntimeException,
    UnicodeDecodeError,  # of its own message, which quotes a damaged model
)


class OnnxRuntimeBackend:
    """Precision as the graph says. Raises BackendError where the model cannot be loaded or is not what spec says."""

    name = "onnxruntime"

    def __init__(self, model: Path, spec: ModelSpec, threads: int | None = None) -> None:
        self.spec = spec
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = threads or 0
        try:
            session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except _FAILURES as error:
            raise BackendError(f"{model}: onnxruntime cannot load it ({_reason(error)}). Export it again.") from error
        check_signature(
            spec,
            [(one.name, one.shape) for one in session.get_inputs()],
            [(one.name, one.shape) for one in session.get_outputs()],
        )
        self._session: onnxruntime.InferenceSession | None = session
        self.infer(np.zeros((1, *spec.size_hw, spec.channels), np.uint8))

    def infer(self, pixels: Pixels) -> Prediction:
        """pixels (N, H, W, C) uint8 of the spec's size. Raises BackendError; the result is the caller's own."""
        check_pixels(pixels, self.spec)
        if self._session is None:
            raise BackendError("this onnxruntime backend is closed. Open the bundle again.")
        try:
            score, heatmap = self._session.run([SCORE, HEATMAP], {INPUT: pixels})
        except _FAILURES as error:
            raise BackendError(f"onnxruntime failed ({_reason(error)}). Is there enough memory?") from error
        return Prediction(score, heatmap)

    def close(self) -> None:
        self._session = None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
