"""What every Backend promises, whichever runtime is behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.bundle import Bundle
from segdec_edge.errors import BackendError
from segdec_edge.model.backend import open_checkpoint
from segdec_edge.runtime import FASTEST_FIRST, open_backend
from segdec_edge.runtime.tensorrt import TensorRtBackend
from segdec_edge.types import Backend, Pixels
from tests.host_cuda import HostCuda
from tests.nets import SIZE_HW, textures
from tests.standin_tensorrt import StandIn, network, standin_plan

Opener = Callable[[], Backend]
NAMES = ("torch", "tensorrt", *FASTEST_FIRST)


def _tensorrt(folder: Path, bundle: Bundle, integrated: bool) -> Opener:
    """The real backend on CUDA in the host's memory, its engine computed by onnxruntime."""
    plan, compute = standin_plan(folder, bundle), network(bundle.model_path)

    def opener() -> Backend:
        cuda = HostCuda(integrated=integrated)
        return TensorRtBackend(plan, bundle, StandIn(cuda, compute).found(), cuda)

    return opener


@pytest.fixture(params=[*NAMES, "tensorrt, shared memory"])
def opener(request: pytest.FixtureRequest, checkpoint: Path, bundle: Bundle, tmp_path: Path) -> Opener:
    if request.param == "torch":
        return lambda: open_checkpoint(checkpoint)
    if request.param.startswith("tensorrt"):
        return _tensorrt(tmp_path, bundle, "shared" in request.param)
    pytest.importorskip(request.param)
    return lambda: open_backend(bundle, request.param, threads=1)


@pytest.fixture
def backend(opener: Opener) -> Iterator[Backend]:
    opened = opener()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def wanted(checkpoint: Path) -> Callable[[Pixels], np.ndarray]:
    """The checkpoint's own scores."""
    reference = open_checkpoint(checkpoint)
    return lambda pixels: np.concatenate([reference.infer(one[None]).score for one in pixels])


def test_it_is_a_backend_with_a_name_and_a_spec(backend: Backend) -> None:
    assert isinstance(backend, Backend)
    assert backend.name in NAMES
    assert (backend.spec.size_hw, backend.spec.channels, backend.spec.heatmap_hw) == (SIZE_HW, 1, (16, 8))
    assert backend.spec.threshold == 0.25
    assert len(backend.spec.sha256) == 64
    assert backend.spec.precision == "fp32"


@pytest.mark.parametrize("count", [1, 3])
def test_shapes_types_and_range(backend: Backend, count: int) -> None:
    prediction = backend.infer(textures(count))
    for values, shape in ((prediction.score, (count,)), (prediction.heatmap, (count, 16, 8))):
        assert values.shape == shape
        assert values.dtype == np.float32
        assert values.flags.c_contiguous
        assert values.flags.writeable
        assert np.isfinite(values).all()
        assert values.min() >= 0.0
        assert values.max() <= 1.0


def test_it_scores_as_the_checkpoint_does(backend: Backend, wanted: Callable[[Pixels], np.ndarray]) -> None:
    pixels = textures(4, seed=5)
    scores = wanted(pixels)
    assert np.ptp(scores) > 0.05  # else a constant would pass
    np.testing.assert_allclose(backend.infer(pixels).score, scores, atol=1e-4, rtol=0)


def test_a_batch_is_its_pictures_one_by_one(backend: Backend) -> None:
    pixels = textures(3, seed=1)
    together = backend.infer(pixels)
    for index, one in enumerate(pixels):
        alone = backend.infer(one[None])
        np.testing.assert_allclose(together.score[index : index + 1], alone.score, atol=1e-5)
        np.testing.assert_allclose(together.heatmap[index : index + 1], alone.heatmap, atol=1e-4)


def test_the_same_picture_gives_the_same_result(backend: Backend) -> None:
    pixels = textures(1)
    first = backend.infer(pixels)
    backend.infer(textures(3, seed=9))
    again = backend.infer(pixels)
    assert np.array_equal(first.score, again.score)
    assert np.array_equal(first.heatmap, again.heatmap)


def test_a_result_belongs_to_its_caller(backend: Backend) -> None:
    first = backend.infer(textures(1))
    score, heatmap = first.score.copy(), first.heatmap.copy()
    backend.infer(255 - textures(1))
    assert np.array_equal(first.score, score)
    assert np.array_equal(first.heatmap, heatmap)


def test_a_result_outlives_its_backend(opener: Opener) -> None:
    backend = opener()
    result = backend.infer(textures(1))
    score = result.score.copy()
    backend.close()
    del backend
    assert np.array_equal(result.score, score)


def test_pixels_are_read_only_once_and_never_written(backend: Backend) -> None:
    pixels = textures(1)
    before = pixels.copy()
    pixels.setflags(write=False)
    expected = backend.infer(pixels)
    assert np.array_equal(pixels, before)
    flipped = np.ascontiguousarray(pixels[:, ::-1])[:, ::-1]  # the same picture in another order in memory
    assert np.array_equal(backend.infer(flipped).score, expected.score)


@pytest.mark.parametrize("level", [0, 255])
def test_a_flat_picture_has_a_score(backend: Backend, wanted: Callable[[Pixels], np.ndarray], level: int) -> None:
    pixels = np.full((1, *SIZE_HW, 1), level, np.uint8)
    np.testing.assert_allclose(backend.infer(pixels).score, wanted(pixels), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "pixels",
    [
        textures(1)[0],
        textures(1)[..., 0],
        textures(1)[:, :, :32],
        textures(1, channels=3),
        textures(1)[:0],
        textures(1).astype(np.float32),
        textures(1).transpose(0, 3, 1, 2),
    ],
    ids=["no batch", "no channel", "narrow", "colour", "empty", "float", "NCHW"],
)
def test_other_pixels_are_refused(backend: Backend, pixels: Pixels) -> None:
    with pytest.raises(BackendError, match=r"pixels \(.*wanted \(N, 128, 64, 1\) uint8"):
        backend.infer(pixels)
    assert backend.infer(textures(1)).score.shape == (1,)


def test_closed_is_closed(opener: Opener) -> None:
    backend = opener()
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="is closed"):
        backend.infer(textures(1))
