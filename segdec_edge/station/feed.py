"""One camera under supervision: opened, read, rebuilt for as long as it takes. Knows no backend and no file.

A worker thread makes every call into the camera; the station's watch sees it hang, puts it off and starts another one.
States: opening → running → (stalled) → lost → back-off → opening …; a finite source ends in `ended`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Event, Thread
from typing import TYPE_CHECKING

from segdec_edge.errors import CameraError, CameraIdle, CameraLost, EndOfStream, FrameLost
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.events import CameraEvent, CameraState
from segdec_edge.station.refit import REASON, Opener, Refit
from segdec_edge.station.supervisor import Turn, guarded, itself, join_all, start_thread
from segdec_edge.types import Camera, Frame

if TYPE_CHECKING:
    from segdec_edge.station.grab import Grab

_log = logging.getLogger(__name__)

OPEN_LIMIT_S = 30.0
CALL_LIMIT_S = 5.0
"""Closing and triggering: a GigE camera's control calls block for 3 s when it is gone."""
READ_GRACE_S = 1.0
"""How much longer than its own time limit a read may take before its thread is abandoned."""
HUNG_THREADS = 4
"""As many abandoned threads of one camera may hang at a time; then it waits until one comes back."""


class Feed:
    """Runs one camera and hands what it gives to `grab`.

    open_camera makes a new camera object. stopping: asked before each frame.
    """

    def __init__(
        self,
        grab: Grab,
        open_camera: Opener,
        alarms: Alarms,
        go: Event,
        stopping: Callable[[], bool],
        on_event: Callable[[CameraEvent], None],
    ) -> None:
        self.name = grab.name
        self.error: CameraError | None = None
        self.total: int | None = None
        self.opened = Event()
        self._grab, self._open_camera, self._alarms, self._go = grab, open_camera, alarms, go
        self._stopping, self._on_event = stopping, on_event
        self._changed = Condition()
        self._state, self._since = CameraState.BACK_OFF, time.monotonic()
        self._turn = Turn()
        self._hung: list[Thread] = []
        self._failures = 0
        self._closing = False
        self._refit: Refit | None = None

    @property
    def state(self) -> CameraState:
        return self._state

    @property
    def ended(self) -> bool:
        return self._state is CameraState.ENDED

    def start(self) -> None:
        self._begin(wait=False)

    @property
    def refit_limit_s(self) -> float:
        """How long it may take to leave a read, close the camera and open it again."""
        return self._grab.timeout_s + READ_GRACE_S + CALL_LIMIT_S + OPEN_LIMIT_S

    def refit(self, open_camera: Opener) -> Refit:
        """Close the camera and open it so, from the next frame on; as before where that cannot be. One at a time."""
        refit = Refit(open_camera)
        with self._changed:
            if self.ended or self._leaving():
                refit.fail("it has ended. Start the station with this recipe.")
            else:
                self._refit = refit
            self._changed.notify_all()
        return refit

    def stop(self) -> None:
        """Let the worker leave at the next frame, once what was triggered is through."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._grab.wake()

    def join(self, within_s: float) -> None:
        """Wait for the worker; a call that hangs is left behind with its thread, by name."""
        turn = self._turn
        if turn.thread is not None and join_all([turn.thread], within_s):
            self._abandon(turn, f"{turn.call[0] if turn.call else 'the worker'} hangs while the station stops")

    def check(self, now_ns: int) -> int | None:
        """For the watch: see a frame that is overdue and a call that hangs."""
        turn = self._turn
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if turn.abandoned:
            if not self.ended and not self._leaving() and len(self._hung) < HUNG_THREADS:
                self._begin(wait=True)
            return None
        call = turn.call
        if call is not None and call[0] == "read" and self._state is CameraState.RUNNING:
            silent_s = (now_ns - call[1]) / 1e9
            if silent_s > self._grab.timeout_s and self._grab.expects_frame:
                self._enter(CameraState.STALLED, f"no frame for {silent_s:.1f} s")
        if hanging := turn.overdue(now_ns):
            self._abandon(turn, f"{hanging} did not return within {call[2] if call else 0:g} s")
        return None

    def _begin(self, wait: bool) -> None:
        turn = self._turn = Turn()
        turn.thread = start_thread(f"camera {self.name}", lambda: self._work(turn, wait))

    def _work(self, turn: Turn, wait: bool) -> None:
        if wait:
            self._back_off(turn)
        while not self._off(turn):
            error = guarded(lambda: self._serve(turn), itself)
            if turn.abandoned:
                return
            if error is None:
                continue  # to be opened otherwise, or the station stops
            if self._refuses_refit(error):
                continue
            if isinstance(error, EndOfStream):
                self._end(None)
            elif self._is_final(error):
                self._end(error if isinstance(error, CameraError) else CameraLost(_told(error)))
            else:
                self._lose(_told(error), None if isinstance(error, CameraError) else error)
                self._back_off(turn)
        if not turn.abandoned:
            self._end(None)

    def _serve(self, turn: Turn) -> Exception | None:
        """Open the camera and read it until it ends, is lost, is to be opened otherwise or the station stops."""
        refit = self._wished()
        self._enter(CameraState.OPENING, turn=turn)
        turn.begin("open", OPEN_LIMIT_S)
        camera = self._open_camera() if refit is None else refit.begin()()
        try:
            camera.__enter__()
            turn.done()
            if not turn.abandoned and (refit is None or self._stays(refit, turn)):
                self._run(camera, turn)
        finally:
            turn.begin("close", CALL_LIMIT_S)
            with suppress(CameraError):
                camera.__exit__(None, None, None)
            turn.done()
        return None

    def _wished(self) -> Refit | None:
        """The settings to open with, where others are asked for and still wanted."""
        with self._changed:
            if self._refit is not None and self._refit.dropped:
                self._refit = None
            return self._refit

    def _stays(self, refit: Refit, turn: Turn) -> bool:
        """Whether the camera, open with the wished settings, is to run with them from now on."""
        stays = refit.stays(lambda: self._off(turn))
        with self._changed:
            if self._refit is refit:
                self._refit = None
            if stays:
                self._open_camera = refit.open_camera
        return stays

    def _refuses_refit(self, error: Exception) -> bool:
        """Whether only the wished settings failed: the camera is opened as it was, at once."""
        refit = self._refit
        if refit is None or not refit.tried:
            return False
        self._fail_refit(_told(error))
        return True

    def _fail_refit(self, reason: str) -> None:
        with self._changed:
            refit, self._refit = self._refit, None
        if refit is not None:
            refit.fail(reason)

    def _run(self, camera: Camera, turn: Turn) -> None:
        self.total = getattr(camera, "total", None)
        self._enter(CameraState.RUNNING, turn=turn)
        self.opened.set()
        while self._grab.is_finite and not self._go.wait(0.05):
            if self._off(turn) or self._wished():
                return
        watched = _Watched(camera, turn)
        self._grab.begin()
        while not turn.abandoned and not self._grab.is_through(self._leaving()):
            if self._wished() is not None:
                self._grab.lost(REASON)
                return
            self._grab.step(watched, turn)
            if self._state is CameraState.STALLED:
                self._enter(CameraState.RUNNING, "frames again", turn)
            self._healthy()

    def _healthy(self) -> None:
        if self._failures and self._grab.delivered:
            self._failures = 0
            self._alarms.cleared(f"camera {self.name}", "frames again")

    def _is_final(self, error: Exception) -> bool:
        """A replay is not rebuilt: it would judge the same pictures again. Nor is what was refused at the start."""
        refused = not self.opened.is_set() and isinstance(error, CameraError) and not isinstance(error, CameraLost)
        return refused or self._grab.is_finite

    def _lose(self, reason: str, fault: Exception | None = None) -> None:
        self._failures += 1
        self._enter(CameraState.LOST, reason)
        self._alarms.raised(f"camera {self.name}", f"lost: {reason}", fault)
        self._grab.lost(reason)
        self.opened.set()  # the others need not wait for it

    def _abandon(self, turn: Turn, reason: str) -> None:
        with self._changed:
            if turn.abandoned:
                return
            turn.abandoned = True
            self._changed.notify_all()
        if turn.thread is not None:
            self._hung.append(turn.thread)
        _log.error("camera %s: thread abandoned: %s", self.name, reason)
        self._fail_refit(reason)
        if self._leaving():
            self._grab.lost(reason)
            self._end(None)
        elif self._grab.is_finite:
            self._end(CameraLost(f"{self.name}: {reason}. Check the source."))
        else:
            self._lose(reason)

    def _end(self, error: CameraError | None) -> None:
        if self.ended:
            return
        self.error = error
        if error is not None:
            self._alarms.raised(f"camera {self.name}", f"ended: {error}")
        self._fail_refit(str(error) if error else "it has ended. Start the station with this recipe.")
        self._grab.lost(str(error) if error else "the camera has ended")
        self._enter(CameraState.ENDED, str(error) if error else "")
        self.opened.set()

    def _back_off(self, turn: Turn) -> None:
        low_s, high_s = self._grab.backoff_s
        longest = min(high_s, low_s * 2 ** min(max(self._failures - 1, 0), 30))
        wait_s = longest * random.uniform(0.5, 1.0)  # several cameras of one switch must not all come at once
        self._enter(CameraState.BACK_OFF, f"next try in {wait_s:.1f} s")
        with self._changed:
            self._changed.wait_for(lambda: self._off(turn) or self._refit is not None, wait_s)

    def _enter(self, state: CameraState, reason: str = "", turn: Turn | None = None) -> None:
        with self._changed:
            if state is self._state or (turn is not None and turn.abandoned):
                return
            before, now = self._state, time.monotonic()
            seconds, self._state, self._since = now - self._since, state, now
        level = logging.WARNING if state in (CameraState.STALLED, CameraState.LOST) else logging.INFO
        told = f": {reason}" if reason else ""
        _log.log(level, "camera %s: %s after %.1f s %s%s", self.name, state.value, seconds, before.value, told)
        self._on_event(CameraEvent(self.name, before, state, seconds, time.time_ns(), reason))

    def _leaving(self) -> bool:
        return self._closing or self._stopping()

    def _off(self, turn: Turn) -> bool:
        return turn.abandoned or self._leaving() or self.ended


class _Watched:
    """The camera's calls that may block, with their limits told to the watch."""

    def __init__(self, camera: Camera, turn: Turn) -> None:
        self._camera, self._turn = camera, turn

    def read(self, timeout_s: float) -> Frame | FrameLost | CameraIdle:
        self._turn.begin("read", timeout_s + READ_GRACE_S)
        try:
            return self._camera.read(timeout_s)
        except (FrameLost, CameraIdle) as lost:
            return lost
        finally:
            self._turn.done()

    def trigger(self) -> int:
        self._turn.begin("trigger", CALL_LIMIT_S)
        try:
            return int(self._camera.trigger())  # type: ignore[attr-defined]
        finally:
            self._turn.done()


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, CameraError) else f"{type(error).__name__}: {error}"
