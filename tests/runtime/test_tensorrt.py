"""The TensorRT backend on CUDA in the host's memory: order, batches in flight, graphs, failures, frees."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segdec_edge.bundle import ENGINES, Bundle, write_bundle
from segdec_edge.errors import BackendError, BundleError, SegdecError
from segdec_edge.runtime.tensorrt import TensorRtBackend, Ticket, open_tensorrt
from segdec_edge.types import Pixels, Prediction
from tests.host_cuda import HostCuda
from tests.nets import textures
from tests.standin_tensorrt import DataType, StandIn, brightness, standin_plan

Make = Callable[..., TensorRtBackend]


@pytest.fixture(params=[False, True], ids=["discrete", "shared memory"])
def cuda(request: pytest.FixtureRequest) -> HostCuda:
    return HostCuda(integrated=request.param)


@pytest.fixture
def module(cuda: HostCuda) -> StandIn:
    return StandIn(cuda)


@pytest.fixture
def make(cuda: HostCuda, module: StandIn, bundle: Bundle, tmp_path: Path) -> Make:
    """Open the stand-in's engine; options of TensorRtBackend, or facts=… of the plan's sidecar."""

    def make(facts: dict[str, Any] | None = None, content: bytes = b"plan", **options: Any) -> TensorRtBackend:
        plan = standin_plan(tmp_path, bundle, content, **(facts or {}))
        return TensorRtBackend(plan, bundle, module.found(), cuda, **options)

    return make


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


def test_batches_in_flight_keep_their_pictures_apart(make: Make) -> None:
    backend, (first, second) = make(), (textures(1), textures(3, seed=1))
    tickets = [backend.submit(first), backend.submit(second)]
    require_right(backend.collect(tickets[1]), second)
    third = backend.submit(textures(2, seed=2))
    require_right(backend.collect(tickets[0]), first)
    require_right(backend.collect(third), textures(2, seed=2))


def test_the_camera_may_write_into_its_buffer_at_once(make: Make) -> None:
    backend, pixels = make(), textures(1)
    kept = pixels.copy()
    ticket = backend.submit(pixels)
    pixels[:] = 255
    require_right(backend.collect(ticket), kept)


def test_more_batches_than_buffers_are_refused(make: Make) -> None:
    backend, pixels = make(frames_in_flight=3), textures(1)
    tickets = [backend.submit(pixels) for _ in range(3)]
    with pytest.raises(BackendError, match=r"3 batches are in flight.*Collect one first"):
        backend.submit(pixels)
    require_right(backend.collect(tickets[0]), pixels)
    require_right(backend.collect(backend.submit(pixels)), pixels)


def test_a_ticket_is_collected_once(make: Make) -> None:
    backend = make()
    ticket = backend.submit(textures(1))
    backend.collect(ticket)
    for stale in (ticket, Ticket(99, 1)):
        with pytest.raises(BackendError, match="not in flight"):
            backend.collect(stale)
    require_right(backend.infer(textures(1)), textures(1))


def test_no_buffers_are_refused(make: Make) -> None:
    with pytest.raises(BackendError, match="0 batches in flight, wanted at least 1"):
        make(frames_in_flight=0)


def test_each_batch_size_has_its_graph(make: Make, module: StandIn, cuda: HostCuda) -> None:
    backend = make(frames_in_flight=1)
    assert backend.graphs
    assert cuda.live["graph"] == 2  # one for one picture, one for four
    enqueued, launched = module.enqueued, cuda.done["launch"]
    for seed, count in enumerate((1, 4, 1, 4)):
        require_right(backend.infer(textures(count, seed=seed)), textures(count, seed=seed))
    assert (module.enqueued, cuda.done["launch"]) == (enqueued, launched + 4)
    for _ in range(2):
        require_right(backend.infer(textures(3)), textures(3))
    assert module.enqueued == enqueued + 2  # once to allocate, once to be captured
    assert cuda.live["graph"] == 3


def test_without_graphs_it_enqueues(make: Make, module: StandIn, cuda: HostCuda) -> None:
    backend = make(graphs=False)
    enqueued = module.enqueued
    require_right(backend.infer(textures(2)), textures(2))
    require_right(backend.infer(textures(1)), textures(1))
    assert module.enqueued == enqueued + 3  # two pictures need a first run
    assert not backend.graphs
    assert cuda.done["capture"] == 0


def test_graphs_that_are_not_installed_are_told_once(
    make: Make, cuda: HostCuda, caplog: pytest.LogCaptureFixture
) -> None:
    cuda.graphs = "cuda-bindings does not load"
    with caplog.at_level(logging.INFO, "segdec_edge.runtime"):
        backend = make()
    require_right(backend.infer(textures(1)), textures(1))
    assert caplog.messages == ["CUDA graphs are off: cuda-bindings does not load"]


def test_a_graph_that_fails_is_told_once(make: Make, cuda: HostCuda, caplog: pytest.LogCaptureFixture) -> None:
    cuda.refused.add("capture")
    backend = make()
    require_right(backend.infer(textures(3)), textures(3))
    assert len(caplog.messages) == 1
    assert "CUDA graphs are off" in caplog.text
    assert not backend.graphs


def test_another_thread_is_refused(make: Make, cuda: HostCuda) -> None:
    backend = make()
    ticket = backend.submit(textures(1))
    told: list[str] = []
    calls = (
        lambda: backend.infer(textures(1)),
        lambda: backend.submit(textures(1)),
        lambda: backend.collect(ticket),
    )
    other = threading.Thread(target=lambda: told.extend(failure(call) for call in calls), name="page")
    other.start()
    other.join()
    assert [message.startswith("this tensorrt backend is used by page") for message in told] == [True] * 3
    require_right(backend.collect(ticket), textures(1))


def test_handed_over_it_belongs_to_the_next_thread_that_uses_it(make: Make, cuda: HostCuda) -> None:
    backend = make()
    ticket = backend.submit(textures(1))
    assert failure(backend.hand_over).startswith("1 batches are in flight")
    backend.collect(ticket)
    backend.hand_over()
    found: list[Prediction] = []
    other = threading.Thread(target=lambda: found.append(backend.infer(textures(1))))
    other.start()
    other.join()
    require_right(found[0], textures(1))
    assert "wanted the thread that made it" in failure(lambda: backend.infer(textures(1)))
    assert "wanted the thread that made it" in failure(backend.hand_over)


def test_it_may_be_closed_by_another_thread(make: Make, cuda: HostCuda) -> None:
    backend = make()
    other = threading.Thread(target=backend.close)
    other.start()
    other.join()
    require_clean(cuda)


def test_a_failed_enqueue_tells_the_last_error(make: Make, module: StandIn, cuda: HostCuda) -> None:
    backend = make(graphs=False)
    backend.infer(textures(1))
    module.refused.add("execute_async_v3")
    message = failure(lambda: backend.infer(255 - textures(1)))
    assert "TensorRT 10.3.0 did not run the engine (Error Code 1: Cuda Runtime (an illegal memory" in message
    module.refused.clear()
    assert "failed before (TensorRT 10.3.0 did not run" in failure(lambda: backend.infer(textures(1)))
    backend.close()
    require_clean(cuda)


@pytest.mark.parametrize(
    "operation", ["upload", "fill", "launch", "record", "wait_for", "download", "synchronize", "ms_since"]
)
def test_a_call_that_cuda_refuses_ends_it(make: Make, cuda: HostCuda, operation: str) -> None:
    backend = make()
    used = cuda.done[operation]
    cuda.refused.add(operation)
    if not used:
        assert cuda.integrated  # nothing is copied there
        return
    assert f"{operation}: CUDA says no" in failure(lambda: backend.infer(textures(1)))
    cuda.refused.clear()
    assert "failed before" in failure(lambda: backend.infer(textures(1)))
    backend.close()
    require_clean(cuda)


def test_a_lost_device_is_closed_without_a_leak(make: Make, cuda: HostCuda, caplog: pytest.LogCaptureFixture) -> None:
    backend = make()
    ticket = backend.submit(textures(1))
    cuda.lost = True
    assert "unspecified launch failure" in failure(lambda: backend.collect(ticket))
    assert "failed before" in failure(lambda: backend.collect(ticket))
    backend.close()
    assert "closing the tensorrt backend" in caplog.text
    require_clean(cuda)


@pytest.mark.parametrize(("writes", "left"), [("nothing", "score"), ("score", "heatmap")])
def test_an_old_result_is_never_given(make: Make, module: StandIn, cuda: HostCuda, writes: str, left: str) -> None:
    backend = make()
    backend.infer(textures(4))
    module.writes = writes
    assert f"left {left} unwritten" in failure(lambda: backend.infer(textures(4)))
    module.writes = "all"
    assert "failed before" in failure(lambda: backend.infer(textures(4)))
    backend.close()
    require_clean(cuda)


def test_an_overflow_is_an_error_of_that_picture_alone(make: Make, module: StandIn) -> None:
    def overflows(pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
        score, heatmap = brightness(pixels)
        return np.where(pixels.max((1, 2, 3)) > 10, score, np.nan), heatmap

    module.compute = overflows
    backend = make({"precision": "fp16"})  # whose black first picture does not count
    assert "its result is not a number: fp16 overflows" in failure(lambda: backend.infer(textures(1) // 32))
    require_right(backend.infer(textures(1)), textures(1))


def test_half_precision_outputs_are_read(make: Make, module: StandIn) -> None:
    module.dtype = DataType.HALF
    found = make().infer(textures(2))
    assert (found.score.dtype, found.heatmap.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(found.heatmap, brightness(textures(2))[1], atol=1e-3)


def test_half_precision_outputs_left_unwritten_are_seen(make: Make, module: StandIn) -> None:
    module.dtype = DataType.HALF
    backend = make()
    module.writes = "nothing"
    assert "left score unwritten" in failure(lambda: backend.infer(textures(1)))


def test_pixels_in_another_order_in_memory(make: Make) -> None:
    turned = textures(2)[:, ::-1, ::-1]
    require_right(make().infer(turned), turned)


def test_a_batch_above_the_profile_is_refused(make: Make) -> None:
    backend = make()
    assert backend.spec.max_batch == 4
    with pytest.raises(BackendError, match="a batch of 5 pictures, wanted at most 4"):
        backend.submit(textures(5))
    require_right(backend.infer(textures(4)), textures(4))


def test_a_batch_below_the_profile_is_filled_up(make: Make, module: StandIn) -> None:
    module.batches = (2, 2, 4)
    backend = make()
    found = backend.infer(textures(1))
    assert found.score.shape == (1,)
    require_right(found, textures(1))


def test_nothing_is_copied_where_memory_is_shared(make: Make, cuda: HostCuda) -> None:
    make().infer(textures(1))
    kinds = {"mapped"} if cuda.integrated else {"pinned"}
    assert {kind for kind in ("mapped", "pinned") if cuda.live[kind]} == kinds
    assert (cuda.done["upload"] == 0) is cuda.integrated
    assert (cuda.done["download"] == 0) is cuda.integrated


def test_the_gpu_tells_its_times(make: Make, cuda: HostCuda) -> None:
    backend = make()
    assert backend.device_times is None
    backend.infer(textures(1))
    times = backend.device_times
    assert times is not None
    assert times.compute_ms > 0
    assert (times.upload_ms > 0, times.download_ms > 0) == (not cuda.integrated, not cuda.integrated)


def test_frees_come_in_the_order_of_need(make: Make, cuda: HostCuda) -> None:
    backend = make()
    backend.submit(textures(1))
    backend.close()
    order = cuda.frees
    last = {kind: len(order) - 1 - order[::-1].index(kind) for kind in set(order)}
    first = {kind: order.index(kind) for kind in set(order)}
    assert order.index("graph") < order.index("context")
    for before, after in (
        ("context", "engine"),
        ("context", "mapped" if cuda.integrated else "pinned"),
        ("context", "device"),
        ("context", "event"),
        ("event", "stream"),
        ("engine", "runtime"),
    ):
        assert last[before] < first[after], (before, after)
    require_clean(cuda)


def test_what_is_in_flight_ends_before_its_memory_goes(make: Make, cuda: HostCuda) -> None:
    """HostCuda asserts that what runs finds its memory."""
    backend = make()
    for _ in range(2):
        backend.submit(textures(1))
    backend.close()
    assert +cuda.live == {}


def test_a_thousand_times_opened_and_closed(module: StandIn, cuda: HostCuda, bundle: Bundle, tmp_path: Path) -> None:
    module.batches = (1, 1, 1)
    module.compute = lambda pixels: (np.zeros(1), np.zeros((1, 16, 8)))
    plan = standin_plan(tmp_path, bundle)
    for _ in range(1000):
        TensorRtBackend(plan, bundle, module.found(), cuda).close()
    require_clean(cuda)
    assert cuda.streams == {}
    assert len(cuda.frees) >= 20_000


@pytest.mark.parametrize(
    ("method", "calls"),
    [
        ("deserialize", 0),
        ("create_execution_context", 0),
        ("create_execution_context", 3),
        ("set_input_shape", 1),
        ("set_tensor_address", 4),
        ("execute_async_v3", 0),
        ("execute_async_v3", 3),
        ("execute_async_v3", 4),  # the last one, after the contexts are warm
    ],
)
def test_opening_fails_without_a_leak(make: Make, module: StandIn, cuda: HostCuda, method: str, calls: int) -> None:
    module.after[method] = calls
    assert "an illegal memory access" in failure(lambda: make(graphs=False))
    require_clean(cuda)


@pytest.mark.parametrize(
    "operation", ["stream", "event", "device", "pinned", "mapped", "upload", "launch", "synchronize", "record"]
)
def test_opening_without_memory_leaves_nothing(make: Make, cuda: HostCuda, operation: str) -> None:
    cuda.refused.add(operation)
    if (operation in ("pinned", "upload")) if cuda.integrated else (operation == "mapped"):
        make().close()
    else:
        assert "CUDA says no" in failure(make)
    require_clean(cuda)


def test_an_engine_that_is_null_is_refused(make: Make, module: StandIn, cuda: HostCuda) -> None:
    module.says = "Error Code 6: API Usage Error (The engine plan file is not compatible)"
    message = failure(lambda: make(content=b"bad plan"))
    assert "cannot load" in message
    assert "(Error Code 6: API Usage Error (The engine plan file is not compatible)" not in message  # nothing was said
    module.refused.add("deserialize")
    message = failure(make)
    assert "engine plan file is not compatible" in message
    assert "Rebuild it: segdec build" in message
    require_clean(cuda)


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("size_hwc", (256, 64, 1), r"sm87-fp32.plan takes pixels \(N, 256, 64, 1\)"),
        ("heatmap_hw", (8, 8), r"heatmap \(N, 8, 8\)"),
        ("names", ("pixels", "score"), "gives score"),
        ("dtype", DataType.UINT8, "heatmap is uint8"),
    ],
)
def test_an_engine_of_another_form_is_refused(
    make: Make, module: StandIn, cuda: HostCuda, field: str, value: object, wanted: str
) -> None:
    setattr(module, field, value)
    with pytest.raises(BackendError, match=wanted):
        make()
    assert cuda.live["stream"] == 0


def test_a_stripped_engine_is_filled_from_the_bundle(make: Make, module: StandIn, bundle: Bundle) -> None:
    make({"stripped": True}).close()
    assert module.refitted == [str(bundle.model_path)]
    module.refused.add("refit_cuda_engine")
    assert "cannot fill a stripped engine" in failure(lambda: make({"stripped": True}))


@pytest.fixture
def own_bundle(bundle: Bundle, tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "own.bundle", onnx_bytes=bundle.model_path.read_bytes(), meta=bundle.meta)


def test_the_matching_engine_of_a_bundle_is_opened(own_bundle: Bundle, cuda: HostCuda, module: StandIn) -> None:
    standin_plan(own_bundle.path / ENGINES, own_bundle)
    backend = open_tensorrt(own_bundle, installed=[module.found()], cuda=cuda)
    require_right(backend.infer(textures(1)), textures(1))
    assert backend.plan.path.parent.name == ENGINES


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        ({"runtime_version": "10.7.0"}, "was built for TensorRT 10.7.0, this machine has TensorRT 10.3.0"),
        ({"compute_capability": (8, 6)}, "was built on stand-in"),
        ({"onnx_sha256": "0" * 64}, "was built from model 000000000000"),
        ({"plan_bytes": 3}, "is damaged"),
    ],
)
def test_an_engine_that_does_not_fit_is_refused(
    own_bundle: Bundle, cuda: HostCuda, module: StandIn, facts: dict[str, Any], wanted: str
) -> None:
    standin_plan(own_bundle.path / ENGINES, own_bundle, **facts)
    message = failure(lambda: open_tensorrt(own_bundle, installed=[module.found()], cuda=cuda), BundleError)
    assert wanted in message
    assert "segdec build" in message
    assert +cuda.live == {}


def test_a_bundle_without_engines_says_how_to_build_one(own_bundle: Bundle, cuda: HostCuda, module: StandIn) -> None:
    message = failure(lambda: open_tensorrt(own_bundle, installed=[module.found()], cuda=cuda), BundleError)
    assert "has no engine" in message
    assert "segdec build" in message
