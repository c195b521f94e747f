"""TensorRT and TensorRT-RTX: a bundle's engine as a Backend, with several batches in flight. Knows no CUDA call."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from segdec_edge.bundle import Bundle
from segdec_edge.errors import BackendError, BundleError
from segdec_edge.runtime.checks import check_pixels
from segdec_edge.runtime.cuda import Cuda, open_cuda, require_gpu
from segdec_edge.runtime.gpu import current_gpu
from segdec_edge.runtime.sidecar import Here, Plan, check_plan, find_plan
from segdec_edge.runtime.tensorrt_api import MODULES, TensorRt, find_tensorrt
from segdec_edge.runtime.tensorrt_engine import Engine
from segdec_edge.runtime.tensorrt_pipeline import DeviceTimes, Pipeline, Slot
from segdec_edge.types import Pixels, Prediction

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ticket:
    """A batch in flight, for collect. pictures: how many it has."""

    number: int
    pictures: int


def open_tensorrt(
    bundle: Bundle, dla: int | None = None, *, installed: Sequence[TensorRt] | None = None, cuda: Cuda | None = None
) -> TensorRtBackend:
    """The bundle's newest engine that fits this machine, warm and ready. dla: the core it was built for, None the GPU.

    installed, cuda: None for what this machine has. Raises BackendError where GPU, driver, TensorRT or pycuda is
    missing, BundleError where no engine fits.
    """
    gpu = current_gpu() if cuda is None else cuda.gpu
    require_gpu(gpu)
    found, reasons = [], []
    for tensorrt in installed_tensorrts() if installed is None else installed:
        try:
            found.append((tensorrt, find_plan(bundle, Here(tensorrt.name, tensorrt.version, gpu), dla)))
        except BundleError as error:
            reasons.append(error)
    if not found:
        raise reasons[0]
    tensorrt, plan = max(found, key=lambda pair: pair[1].facts.created)
    return TensorRtBackend(plan, bundle, tensorrt, cuda or open_cuda())


def installed_tensorrts() -> tuple[TensorRt, ...]:
    """Every TensorRT that loads here, at least one. Raises BackendError with the command that installs one."""
    found = []
    for name in MODULES:
        with contextlib.suppress(BackendError):
            found.append(find_tensorrt(name))
    return tuple(found) or (find_tensorrt(),)


def open_plan(plan: Plan, bundle: Bundle) -> TensorRtBackend:
    """This very engine, warm and ready. Raises as open_tensorrt does."""
    tensorrt = find_tensorrt(plan.facts.runtime)
    check_plan(plan, bundle, Here(tensorrt.name, tensorrt.version, current_gpu()))
    return TensorRtBackend(plan, bundle, tensorrt, open_cuda())


class TensorRtBackend:
    """Precision as the engine was built. Used by the thread that made it, after hand_over() by the next that uses it;
    close alone may come from another one.

    After a failure of CUDA or TensorRT it refuses everything but close: open the bundle again.
    device_times: of the batch collected last, None before the first.
    """

    name = "tensorrt"

    def __init__(
        self,
        plan: Plan,
        bundle: Bundle,
        tensorrt: TensorRt,
        cuda: Cuda,
        *,
        frames_in_flight: int = 2,
        graphs: bool = True,
    ) -> None:
        """plan: checked before (sidecar.check_plan). graphs: replay CUDA graphs where that is possible.

        Raises BackendError, and leaves nothing behind then.
        """
        if frames_in_flight < 1:
            raise BackendError(f"{frames_in_flight} batches in flight, wanted at least 1. Two keep the GPU busy.")
        self.plan = plan
        self.device_times: DeviceTimes | None = None
        self._thread: int | None = threading.get_ident()
        self._cuda, self._broken, self._count = cuda, "", 0
        with cuda.current():
            engine = Engine(tensorrt, plan, bundle)
            self.spec = dataclasses.replace(bundle.spec, max_batch=engine.batches[2], precision=plan.facts.precision)
            pipeline = Pipeline(engine, self.spec, cuda, frames_in_flight, graphs)
            self._pipeline: Pipeline | None = pipeline
        self._idle = list(pipeline.slots)
        self._flying: dict[int, Slot] = {}
        self._warm()

    @property
    def graphs(self) -> bool:
        """Whether batches are replayed as CUDA graphs."""
        return self._pipeline is not None and self._pipeline.graphs

    def infer(self, pixels: Pixels) -> Prediction:
        """pixels (N, H, W, C) uint8 of the spec's size. Raises BackendError; the result is the caller's own."""
        return self.collect(self.submit(pixels))

    def submit(self, pixels: Pixels) -> Ticket:
        """Begin a batch, as infer takes it, and go on; pixels are the caller's again at once.

        Raises BackendError, also where as many batches are in flight as there are buffers for.
        """
        check_pixels(pixels, self.spec)
        pipeline = self._usable()
        if not self._idle:
            raise BackendError(f"{len(self._flying)} batches are in flight, wanted fewer. Collect one first.")
        with self._whole():
            pipeline.send(self._idle[-1], pixels)
        self._count += 1
        self._flying[self._count] = self._idle.pop()
        return Ticket(self._count, len(pixels))

    def collect(self, ticket: Ticket) -> Prediction:
        """Wait for a batch, once each, in any order. Raises BackendError where its result is not whole."""
        pipeline = self._usable()
        slot = self._flying.get(ticket.number)
        if slot is None:
            raise BackendError(f"batch {ticket.number} is not in flight. Collect each ticket once.")
        with self._whole():
            prediction, self.device_times = pipeline.receive(slot, ticket.pictures)
        self._idle.append(self._flying.pop(ticket.number))
        if not (np.isfinite(prediction.score).all() and np.isfinite(prediction.heatmap).all()):
            raise BackendError(
                f"{self.plan.path}: its result is not a number: {self.spec.precision} overflows on this picture."
                " Keep more layers in FP32, or build from the fp32 bundle."
            )
        return prediction

    def hand_over(self) -> None:
        """Give it to the next thread that uses it. Raises BackendError while a batch is in flight."""
        self._usable()
        if self._flying:
            raise BackendError(f"{len(self._flying)} batches are in flight, wanted none. Collect them first.")
        self._thread = None

    def close(self) -> None:
        """Wait for what is in flight, then free everything. What CUDA says of a lost device meanwhile is logged."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is None:
            return
        self._idle, self._flying = [], {}
        try:
            with self._cuda.current():
                pipeline.free()
        except BackendError as error:
            _log.warning("closing the tensorrt backend: %s", str(error))  # the error's frames hold the engine

    def _warm(self) -> None:
        """The whole way once. A black picture may overflow FP16 where no picture of a part does."""
        pipeline, (slot, *_) = self._usable(), self._idle
        black = np.zeros((1, *self.spec.size_hw, self.spec.channels), np.uint8)
        try:
            with self._whole():
                pipeline.send(slot, black)
                pipeline.receive(slot, 1)
        except BackendError:
            self.close()
            raise

    def _usable(self) -> Pipeline:
        if self._pipeline is None:
            raise BackendError("this tensorrt backend is closed. Open the bundle again.")
        if self._thread is None:
            self._thread = threading.get_ident()
        if threading.get_ident() != self._thread:
            raise BackendError(
                f"this tensorrt backend is used by {threading.current_thread().name}, wanted the thread that made it."
                " Open the bundle in the thread that uses it."
            )
        if self._broken:
            raise BackendError(f"this tensorrt backend failed before ({self._broken}). Open the bundle again.")
        return self._pipeline

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """With the GPU's context. What does not come to its end, by an error or Ctrl-C, leaves the backend unusable."""
        self._broken = "it was interrupted"
        try:
            with self._cuda.current():
                yield
        except BackendError as error:
            self._broken = str(error)
            raise
        self._broken = ""
