"""CUDA through pycuda on a real GPU, and the TensorRT backend on it. Run where there is one: pytest -m gpu.

Only the last tests need TensorRT: before them the engine is a stand-in that copies, on the GPU, what it is given.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.bundle import Bundle, write_bundle
from segdec_edge.deploy.engine import build_engine
from segdec_edge.errors import BackendError, EngineError
from segdec_edge.runtime import open_backend
from segdec_edge.runtime.cuda import Cuda, open_cuda
from segdec_edge.runtime.gpu import current_gpu
from segdec_edge.runtime.sidecar import Plan
from segdec_edge.runtime.tensorrt import TensorRtBackend
from segdec_edge.runtime.tensorrt_api import find_tensorrt
from segdec_edge.types import Pixels
from tests.host_cuda import HostCuda
from tests.nets import SIZE_HW, textures
from tests.standin_tensorrt import StandIn, standin_plan

pytestmark = pytest.mark.gpu
MIB = 2**20


@pytest.fixture(scope="module")
def cuda() -> Cuda:
    if current_gpu() is None:
        pytest.skip("no NVIDIA GPU or driver here")
    pytest.importorskip("pycuda.driver")
    return open_cuda()


@pytest.fixture
def current(cuda: Cuda) -> Iterator[None]:
    with cuda.current():
        yield


def require_graphs(cuda: Cuda) -> None:
    if cuda.graphs:
        pytest.skip(cuda.graphs)


def free_bytes(cuda: Cuda) -> int:
    import pycuda.driver as driver

    with cuda.current():
        return int(driver.mem_get_info()[0])


def allowed(cuda: Cuda) -> int:
    """What may differ without a leak: on a Jetson free memory is the whole board's, and other programs breathe."""
    return (128 if cuda.gpu.integrated else 16) * MIB


def driver_context() -> int:
    """What the driver holds for this thread's current context, 0 for none."""
    found = ctypes.c_void_p()
    assert ctypes.CDLL("libcuda.so.1").cuCtxGetCurrent(ctypes.byref(found)) == 0
    return found.value or 0


def noise(nbytes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, nbytes, np.uint8)


def test_the_gpu_is_described(cuda: Cuda) -> None:
    assert cuda.gpu == current_gpu()
    assert cuda.gpu.name
    assert cuda.gpu.compute_capability >= (5, 0)


@pytest.mark.usefixtures("current")
def test_bytes_go_there_and_come_back(cuda: Cuda) -> None:
    up, down, uploaded = cuda.stream(), cuda.stream(), cuda.event()
    device, source, target = cuda.device_memory(8 * MIB), cuda.host_memory(8 * MIB), cuda.host_memory(8 * MIB)
    for seed in range(20):  # without the event one of these comes back too early
        source.array[:] = noise(8 * MIB, seed)
        target.array[:] = 0
        cuda.upload(device.address, source.array, up)
        up.record(uploaded)
        down.wait_for(uploaded)
        cuda.download(target.array, device.address, down)
        down.synchronize()
        assert np.array_equal(target.array, source.array)
    for one in (source, target, device, uploaded, up, down):
        one.free()


@pytest.mark.usefixtures("current")
def test_a_part_of_a_buffer_is_copied(cuda: Cuda) -> None:
    stream, device, host = cuda.stream(), cuda.device_memory(1000), cuda.host_memory(1000)
    host.array[:] = 1
    cuda.fill(device.address, 0xFF, 1000, stream)
    cuda.upload(device.address + 100, host.array[:50], stream)
    cuda.download(host.array, device.address, stream)
    stream.synchronize()
    assert host.array[:100].tolist() == [255] * 100
    assert host.array[100:150].tolist() == [1] * 50
    assert host.array[150:].tolist() == [255] * 850
    for one in (host, device, stream):
        one.free()


@pytest.mark.usefixtures("current")
def test_mapped_memory_is_the_same_on_both_sides(cuda: Cuda) -> None:
    stream, mapped, plain = cuda.stream(), cuda.host_memory(4096, mapped=True), cuda.host_memory(4096)
    assert mapped.address
    assert plain.address == 0
    cuda.fill(mapped.address, 0x5A, 4096, stream)
    stream.synchronize()
    assert (mapped.array == 0x5A).all()
    mapped.array[:] = noise(4096)
    cuda.download(plain.array, mapped.address, stream)
    stream.synchronize()
    assert np.array_equal(plain.array, mapped.array)
    for one in (plain, mapped, stream):
        one.free()


@pytest.mark.usefixtures("current")
def test_the_gpus_clock_runs(cuda: Cuda) -> None:
    stream, (begin, middle, end) = cuda.stream(), (cuda.event() for _ in range(3))
    device = cuda.device_memory(256 * MIB)
    stream.record(begin)
    cuda.fill(device.address, 0, MIB, stream)
    stream.record(middle)
    cuda.fill(device.address, 0, 256 * MIB, stream)
    stream.record(end)
    end.synchronize()
    assert 0 < middle.ms_since(begin) < 1000
    assert end.ms_since(begin) >= end.ms_since(middle) > 0
    for one in (device, begin, middle, end, stream):
        one.free()


