"""Streams, buffers and the way of a batch through the GPU. Knows no threads and no tickets.

Three streams: copies in, computing, copies out; an event passes a batch from one to the next, so that the copies of one
run beside the computing of another. Batches are computed in the order they were sent. Each batch in flight has a slot:
buffers of its own. Where GPU and host share their memory there is one set of buffers and nothing is copied.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from segdec_edge.errors import BackendError
from segdec_edge.runtime.checks import HEATMAP, INPUT, SCORE
from segdec_edge.runtime.cuda import Bytes, Cuda, Event
from segdec_edge.runtime.tensorrt_engine import Engine, Run
from segdec_edge.types import ModelSpec, Pixels, Prediction

OUTPUTS = (SCORE, HEATMAP)
UNWRITTEN = 0xFF
"""Every output byte before a run. As float16 or float32 a NaN that no arithmetic makes: what still holds it afterwards
was not written."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceTimes:
    """Milliseconds of one batch by the GPU's own clock; the copies 0 where GPU and host share their memory."""

    upload_ms: float
    compute_ms: float
    download_ms: float


@dataclass(frozen=True)
class Buffer:
    """host: what the CPU reads and writes; address: what the GPU does; the same memory where they share it."""

    host: Bytes
    address: int
    nbytes_each: int


@dataclass(frozen=True)
class Events:
    uploading: Event
    uploaded: Event
    computing: Event
    computed: Event
    done: Event


@dataclass(frozen=True)
class Slot:
    """What one batch in flight needs. runs: by batch size."""

    buffers: dict[str, Buffer]
    events: Events
    runs: dict[int, Run]


class _Freeable(Protocol):
    def free(self) -> None: ...


_F = TypeVar("_F", bound=_Freeable)


