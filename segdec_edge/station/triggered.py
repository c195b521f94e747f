"""A camera that the station triggers: from an API, a PLC or at an interval of its own. Each trigger is a part at once.

A trigger that cannot be sent when it is asked for is UNKNOWN: its part will have moved on before the camera is back.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Condition

from segdec_edge.errors import CameraIdle, CameraLost, FrameLost
from segdec_edge.station.grab import NOT_READY, Around, Calls, Grab, Source
from segdec_edge.station.part import Part
from segdec_edge.station.parts import Named, Names, as_given
from segdec_edge.station.supervisor import Turn
from segdec_edge.types import Frame

_IDLE_S = 0.5
_PROBE_S = 0.01


class TriggeredGrab(Grab):
    """trigger() may be called by any thread; the camera is called by the feed's thread alone, one trigger at a time.

    entered is told of each part with the line's reading, before it can have a verdict.
    """

    def __init__(self, source: Source, around: Around, names: Names | None = None) -> None:
        super().__init__(source, around)
        self._changed, self._names = Condition(self._lock), names
        self._outstanding: deque[Part] = deque()
        self.entered: Callable[[Part, int | None], None] = _nobody
        self._due_ns: int | None = None
        self._closed = False

    @property
    def expects_frame(self) -> bool:
        return bool(self._outstanding)

    def trigger(self, given_id: str | int | None = None, encoder: int | None = None) -> str:
        """Ask for a picture now; the part's id. Never blocks, never fails: what cannot be done is UNKNOWN.

        given_id and encoder: what the line sent with it; where that is unusable, the part is UNKNOWN too.
        """
        with self._changed:
            part = self._open(self._next)
            self._next += 1
            self.entered(part, encoder)
            reason = self._fault_of_name(part, given_id, encoder) or self._refusal()
            if reason is None:
                self._outstanding.append(part)
                self._changed.notify_all()
        if reason is not None:
            self._unknown(part, reason)
        return part.part_id

    def check(self, now_ns: int) -> int | None:
        """For the watch: trigger at the interval; when the next one is due. What it overslept is not made up for."""
        if self.source.interval_s is None or self._closed or not self._go.is_set():
            return None
        step_ns = round(self.source.interval_s * 1e9)
        if self._due_ns is None or self._due_ns <= now_ns:
            due_ns = now_ns if self._due_ns is None else self._due_ns
            self._due_ns = due_ns + step_ns * (1 + (now_ns - due_ns) // step_ns)
            self.trigger()
        return self._due_ns

    def lost(self, reason: str) -> None:
        """Every trigger that waits for its picture is UNKNOWN."""
        with self._changed:
            self._running, self._reason = False, reason
            outstanding = list(self._outstanding)
            self._outstanding.clear()
        for part in outstanding:
            self._unknown(part, f"triggered, but the camera was lost: {reason}")

    def wake(self) -> None:
        """The station stops: no new trigger is taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def is_through(self, leaving: bool) -> bool:
        return leaving and not self._outstanding

    def step(self, camera: Calls, turn: Turn) -> None:
        """Send one trigger and read its picture. Raises CameraLost and EndOfStream."""
        with self._changed:
            self._changed.wait_for(lambda: self._outstanding or self._closed or turn.abandoned, _IDLE_S)
            part = self._outstanding[0] if self._outstanding else None
            if turn.abandoned:
                return
        if part is None:
            self._probe(camera)
            return
        if part.settled:  # late already: a picture of now would show another part
            self._close(part, turn)
            return
        taken = self._shot(camera, camera.trigger())
        if self._close(part, turn):
            self._given(part, taken)

    def _probe(self, camera: Calls) -> None:
        """While nothing is due: a camera that is gone says so here, before the next part comes."""
        if not self._closed and not isinstance(camera.read(_PROBE_S), CameraIdle):
            self.drops["without a trigger"] += 1

    def _shot(self, camera: Calls, number: int) -> Frame | FrameLost:
        """What came for this trigger. Pictures of earlier ones are thrown away. Raises CameraLost where none comes."""
        until = time.monotonic() + self.timeout_s
        while (left_s := until - time.monotonic()) > 0:
            taken = camera.read(left_s)
            if isinstance(taken, CameraIdle):
                continue
            if taken.sequence >= number:
                return taken if taken.sequence == number else self._skipped(taken, number)
            self.drops["of an earlier trigger"] += 1
        raise CameraLost(f"{self.name}: no picture of trigger {number} within {self.timeout_s:g} s. Check the camera.")

    def _skipped(self, taken: Frame | FrameLost, number: int) -> FrameLost:
        self.drops["of a later trigger"] += 1
        return FrameLost(
            f"{self.name}: picture {taken.sequence} came for trigger {number}",
            sequence=number,
            source=taken.source,
            captured_ns=time.time_ns(),
        )

    def _close(self, part: Part, turn: Turn) -> bool:
        """Whether this thread may still say what became of the part."""
        with self._changed:
            if turn.abandoned or not self._outstanding or self._outstanding[0] is not part:
                return False
            self._outstanding.popleft()
            self._expected += 1
            return True

    def _given(self, part: Part, taken: Frame | FrameLost) -> None:
        if isinstance(taken, FrameLost):
            self._without_picture(part, taken)
            return
        self.frames += 1
        part.frame, part.source = taken, taken.source
        if not part.settled:
            self._enqueue(part)

    def _fault_of_name(self, part: Part, given_id: str | int | None, encoder: int | None) -> str | None:
        """Why the line could not know which part a verdict is about; else the part has its name."""
        if self._names is not None:
            named = self._names.name(part.part_id, encoder=encoder, given=given_id)
        else:
            named = Named(None) if given_id is None else as_given(given_id)
        part.given_id = named.given_id
        if named.fault is None:
            self._alarms.cleared(f"names {self.name}")
        else:
            self._alarms.raised(f"names {self.name}", named.fault)
        return named.fault

    def _refusal(self) -> str | None:
        if self._closed:
            return "the station stops"
        if not self._go.is_set():
            return NOT_READY
        if not self._running:
            return f"not triggered: {self._reason}"
        if len(self._outstanding) >= self.source.queue:
            return f"not triggered: {self.source.queue} triggers wait for their picture already"
        return None


def _nobody(part: Part, reading: int | None) -> None:
    pass
