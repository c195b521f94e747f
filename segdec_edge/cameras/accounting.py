"""Which picture belongs to which trigger, and which trigger has none. Pure: knows no device and no clock.

What it cannot see: pulses on a hardware line for which the device took no picture, since it counts pictures and not
pulses; and a picture of which nothing came, until the next one shows the gap. An encoder or the PLC must count those.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Protocol

from segdec_edge.cameras.counters import CameraCounters
from segdec_edge.errors import CameraLost, FrameLost
from segdec_edge.types import Frame, Pixels

MAX_GAP = 1000
"""More missing frame ids at once than this mean that the device counts anew, and nobody knows how many are missing."""

FRESH_IDS = 64
"""A first frame id up to this one means that the device began to count at the start, so earlier ones are missing."""

INCOMPLETE = "incomplete"

_LAST_OF_16_BITS = 0xFFFF  # GigE Vision 1: 65535 is followed by 1

Result = Frame | FrameLost


@dataclass(frozen=True)
class Arrival:
    """One picture from the device, whole or not.

    frame_id None where the part that holds it may not have come; pixels None where it cannot be used, and fault says
    why; wall_ns and host_ns when its first part came, on the wall clock and the host's monotonic clock; device_ns the
    device's own clock.
    """

    frame_id: int | None
    pixels: Pixels | None
    fault: str
    wall_ns: int
    host_ns: int
    device_ns: int


@dataclass(frozen=True)
class _Waiting:
    sequence: int
    sent_wall_ns: int
    sent_host_ns: int
    refused: bool


class Accounts(Protocol):
    """How one trigger mode turns arrivals into frames and lost frames."""

    @property
    def counters(self) -> CameraCounters: ...

    def take(self, arrivals: list[Arrival]) -> list[Result]:
        """What to give out, in order. Raises CameraLost where the count can no longer be trusted."""
        ...

    def due_since_ns(self) -> int | None:
        """Since when, on the monotonic clock, a trigger has waited for its picture; None: none is waiting."""
        ...

    def abandon(self, reason: str, wall_ns: int) -> list[Result]:
        """Give up every trigger that still waits."""
        ...


class _Totals:
    """The figures and the frame ids that every mode keeps."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._frames = self._triggers = self._incomplete = self._gaps = 0
        self._reasons: Counter[str] = Counter()
        self._last_id: int | None = None

    @property
    def counters(self) -> CameraCounters:
        return CameraCounters(self._frames, self._triggers, self._incomplete, self._gaps, dict(self._reasons))

    def due_since_ns(self) -> int | None:
        return None

    def abandon(self, reason: str, wall_ns: int) -> list[Result]:
        return []

    def _missing(self, frame_id: int | None) -> int:
        """How many ids lie between the one before and this one. Raises CameraLost where that cannot be told.

        A picture without an id counts as the next one: if another was missing before it, the next id shows it.
        """
        last = self._last_id
        if frame_id is None:
            self._last_id = None if last is None else 1 if last == _LAST_OF_16_BITS else last + 1
            return 0
        self._last_id = frame_id
        if last is None:
            return 0
        missing = frame_id - last - 1
        if missing < 0 and last <= _LAST_OF_16_BITS:
            missing += _LAST_OF_16_BITS
        if not 0 <= missing <= MAX_GAP:
            raise CameraLost(f"{self._source}: frame ids jumped from {last} to {frame_id}. Open the camera again.")
        self._gaps += missing
        return missing

    def _unusable(self, arrival: Arrival) -> None:
        self._incomplete += arrival.fault.startswith(INCOMPLETE)
        self._reasons[arrival.fault] += 1

    def _frame(self, arrival: Arrival, pixels: Pixels, sequence: int) -> Frame:
        self._frames += 1
        source = f"{self._source}#{arrival.frame_id}"
        return Frame(pixels, sequence, arrival.wall_ns, arrival.host_ns, source, arrival.device_ns)

    def _lost(self, why: str, sequence: int, wall_ns: int) -> FrameLost:
        return FrameLost(
            f"{self._source}: trigger {sequence}: {why}.", sequence=sequence, source=self._source, captured_ns=wall_ns
        )