class Pipeline:
    """All that an engine holds on the GPU, warm for its profile's least, best and most pictures.

    Made and used inside `with cuda.current():`. engine is freed with it, also where this raises BackendError.
    """

    def __init__(self, engine: Engine, spec: ModelSpec, cuda: Cuda, slots: int, graphs: bool) -> None:
        self._engine, self._spec, self._cuda = engine, spec, cuda
        self._shared = cuda.gpu.integrated
        self._graphs = graphs and self._has_graphs()
        with ExitStack() as frees:
            frees.callback(engine.free)
            self._up, self._compute, self._down = (_kept(frees, cuda.stream()) for _ in range(3))
            size = engine.memory_bytes
            self._memory = (_kept(frees, cuda.device_memory(size)).address if size else 0, size)
            self.slots = tuple(self._slot(frees) for _ in range(slots))
            frees.callback(self._free_runs)
            frees.callback(self._wait)
            for slot in self.slots:
                for batch in sorted(set(engine.batches)):
                    self._run(slot, batch)
            self._frees = frees.pop_all()

    @property
    def graphs(self) -> bool:
        """Whether every run so far is replayed as a CUDA graph."""
        return all(run.captured for slot in self.slots for run in slot.runs.values())

    def send(self, slot: Slot, pixels: Pixels) -> None:
        """Put a batch on its way. pixels are copied, once, and the caller's again."""
        run = self._run(slot, len(pixels))
        taken = slot.buffers[INPUT].host[: pixels.size].reshape(pixels.shape)
        np.copyto(taken, pixels)
        for name in OUTPUTS:
            slot.buffers[name].host.fill(UNWRITTEN)
        if not self._shared:
            self._upload(slot, taken.reshape(-1))
        self._compute.record(slot.events.computing)
        run.launch(self._compute)
        self._compute.record(slot.events.computed)
        if self._shared:
            self._compute.record(slot.events.done)
        else:
            self._download(slot, len(pixels))

    def receive(self, slot: Slot, pictures: int) -> tuple[Prediction, DeviceTimes]:
        """Wait for a batch. The prediction is a copy. Raises BackendError where any of it was not written."""
        slot.events.done.synchronize()
        score, heatmap = (self._read(slot, name, pictures) for name in OUTPUTS)
        return Prediction(score.reshape(-1), heatmap.reshape(-1, *self._spec.heatmap_hw)), self._times(slot.events)

    def free(self) -> None:
        """Wait for what is in flight, then free everything, whatever CUDA says meanwhile; raises what it said last."""
        self._frees.close()

    def _has_graphs(self) -> bool:
        if self._cuda.graphs:
            _log.info("CUDA graphs are off: %s", self._cuda.graphs)
        return not self._cuda.graphs

    def _slot(self, frees: ExitStack) -> Slot:
        height, width = self._spec.size_hw
        heatmap_height, heatmap_width = self._spec.heatmap_hw
        each = {
            INPUT: height * width * self._spec.channels,
            SCORE: self._engine.dtype(SCORE).itemsize,
            HEATMAP: heatmap_height * heatmap_width * self._engine.dtype(HEATMAP).itemsize,
        }
        buffers = {name: self._buffer(nbytes, frees) for name, nbytes in each.items()}
        return Slot(buffers, Events(*(_kept(frees, self._cuda.event()) for _ in range(5))), {})

    def _buffer(self, nbytes_each: int, frees: ExitStack) -> Buffer:
        nbytes = nbytes_each * self._engine.batches[2]
        host = _kept(frees, self._cuda.host_memory(nbytes, mapped=self._shared))
        address = host.address if self._shared else _kept(frees, self._cuda.device_memory(nbytes)).address
        return Buffer(host.array, address, nbytes_each)

    def _run(self, slot: Slot, pictures: int) -> Run:
        """For that many pictures; made, launched once and captured at its first use. Too few for the engine's profile:
        the next larger size, whose last results are not read."""
        batch = max(pictures, self._engine.batches[0])
        if batch not in slot.runs:
            shape = (batch, *self._spec.size_hw, self._spec.channels)
            addresses = {name: buffer.address for name, buffer in slot.buffers.items()}
            run = slot.runs[batch] = Run(self._engine, shape, addresses, self._memory)
            run.launch(self._compute)
            self._compute.synchronize()
            if self._graphs:
                self._capture(run)
        return slot.runs[batch]

    def _capture(self, run: Run) -> None:
        try:
            run.capture(self._cuda, self._compute)
        except BackendError as error:
            self._graphs = False
            _log.warning("CUDA graphs are off, each batch is enqueued anew: %s", str(error))

    def _upload(self, slot: Slot, pixels: Bytes) -> None:
        events = slot.events
        self._up.record(events.uploading)
        self._cuda.upload(slot.buffers[INPUT].address, pixels, self._up)
        for name in OUTPUTS:
            buffer = slot.buffers[name]
            self._cuda.fill(buffer.address, UNWRITTEN, buffer.host.size, self._up)
        self._up.record(events.uploaded)
        self._compute.wait_for(events.uploaded)

    def _download(self, slot: Slot, pictures: int) -> None:
        self._down.wait_for(slot.events.computed)
        for name in OUTPUTS:
            buffer = slot.buffers[name]
            self._cuda.download(buffer.host[: pictures * buffer.nbytes_each], buffer.address, self._down)
        self._down.record(slot.events.done)

    def _read(self, slot: Slot, name: str, pictures: int) -> NDArray[np.float32]:
        buffer, dtype = slot.buffers[name], self._engine.dtype(name)
        raw = buffer.host[: pictures * buffer.nbytes_each]
        bits: NDArray[Any] = raw.view(np.dtype(f"u{dtype.itemsize}"))
        if (bits == np.iinfo(bits.dtype).max).any():
            raise self._engine.refusal(f"left {name} unwritten", "Open the bundle again.")
        return raw.view(dtype).astype(np.float32)

    def _times(self, events: Events) -> DeviceTimes:
        compute = events.computed.ms_since(events.computing)
        if self._shared:
            return DeviceTimes(0.0, compute, 0.0)
        return DeviceTimes(events.uploaded.ms_since(events.uploading), compute, events.done.ms_since(events.computed))

    def _wait(self) -> None:
        for stream in (self._up, self._compute, self._down):
            stream.synchronize()

    def _free_runs(self) -> None:
        with ExitStack() as frees:
            for slot in self.slots:
                for run in slot.runs.values():
                    frees.callback(run.free)
                slot.runs.clear()


def _kept(frees: ExitStack, resource: _F) -> _F:
    frees.callback(resource.free)
    return resource
