"""The TensorRT backend on CUDA in the host's memory: order, batches in flight, graphs, threads, failures."""

from __future__ import annotations

import logging
import threading

import numpy as np
import pytest

from segdec_edge.errors import BackendError
from segdec_edge.runtime.tensorrt import Ticket
from segdec_edge.types import Pixels, Prediction
from tests.host_cuda import HostCuda
from tests.nets import textures
from tests.runtime.standin_backend import Make, failure, require_clean, require_right
from tests.standin_tensorrt import DataType, StandIn, brightness


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
