"""What inference needs of CUDA, behind one small interface, and that interface on pycuda. Knows no TensorRT.

Every call is checked: what CUDA refuses is a BackendError. Work is asynchronous; a stream does it in order, an event
marks a place in a stream. pycuda and cuda-bindings are loaded when a PyCuda is made, never with this module.
"""

from __future__ import annotations

import atexit
import functools
import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from segdec_edge.errors import BackendError
from segdec_edge.runtime.gpu import Gpu, current_gpu

Bytes = NDArray[np.uint8]
INSTALL = (
    "Install it: pip install 'segdec-edge[cuda]' (built from source: it needs a compiler and CUDA's toolkit, on a"
    " Jetson apt install nvidia-cuda-dev)"
)
_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING. A stream that waits for the legacy default stream cannot be captured beside its users."""
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Event(Protocol):
    def synchronize(self) -> None:
        """Wait until the GPU has passed the place where this was recorded last."""
        ...

    def ms_since(self, earlier: Any) -> float:
        """Milliseconds between two places that the GPU has passed, by its own clock."""
        ...

    def free(self) -> None: ...


class Stream(Protocol):
    @property
    def handle(self) -> int: ...

    def record(self, event: Any) -> None: ...

    def wait_for(self, event: Any) -> None:
        """What comes after in this stream starts when that event has passed; the caller goes on."""
        ...

    def synchronize(self) -> None: ...

    def free(self) -> None: ...


class DeviceMemory(Protocol):
    @property
    def address(self) -> int: ...

    def free(self) -> None: ...


class HostMemory(Protocol):
    """Pinned memory. address: where the GPU sees it, 0 where it does not."""

    @property
    def array(self) -> Bytes: ...

    @property
    def address(self) -> int: ...

    def free(self) -> None: ...


class Graph(Protocol):
    def launch(self, stream: Any) -> None: ...

    def free(self) -> None: ...


class Cuda(Protocol):
    """One GPU. All but `gpu` and `graphs` is called inside `with cuda.current():`, on any one thread."""

    @property
    def gpu(self) -> Gpu: ...

    @property
    def graphs(self) -> str:
        """Empty where streams can be captured, else why not."""
        ...

    def current(self) -> AbstractContextManager[None]:
        """Make the GPU's context that of this thread, and give back the one before."""
        ...

    def stream(self) -> Stream: ...

    def event(self) -> Event: ...

    def device_memory(self, nbytes: int) -> DeviceMemory: ...

    def host_memory(self, nbytes: int, *, mapped: bool = False) -> HostMemory: ...

    def upload(self, address: int, source: Bytes, stream: Any) -> None:
        """Begin to copy. source: contiguous, pinned, left alone until the stream has passed."""
        ...

    def download(self, target: Bytes, address: int, stream: Any) -> None: ...

    def fill(self, address: int, value: int, nbytes: int, stream: Any) -> None: ...

    def capture(self, stream: Any, enqueue: Callable[[], None]) -> Graph:
        """What enqueue puts into the stream, not run but kept, to be launched as one. Raises what enqueue raises."""
        ...


def open_cuda(index: int = 0) -> Cuda:
    """That GPU through pycuda. Raises BackendError with what is missing and the command that installs it."""
    return PyCuda(require_gpu(current_gpu(index)), index)


def require_gpu(gpu: Gpu | None) -> Gpu:
    """Raises BackendError where there is none."""
    if gpu is None:
        raise BackendError(
            "no NVIDIA driver or GPU here, wanted one. Install the driver (segdec doctor shows what is there), or"
            " choose backend onnxruntime."
        )
    return gpu


def pycuda_version() -> str:
    """Raises BackendError where pycuda does not load."""
    _driver()
    return str(importlib.import_module("pycuda").VERSION_TEXT)


def graphs_or_reason() -> str:
    """In words whether CUDA graphs can be captured here, or what to install."""
    return _bindings()[1] or "CUDA graphs"


def _driver() -> Any:
    try:
        return importlib.import_module("pycuda.driver")
    except (ImportError, OSError) as error:  # ImportError too where the driver's library is missing
        raise BackendError(f"pycuda does not load ({' '.join(str(error).split())}). {INSTALL}") from error