class FreeRunning(_Totals):
    """Only the newest whole picture counts, and only while it is young; all others are counted as drops."""

    def take(self, arrivals: list[Arrival]) -> list[Result]:
        whole: list[tuple[Arrival, Pixels]] = []
        for arrival in arrivals:
            if missing := self._missing(arrival.frame_id):
                self._reasons["missing"] += missing
            if arrival.pixels is None:
                self._unusable(arrival)
            else:
                whole.append((arrival, arrival.pixels))
        if len(whole) > 1:
            self._reasons["superseded"] += len(whole) - 1
        return [self._frame(arrival, pixels, self._frames) for arrival, pixels in whole[-1:]]


class SoftwareTriggered(_Totals):
    """One trigger at a time: a device that is still busy may ignore the next one, and then no picture says whose it is.

    So a trigger sent while another waits is a lost frame, and so is one whose picture is late; after that the count
    cannot be trusted and the camera must be rebuilt.
    """

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._waiting: deque[_Waiting] = deque()

    def sent(self, wall_ns: int, host_ns: int) -> tuple[int, bool]:
        """Count a trigger: its number, and whether it may go to the device."""
        sequence, self._triggers = self._triggers, self._triggers + 1
        refused = bool(self._waiting)
        self._waiting.append(_Waiting(sequence, wall_ns, host_ns, refused))
        return sequence, not refused

    def take(self, arrivals: list[Arrival]) -> list[Result]:
        return [result for arrival in arrivals for result in self._take(arrival)]

    def due_since_ns(self) -> int | None:
        return self._waiting[0].sent_host_ns if self._waiting else None

    def abandon(self, reason: str, wall_ns: int) -> list[Result]:
        waiting, self._waiting = self._waiting, deque()
        return [self._given_up(one, reason, wall_ns) for one in waiting]

    def _take(self, arrival: Arrival) -> list[Result]:
        missing = self._missing(arrival.frame_id)
        # A picture that began to come before the trigger was sent belongs to none that waits. 1 µs: the clock's step.
        if not self._waiting or arrival.wall_ns < self._waiting[0].sent_wall_ns - 1000:
            self._reasons["unexpected"] += 1
            return []
        trigger = self._waiting.popleft()
        results: list[Result] = [self._result(trigger, arrival, missing)]
        while self._waiting and self._waiting[0].refused:
            results.append(self._given_up(self._waiting.popleft(), "the camera was busy", arrival.wall_ns))
        return results

    def _result(self, trigger: _Waiting, arrival: Arrival, missing: int) -> Result:
        if missing:
            why = f"{missing} frame ids are missing before {arrival.frame_id}, so its picture may be another's"
            self._reasons["missing"] += 1
            return self._lost(why, trigger.sequence, arrival.wall_ns)
        if arrival.pixels is None:
            self._unusable(arrival)
            return self._lost(arrival.fault, trigger.sequence, arrival.wall_ns)
        return self._frame(arrival, arrival.pixels, trigger.sequence)

    def _given_up(self, trigger: _Waiting, reason: str, wall_ns: int) -> FrameLost:
        why = "busy" if trigger.refused else "no picture"
        self._reasons[why] += 1
        return self._lost("the camera was busy" if trigger.refused else reason, trigger.sequence, wall_ns)


class HardwareTriggered(_Totals):
    """Every picture is a trigger, numbered by the device's frame ids; an id that is missing is a lost frame.

    first_id: what the device's kind begins with (1 on GigE Vision, 0 on USB3 Vision). A device that goes on counting
    from an earlier start shows a high first id: then a first picture that was lost whole stays unseen.
    """

    def __init__(self, source: str, first_id: int) -> None:
        super().__init__(source)
        self._first_id = first_id
        self._without_id = 0  # pictures before the first id

    def take(self, arrivals: list[Arrival]) -> list[Result]:
        return [result for arrival in arrivals for result in self._take(arrival)]

    def _take(self, arrival: Arrival) -> list[Result]:
        if self._last_id is None:
            self._begin(arrival.frame_id)
        missing = self._missing(arrival.frame_id)
        results: list[Result] = []
        for _ in range(missing):
            self._reasons["missing"] += 1
            results.append(self._lost("nothing came of its picture", self._next(), arrival.wall_ns))
        if arrival.pixels is None:
            self._unusable(arrival)
            return [*results, self._lost(arrival.fault, self._next(), arrival.wall_ns)]
        return [*results, self._frame(arrival, arrival.pixels, self._next())]

    def _begin(self, frame_id: int | None) -> None:
        if frame_id is None:
            self._without_id += 1
            return
        before = self._first_id + self._without_id - 1
        if before < frame_id <= FRESH_IDS:
            self._last_id = before

    def _next(self) -> int:
        self._triggers += 1
        return self._triggers - 1
