"""CUDA in the host's memory, for tests without a GPU. Import: `from tests.host_cuda import HostCuda`.

It is as lazy as a GPU is allowed to be: what is put into a stream runs only when somebody waits for it. A missing event
or an early reading therefore gives wrong bytes here every time, not once a week. Memory is full of 0xAB when it is new.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from segdec_edge.errors import BackendError
from segdec_edge.runtime.cuda import Bytes
from segdec_edge.runtime.gpu import Gpu

DIRT = 0xAB


@dataclass
class Place:
    stream: HostStream
    passed_s: float | None = None


class HostEvent:
    def __init__(self, cuda: HostCuda) -> None:
        self.cuda = cuda
        self.place: Place | None = None

    def synchronize(self) -> None:
        self.cuda.step("synchronize")
        self.reach()

    def reach(self) -> None:
        while self.place is not None and self.place.passed_s is None:
            self.place.stream.run_one()

    def ms_since(self, earlier: HostEvent) -> float:
        self.cuda.step("ms_since")
        assert self.place is not None and self.place.passed_s is not None, "cuEventElapsedTime: not ready"
        assert earlier.place is not None and earlier.place.passed_s is not None, "cuEventElapsedTime: not ready"
        return (self.place.passed_s - earlier.place.passed_s) * 1e3

    def free(self) -> None:
        self.cuda.freed("event")


class HostStream:
    def __init__(self, cuda: HostCuda, handle: int) -> None:
        self.cuda, self.handle = cuda, handle
        self.queue: deque[Callable[[], None]] = deque()
        self.captured: list[Callable[[], None]] | None = None

    def put(self, work: Callable[[], None]) -> None:
        (self.queue if self.captured is None else self.captured).append(work)

    def run_one(self) -> None:
        self.queue.popleft()()

    def record(self, event: HostEvent) -> None:
        self.cuda.step("record")
        place = event.place = Place(self)
        self.put(lambda: setattr(place, "passed_s", time.perf_counter()))

    def wait_for(self, event: HostEvent) -> None:
        self.cuda.step("wait_for")
        place = event.place
        waited = HostEvent(self.cuda)
        waited.place = place
        self.put(waited.reach)

    def synchronize(self) -> None:
        self.cuda.step("synchronize")
        assert self.captured is None, "cuStreamSynchronize: stream is capturing"
        while self.queue:
            self.run_one()

    def free(self) -> None:
        if not (self.cuda.lost or self.cuda.refused):
            assert not self.queue, "a stream is destroyed while its work is not done"
        del self.cuda.streams[self.handle]
        self.cuda.freed("stream")


class HostBuffer:
    """Device, pinned or mapped memory."""

    def __init__(self, cuda: HostCuda, kind: str, nbytes: int) -> None:
        self.cuda, self.kind = cuda, kind
        self.array: Bytes = np.full(nbytes, DIRT, np.uint8)
        self.key = self.array.ctypes.data
        self.address = 0 if kind == "pinned" else self.key
        cuda.memory[self.key] = self

    def free(self) -> None:
        del self.cuda.memory[self.key]
        self.cuda.freed(self.kind)


@dataclass
class HostGraph:
    cuda: HostCuda
    work: list[Callable[[], None]]

    def launch(self, stream: HostStream) -> None:
        self.cuda.step("launch")
        for one in self.work:
            stream.put(one)

    def free(self) -> None:
        self.cuda.freed("graph")


@dataclass
class HostCuda:
    """Cuda, and what a test wants to know of it.

    refused: operations that fail, by name; lost: every one fails, as after a device error; live: what is not yet freed;
    frees: what was, in order; done: how often each operation was called.
    """

    integrated: bool = False
    graphs: str = ""
    refused: set[str] = field(default_factory=set)
    lost: bool = False
    live: Counter[str] = field(default_factory=Counter)
    frees: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    memory: dict[int, HostBuffer] = field(default_factory=dict)
    streams: dict[int, HostStream] = field(default_factory=dict)
    contexts: Counter[int] = field(default_factory=Counter)

    @property
    def gpu(self) -> Gpu:
        return Gpu("stand-in", (8, 7), 8, self.integrated)

    def step(self, name: str) -> None:
        """One call of CUDA."""
        assert self.contexts[threading.get_ident()], f"{name}: invalid device context"
        self.done[name] += 1
        if self.lost or name in self.refused:
            raise BackendError(f"{name}: CUDA says {'unspecified launch failure' if self.lost else 'no'}.")

    def freed(self, kind: str) -> None:
        assert self.contexts[threading.get_ident()], f"freeing a {kind}: invalid device context"
        self.live[kind] -= 1
        assert self.live[kind] >= 0, f"a {kind} is freed twice"
        self.frees.append(kind)
        if self.lost:
            raise BackendError(f"freeing a {kind}: CUDA says unspecified launch failure.")

    @contextmanager
    def current(self) -> Iterator[None]:
        self.contexts[threading.get_ident()] += 1
        try:
            yield
        finally:
            self.contexts[threading.get_ident()] -= 1

    def stream(self) -> HostStream:
        self.step("stream")
        self.live["stream"] += 1
        handle = 1 + max(self.streams, default=0)
        self.streams[handle] = HostStream(self, handle)
        return self.streams[handle]

    def event(self) -> HostEvent:
        self.step("event")
        self.live["event"] += 1
        return HostEvent(self)

    def device_memory(self, nbytes: int) -> HostBuffer:
        return self._buffer("device", nbytes)

    def host_memory(self, nbytes: int, *, mapped: bool = False) -> HostBuffer:
        return self._buffer("mapped" if mapped else "pinned", nbytes)

    def _buffer(self, kind: str, nbytes: int) -> HostBuffer:
        self.step(kind)
        self.live[kind] += 1
        return HostBuffer(self, kind, nbytes)

    def upload(self, address: int, source: Bytes, stream: HostStream) -> None:
        self.step("upload")
        self._require_pinned(source)
        stream.put(lambda: np.copyto(self.bytes_at(address, source.size), source))

    def download(self, target: Bytes, address: int, stream: HostStream) -> None:
        self.step("download")
        self._require_pinned(target)
        stream.put(lambda: np.copyto(target, self.bytes_at(address, target.size)))

    def fill(self, address: int, value: int, nbytes: int, stream: HostStream) -> None:
        self.step("fill")
        stream.put(lambda: self.bytes_at(address, nbytes).fill(value))

    def capture(self, stream: HostStream, enqueue: Callable[[], None]) -> HostGraph:
        self.step("capture")
        stream.captured = []
        try:
            enqueue()
            work = stream.captured
        finally:
            stream.captured = None
        self.live["graph"] += 1
        return HostGraph(self, work)

    def bytes_at(self, address: int, nbytes: int) -> Bytes:
        """The GPU's view of its memory; an AssertionError where nothing is allocated."""
        for buffer in self.memory.values():
            start = address - buffer.address
            if buffer.address and start >= 0 and start + nbytes <= buffer.array.size:
                return buffer.array[start : start + nbytes]
        raise AssertionError(f"illegal memory access: {nbytes} bytes at {address:#x}")

    def _require_pinned(self, array: Bytes) -> None:
        start = array.ctypes.data
        assert array.flags.c_contiguous
        assert any(
            buffer.kind == "pinned" and buffer.key <= start and start + array.nbytes <= buffer.key + buffer.array.nbytes
            for buffer in self.memory.values()
        ), "an asynchronous copy wants pinned memory"