@pytest.mark.usefixtures("current")
def test_a_graph_does_again_what_was_captured(cuda: Cuda) -> None:
    require_graphs(cuda)
    stream, device, source, target = (cuda.stream(), cuda.device_memory(MIB), *(cuda.host_memory(MIB) for _ in "st"))

    def there_and_back() -> None:
        cuda.upload(device.address, source.array, stream)
        cuda.download(target.array, device.address, stream)

    target.array[:] = 0
    source.array[:] = 1
    graph = cuda.capture(stream, there_and_back)
    stream.synchronize()
    assert (target.array == 0).all()  # a capture does not run
    for seed in range(5):
        source.array[:] = noise(MIB, seed)
        graph.launch(stream)
        stream.synchronize()
        assert np.array_equal(target.array, source.array)
    for one in (graph, source, target, device, stream):
        one.free()


@pytest.mark.usefixtures("current")
def test_a_capture_that_fails_leaves_the_stream_usable(cuda: Cuda) -> None:
    require_graphs(cuda)

    def refuses() -> None:
        cuda.fill(device.address, 1, 100, stream)
        raise BackendError("the engine did not run")

    stream, device, host = cuda.stream(), cuda.device_memory(100), cuda.host_memory(100)
    with pytest.raises(BackendError, match="did not run"):
        cuda.capture(stream, refuses)
    cuda.fill(device.address, 9, 100, stream)
    cuda.download(host.array, device.address, stream)
    stream.synchronize()
    assert (host.array == 9).all()
    for one in (host, device, stream):
        one.free()


@pytest.mark.usefixtures("current")
def test_memory_that_is_not_there_is_refused(cuda: Cuda) -> None:
    with pytest.raises(BackendError, match=r"taking .* MiB of the GPU's memory.*memory is full"):
        cuda.device_memory(2**50)
    cuda.device_memory(MIB).free()


@pytest.mark.usefixtures("current")
def test_freed_memory_cannot_be_read(cuda: Cuda) -> None:
    host = cuda.host_memory(100)
    host.free()
    assert host.array.size == 0


def test_the_threads_own_context_comes_back(cuda: Cuda) -> None:
    before = driver_context()
    for _ in range(3):
        with cuda.current(), cuda.current():
            assert driver_context()
        assert driver_context() == before


@dataclass(eq=False)
class CopyingStandIn(StandIn):
    """Its engine copies the first bytes of each picture, which are floats, to the outputs: on the GPU."""

    idle: bool = False

    def enqueue(
        self, addresses: dict[str, int], shape: tuple[int, ...], memory: tuple[int, int], stream_handle: int
    ) -> None:
        if self.idle:
            return
        copy = ctypes.CDLL("libcuda.so.1").cuMemcpyDtoDAsync_v2
        each = int(np.prod(shape[1:]))
        for index in range(shape[0]):
            source = addresses["pixels"] + index * each
            for name, skipped, nbytes in (("score", 0, 4), ("heatmap", 4, 512)):
                target = addresses[name] + index * nbytes
                status = copy(
                    ctypes.c_uint64(target),
                    ctypes.c_uint64(source + skipped),
                    ctypes.c_size_t(nbytes),
                    ctypes.c_void_p(stream_handle),
                )
                assert status == 0


def coded(count: int, seed: int = 0) -> Pixels:
    """Pictures whose first bytes are a score and a heat map."""
    pixels = noise(count * 128 * 64, seed).reshape(count, -1)
    floats = np.random.default_rng(seed).random((count, 129), np.float32)
    pixels[:, : 129 * 4] = floats.view(np.uint8)
    return pixels.reshape(count, *SIZE_HW, 1)


def require_decoded(backend: TensorRtBackend, pixels: Pixels) -> None:
    _require(backend.infer(pixels), pixels)


def _require(found: object, pixels: Pixels) -> None:
    floats = pixels.reshape(len(pixels), -1)[:, : 129 * 4].copy().view(np.float32)
    assert np.array_equal(found.score, floats[:, 0])  # type: ignore[attr-defined]
    assert np.array_equal(found.heatmap.reshape(len(pixels), -1), floats[:, 1:])  # type: ignore[attr-defined]


@pytest.fixture
def copying(cuda: Cuda, bundle: Bundle, tmp_path: Path) -> tuple[CopyingStandIn, Plan]:
    return CopyingStandIn(HostCuda()), standin_plan(tmp_path, bundle)