def _checked(doing: str) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Turn what pycuda raises into BackendError. doing: the words for its message."""

    def wrap(call: Callable[_P, _T]) -> Callable[_P, _T]:
        @functools.wraps(call)
        def checked(*arguments: _P.args, **named: _P.kwargs) -> _T:
            try:
                return call(*arguments, **named)
            except _driver().Error as error:
                raise _told(doing, " ".join(str(error).split())) from error

        return checked

    return wrap


def _told(doing: str, reason: str) -> BackendError:
    if "out of memory" in reason:
        advice = "The GPU's memory is full: close other programs, or build with a smaller --batch."
    else:
        advice = "Open the bundle again; if that fails too, restart this program and look at dmesg for NVRM or Xid."
    return BackendError(f"{doing}: CUDA says {reason}. {advice}")


@functools.cache
def _primary_context(index: int) -> Any:
    """The context that CUDA's runtime, and so TensorRT, uses too: retained once a process, as the runtime does itself.

    pycuda pushes a primary context while it releases it and never pops it again (2026.1), so a release after each use
    would leave a dead context current in the thread.
    """
    driver = _driver()
    driver.init()
    context = driver.Device(index).retain_primary_context()
    atexit.register(context.detach)
    return context


class _PyEvent:
    def __init__(self) -> None:
        self.own: Any = _driver().Event()

    @_checked("waiting for the GPU")
    def synchronize(self) -> None:
        self.own.synchronize()

    @_checked("reading the GPU's clock")
    def ms_since(self, earlier: _PyEvent) -> float:
        return float(self.own.time_since(earlier.own))

    def free(self) -> None:
        self.own = None


class _PyStream:
    def __init__(self) -> None:
        self.own: Any = _driver().Stream(_NON_BLOCKING)

    @property
    def handle(self) -> int:
        return int(self.own.handle)

    @_checked("marking a place in a stream")
    def record(self, event: _PyEvent) -> None:
        event.own.record(self.own)

    @_checked("letting a stream wait")
    def wait_for(self, event: _PyEvent) -> None:
        self.own.wait_for_event(event.own)

    @_checked("waiting for the GPU")
    def synchronize(self) -> None:
        self.own.synchronize()

    def free(self) -> None:
        self.own = None


class _PyDeviceMemory:
    def __init__(self, nbytes: int) -> None:
        self._own = _driver().mem_alloc(nbytes)
        self.address = int(self._own)

    @_checked("freeing the GPU's memory")
    def free(self) -> None:
        self._own.free()


class _PyHostMemory:
    def __init__(self, nbytes: int, mapped: bool) -> None:
        driver = _driver()
        flags = driver.host_alloc_flags.DEVICEMAP if mapped else 0
        self.array: Bytes = driver.pagelocked_empty(nbytes, np.uint8, mem_flags=flags)
        self._own: Any = self.array.base
        self.address = int(self._own.get_device_pointer()) if mapped else 0

    @_checked("freeing pinned memory")
    def free(self) -> None:
        self.array = np.empty(0, np.uint8)  # a view of freed memory must not be left to be read
        self._own.free()


class PyCuda:
    """Cuda on pycuda, with graphs where cuda-bindings is installed. Raises BackendError where pycuda does not load."""

    def __init__(self, gpu: Gpu, index: int = 0) -> None:
        self.gpu, self._driver = gpu, _driver()
        self._bindings, self.graphs = _bindings()
        self._context = self._retain(index)

    @_checked("opening the GPU")
    def _retain(self, index: int) -> Any:
        return _primary_context(index)

    @contextmanager
    def current(self) -> Iterator[None]:
        self._push()
        try:
            yield
        finally:
            self._driver.Context.pop()

    @_checked("making the GPU's context current")
    def _push(self) -> None:
        self._context.push()

    @_checked("making a stream")
    def stream(self) -> _PyStream:
        return _PyStream()

    @_checked("making an event")
    def event(self) -> _PyEvent:
        return _PyEvent()

    def device_memory(self, nbytes: int) -> _PyDeviceMemory:
        return _checked(f"taking {nbytes / 2**20:.1f} MiB of the GPU's memory")(_PyDeviceMemory)(nbytes)

    def host_memory(self, nbytes: int, *, mapped: bool = False) -> _PyHostMemory:
        return _checked(f"pinning {nbytes / 2**20:.1f} MiB of memory")(_PyHostMemory)(nbytes, mapped)

    @_checked("copying to the GPU")
    def upload(self, address: int, source: Bytes, stream: _PyStream) -> None:
        self._driver.memcpy_htod_async(address, source, stream.own)

    @_checked("copying from the GPU")
    def download(self, target: Bytes, address: int, stream: _PyStream) -> None:
        self._driver.memcpy_dtoh_async(target, address, stream.own)

    @_checked("filling the GPU's memory")
    def fill(self, address: int, value: int, nbytes: int, stream: _PyStream) -> None:
        self._driver.memset_d8_async(address, value, nbytes, stream.own)

    def capture(self, stream: _PyStream, enqueue: Callable[[], None]) -> _BoundGraph:
        if self.graphs:
            raise BackendError(f"CUDA graphs: {self.graphs}")
        bound = self._bindings
        handle = bound.CUstream(stream.handle)
        # Any other mode forbids the legacy default stream to all other threads of the process meanwhile.
        mode = bound.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        _result(bound, "beginning a CUDA graph", bound.cuStreamBeginCapture(handle, mode))
        try:
            enqueue()
        except BackendError:
            bound.cuStreamEndCapture(handle)  # else the stream stays useless; its own error tells nothing more
            raise
        graph = _result(bound, "ending a CUDA graph", bound.cuStreamEndCapture(handle))
        try:
            return _BoundGraph(bound, graph)
        finally:
            _result(bound, "freeing a CUDA graph", bound.cuGraphDestroy(graph))


class _BoundGraph:
    """graph may be destroyed once this is made."""

    def __init__(self, bound: Any, graph: Any) -> None:
        self._bound = bound
        self._own = _result(bound, "making a CUDA graph", bound.cuGraphInstantiate(graph, 0))

    def launch(self, stream: _PyStream) -> None:
        status = self._bound.cuGraphLaunch(self._own, self._bound.CUstream(stream.handle))
        _result(self._bound, "launching a CUDA graph", status)

    def free(self) -> None:
        _result(self._bound, "freeing a CUDA graph", self._bound.cuGraphExecDestroy(self._own))


def _bindings() -> tuple[Any, str]:
    """cuda-bindings and "", or nothing and why."""
    try:
        bound = importlib.import_module("cuda.bindings.driver")
        bound.cuDriverGetVersion()  # loads the driver's functions, RuntimeError where that one is too old for them
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        return None, f"cuda-bindings does not load ({reason}): pip install 'segdec-edge[cuda-graphs]' saves launches"
    return bound, ""


def _result(bound: Any, doing: str, answer: tuple[Any, ...]) -> Any:
    """The value of a call through cuda-bindings, which answers (status, value…). Raises BackendError."""
    status = answer[0]
    if status != bound.CUresult.CUDA_SUCCESS:
        raise _told(doing, f"{status.name}".replace("CUDA_ERROR_", "").replace("_", " ").lower())
    return answer[1] if len(answer) > 1 else None
