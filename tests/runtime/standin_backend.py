"""What a TensorRT backend on stand-ins must give and leave behind. No test of its own."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import pytest

from segdec_edge.errors import BackendError, SegdecError
from segdec_edge.runtime.tensorrt import TensorRtBackend
from segdec_edge.types import Pixels, Prediction
from tests.host_cuda import HostCuda
from tests.standin_tensorrt import brightness

Make = Callable[..., TensorRtBackend]


def require_right(prediction: Prediction, pixels: Pixels) -> None:
    score, heatmap = brightness(pixels)
    np.testing.assert_allclose(prediction.score, score, atol=1e-6)
    np.testing.assert_allclose(prediction.heatmap, heatmap, atol=1e-6)


def require_clean(cuda: HostCuda) -> None:
    if +cuda.live:  # slow with torch loaded
        gc.collect()
    assert +cuda.live == {}
    assert cuda.memory == {}
    assert not any(cuda.contexts.values())


def failure(call: Callable[[], object], kind: type[SegdecError] = BackendError) -> str:
    """The message; the error, and with it every object its frames hold, is gone afterwards."""
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)