@pytest.mark.parametrize("graphs", [True, False])
def test_batches_in_flight_on_a_gpu(
    cuda: Cuda, bundle: Bundle, copying: tuple[CopyingStandIn, Plan], graphs: bool
) -> None:
    module, plan = copying
    backend = TensorRtBackend(plan, bundle, module.found(), cuda, graphs=graphs)
    assert backend.graphs is (graphs and not cuda.graphs)
    for seed in range(50):
        first, second = coded(1, seed), coded(1 + seed % 4, seed + 1000)
        tickets = backend.submit(first), backend.submit(second)
        _require(backend.collect(tickets[0]), first)
        _require(backend.collect(tickets[1]), second)
    assert backend.device_times is not None
    assert backend.device_times.compute_ms > 0
    backend.close()


def test_an_engine_that_does_nothing_is_found_out(
    cuda: Cuda, bundle: Bundle, copying: tuple[CopyingStandIn, Plan]
) -> None:
    module, plan = copying
    backend = TensorRtBackend(plan, bundle, module.found(), cuda, graphs=False)
    require_decoded(backend, coded(4))
    module.idle = True
    with pytest.raises(BackendError, match="left score unwritten"):
        backend.infer(coded(4))
    backend.close()


def test_each_thread_may_have_its_own(cuda: Cuda, bundle: Bundle, copying: tuple[CopyingStandIn, Plan]) -> None:
    module, plan = copying
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            backend = TensorRtBackend(plan, bundle, module.found(), open_cuda())
            for one in range(100):
                require_decoded(backend, coded(1, seed + one))
            backend.close()
            assert driver_context() == 0
        except BaseException as error:  # noqa: BLE001 for the main thread
            failed.append(error)

    threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_thousand_times_opened_and_closed_on_a_gpu(
    cuda: Cuda, bundle: Bundle, copying: tuple[CopyingStandIn, Plan]
) -> None:
    module, plan = copying

    def cycles(count: int) -> None:
        for _ in range(count):
            TensorRtBackend(plan, bundle, module.found(), open_cuda()).close()

    cycles(20)
    before, context = free_bytes(cuda), driver_context()
    cycles(1000)
    assert before - free_bytes(cuda) <= allowed(cuda)
    assert driver_context() == context


@pytest.fixture(scope="module")
def engine(cuda: Cuda, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with an engine that TensorRT built for this GPU."""
    own = write_bundle(
        tmp_path_factory.mktemp("gpu") / "own.bundle", onnx_bytes=bundle.model_path.read_bytes(), meta=bundle.meta
    )
    try:
        build_engine(own, batches=(1, 1, 4), tensorrt=find_tensorrt())
    except (BackendError, EngineError) as error:
        pytest.skip(f"no TensorRT builds for this GPU: {error}")
    return own


@pytest.mark.trt
def test_an_engine_scores_as_onnxruntime_does(engine: Bundle) -> None:
    found, wanted = open_backend(engine, "tensorrt"), open_backend(engine, "onnxruntime")
    for count in (1, 2, 3, 4):
        pixels = textures(count, seed=count)
        ours, theirs = found.infer(pixels), wanted.infer(pixels)
        # TensorRT computes float32 graphs with TF32 where the GPU has it.
        np.testing.assert_allclose(ours.score, theirs.score, atol=1e-2)
        np.testing.assert_allclose(ours.heatmap, theirs.heatmap, atol=5e-2)
    found.close()


@pytest.mark.trt
def test_an_engine_is_replayed_as_a_graph(engine: Bundle, cuda: Cuda) -> None:
    require_graphs(cuda)
    backend = open_backend(engine, "tensorrt")
    assert isinstance(backend, TensorRtBackend)
    assert backend.graphs
    plain = TensorRtBackend(backend.plan, engine, find_tensorrt(backend.plan.facts.runtime), open_cuda(), graphs=False)
    for seed, count in enumerate((1, 4, 1, 3, 2, 1)):
        pixels = textures(count, seed=seed)
        np.testing.assert_allclose(backend.infer(pixels).score, plain.infer(pixels).score, atol=1e-5)
    backend.close()
    plain.close()


@pytest.mark.trt
def test_an_engine_keeps_two_batches_apart(engine: Bundle) -> None:
    backend = open_backend(engine, "tensorrt")
    assert isinstance(backend, TensorRtBackend)
    pictures = [textures(1, seed=seed) for seed in range(20)]
    alone = [backend.infer(one).score for one in pictures]
    ticket = backend.submit(pictures[0])
    for index in range(1, 20):
        following = backend.submit(pictures[index])
        np.testing.assert_allclose(backend.collect(ticket).score, alone[index - 1], atol=1e-6)
        ticket = following
    np.testing.assert_allclose(backend.collect(ticket).score, alone[19], atol=1e-6)
    backend.close()


@pytest.mark.trt
@pytest.mark.slow
def test_an_engine_opened_and_closed_leaks_nothing(engine: Bundle, cuda: Cuda) -> None:
    def cycles(count: int) -> None:
        for _ in range(count):
            open_backend(engine, "tensorrt").close()

    cycles(20)
    before = free_bytes(cuda)
    cycles(1000)
    assert before - free_bytes(cuda) <= allowed(cuda)
