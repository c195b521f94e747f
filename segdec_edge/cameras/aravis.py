"""GigE Vision and USB3 Vision cameras: every trigger ends in one frame or one lost frame. Knows no verdict.

What it cannot see: see accounting.py. A camera that dies raises no error by itself, so silence is timed here.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from types import TracebackType

from segdec_edge.cameras.accounting import Arrival, FreeRunning, HardwareTriggered, Result, SoftwareTriggered
from segdec_edge.cameras.aravis_device import AravisDevice
from segdec_edge.cameras.aravis_library import AravisFailure
from segdec_edge.cameras.counters import CameraCounters
from segdec_edge.config.camera import AravisConfig
from segdec_edge.errors import CameraError, CameraIdle, CameraLost
from segdec_edge.types import Frame

_SLICE_S = 0.1  # how long close() and a trigger from another thread wait at most for a read
_PROBE_S = 1.0


class AravisCamera:
    """A device set up as its table asks, or CameraError; CameraLost where it does not answer.

    Frame times are those of the first packet of the picture. Free-running: the newest picture, never one older than
    max_age_s; all others are counted. Triggered: each trigger is one Frame or one FrameLost, in order; those that still
    wait when the camera is lost are lost before CameraLost comes. read() from one thread, trigger() from any.
    """

    def __init__(self, config: AravisConfig) -> None:
        self._timeout_s, self._free = config.frame_timeout_s, config.trigger == "free"
        self._device = AravisDevice(config)
        self.name = self._device.name
        self._software = SoftwareTriggered(self.name) if config.trigger == "software" else None
        hardware = HardwareTriggered(self.name, self._device.first_id)
        self._accounts = self._software or (FreeRunning(self.name) if self._free else hardware)
        self._results: deque[Result] = deque()
        self._lost = ""
        self._closed = False
        self._silent_since: float | None = None
        self._alive_at = time.monotonic()
        self._probing: threading.Thread | None = None
        self._state = threading.Lock()  # the accounts, the results, and whether it is lost or closed
        self._streaming = threading.Lock()  # held while buffers are taken

    @property
    def total(self) -> None:
        """A camera does not end."""
        return

    @property
    def counters(self) -> CameraCounters:
        """Totals since it was opened."""
        with self._state:
            return self._accounts.counters

    @property
    def is_triggered_by_software(self) -> bool:
        """Whether pictures come only after trigger()."""
        return self._software is not None

    def trigger(self) -> int:
        """Take a picture; its trigger's number, from 0. What becomes of it is told by read(), also where it fails.

        One at a time: a trigger sent before the picture of the one before has come is a lost frame. Raises CameraError
        where the camera is not software-triggered or was closed, CameraLost where it is known to be lost.
        """
        if self._software is None:
            raise CameraError(f'{self.name}: is not triggered by software. Set camera.trigger = "software".')
        with self._state:
            self._refuse_closed()
            if self._lost:
                raise CameraLost(self._lost)
            sequence, may_go = self._software.sent(time.time_ns(), time.monotonic_ns())
        if may_go:
            try:
                self._device.trigger()
            except AravisFailure as failure:
                self._lose(f"{self.name}: took no trigger ({failure}). Check power and cable.")
        return sequence

    def read(self, timeout_s: float) -> Frame:
        """The next frame. Raises FrameLost for a trigger without one, CameraIdle where nothing was due in timeout_s,
        CameraLost after frame_timeout_s without a picture that was due or where the device is gone, CameraError after
        close().
        """
        deadline = time.monotonic() + timeout_s
        if self._silent_since is None:
            self._silent_since = time.monotonic()
        while True:
            with self._state:
                self._refuse_closed()
                result = self._results.popleft() if self._results else None
                if result is None and self._lost:
                    raise CameraLost(self._lost)
            if isinstance(result, Frame):
                self._silent_since = None
                return result
            if result is not None:
                raise result
            self._await(deadline, timeout_s)

    def close(self) -> None:
        """Stop the device and free everything, within about 2 s also where it is dead. Closing twice is harmless."""
        with self._state:
            if self._closed:
                return
            self._closed = True
        with self._streaming:
            self._device.close(answering=not self._lost)

    def __enter__(self) -> AravisCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _await(self, deadline: float, timeout_s: float) -> None:
        """Take what comes until the deadline or a short while; raises CameraIdle at the deadline."""
        now = time.monotonic()
        wait_s = min(deadline - now, _SLICE_S, max(0.0, self._overdue_at() - now))
        with self._streaming:
            if self._closed:
                return
            arrivals = self._device.pop(wait_s)
        if arrivals:
            self._account(arrivals)
        elif time.monotonic() >= self._overdue_at():
            self._lose(f"{self.name}: no picture within {self._timeout_s:g} s. Check power, cable and network.")
        elif time.monotonic() >= deadline:
            self._probe()
            raise CameraIdle(f"{self.name}: nothing was due within {timeout_s:g} s.")

    def _account(self, arrivals: list[Arrival]) -> None:
        self._alive_at = time.monotonic()
        if any(arrival.pixels is not None or arrival.fault == "aged" for arrival in arrivals):
            self._silent_since = time.monotonic()
        with self._state:
            try:
                self._results.extend(self._accounts.take(arrivals))
            except CameraLost as lost:
                self._give_up(str(lost))

    def _overdue_at(self) -> float:
        """When silence becomes a loss, in seconds of the monotonic clock; never while no picture is awaited."""
        if self._free:
            return (self._silent_since or time.monotonic()) + self._timeout_s
        with self._state:
            since_ns = self._accounts.due_since_ns()
        return float("inf") if since_ns is None else since_ns / 1e9 + self._timeout_s

    def _probe(self) -> None:
        """While nothing is due, ask now and then whether the device is still there; in a thread, since a dead one takes
        seconds not to answer, and a trigger may come meanwhile.
        """
        busy = self._probing is not None and self._probing.is_alive()
        if self._free or busy or time.monotonic() - self._alive_at < _PROBE_S:
            return
        self._alive_at = time.monotonic()
        self._probing = threading.Thread(target=self._lose_if_gone, name=f"ask {self.name}")
        self._probing.start()

    def _lose_if_gone(self) -> None:
        if not self._device.answers() and not self._closed:
            self._lose(f"{self.name}: no longer answers. Check power, cable and network.")

    def _lose(self, reason: str) -> None:
        with self._state:
            self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        self._lost = self._lost or reason
        self._results.extend(self._accounts.abandon(reason.removeprefix(f"{self.name}: ").rstrip("."), time.time_ns()))

    def _refuse_closed(self) -> None:
        if self._closed:
            raise CameraError(f"{self.name}: the camera was closed. Open it again.")
