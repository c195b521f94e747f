"""Which part is at the rejecter, and whether it may pass. Knows no camera, no output and no clock: only positions.

A part is rejected unless its OK is there when its window at the rejecter begins. What nobody triggered, what was on the
belt before the start or before the counter jumped, what came without a position: nothing of that may pass.

A position is what an encoder or a counter of the line shows. Both belong to the line and go on for every part: a count
of our own triggers would be one off for good after the first part that passes without a trigger.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

from segdec_edge.station.parts import Counter
from segdec_edge.types import Label


@dataclass(frozen=True)
class RejectDecision:
    """What happens to a part at the rejecter, told once, when its window begins.

    window: the counter's readings, first and last, between which the part is there. more: how many further parts share
    the window and the reject. part_id is "" for what was never triggered here.
    """

    part_id: str
    reject: bool
    reason: str
    window: tuple[int, int]
    more: int = 0


@dataclass(frozen=True)
class RejectCounts:
    """Since the start. late: verdicts after the decision; strays: verdicts on parts that are not (or no more) known;
    missed: parts whose window went by between two looks; overflowed: parts beyond the capacity; jumps of the counter;
    unplaced: parts that came without a position; doubled: part ids that came twice; unread: what was no reading of the
    counter. All but the first three are alarms.
    """

    entered: int = 0
    passed: int = 0
    rejected: int = 0
    late: int = 0
    strays: int = 0
    missed: int = 0
    overflowed: int = 0
    jumps: int = 0
    unplaced: int = 0
    doubled: int = 0
    unread: int = 0


@dataclass
class _Part:
    """first, last: positions at the rejecter without tolerance; forced: why it is rejected whatever its verdict."""

    part_id: str
    first: int
    last: int
    forced: str = ""
    label: Label | None = None
    passes: bool | None = None
    more: int = 0


class RejectFifo:
    """Parts between the trigger and the rejecter. Any thread may call.

    distance: positions from trigger to rejecter; tolerance: how far to either side a part may come; counter_bits: of
    the line's counter. Parts nearer to each other than twice the tolerance share what is worse: both pass only where
    both are OK. A double trigger is such a pair. At a distance of more than twice the tolerance, an untriggered part is
    in nobody's window, so it is rejected.

    The belt may run backwards: positions are places on it. Decisions stay as they are, windows count again for
    `distance` back; farther back nothing passes. A counter that moves by more than max_step between two calls (by
    default distance: nobody looked while a part came by) has jumped: all parts on the way are rejected. A smaller jump
    looks like motion, so max_step should be little more than what the belt moves between two calls.

    on_fault is told ("trigger" or "rejecter", why) once the counter cannot be read there, and "" once it can again.
    """

    def __init__(
        self,
        distance: int,
        tolerance: int = 0,
        *,
        counter_bits: int = 32,
        capacity: int = 1024,
        max_step: int | None = None,
        on_fault: Callable[[str, str], None] = lambda where, why: None,
    ) -> None:
        self._distance, self._tolerance, self._capacity = distance, tolerance, capacity
        self._max_step = distance if max_step is None else max_step
        self._counter, self._lock = Counter(counter_bits), Lock()
        self._parts: list[_Part] = []
        self._known: dict[str, _Part] = {}
        self._told: deque[RejectDecision] = deque(maxlen=4 * capacity)
        self._counts = RejectCounts()
        self._last: int | None = None
        self._highest = self._floor = 0
        self._blind: _Part | None = None
        self._on_fault = on_fault
        self._unread: set[str] = set()

    @property
    def counts(self) -> RejectCounts:
        return self._counts

    def enter(self, part_id: str, reading: int | None) -> None:
        """A part was triggered while the counter showed reading; None, or what is no reading, where that is not known:
        all is rejected then that was triggered between the readings before and after it.
        """
        readable = self._is_readable("trigger", reading)
        with self._lock:
            self._count("entered")
            if reading is None or not readable:
                self._enter_blind(part_id)
                return
            at_rejecter = self._follow(reading, at_trigger=True) + self._distance
            part = _Part(part_id, at_rejecter, at_rejecter)
            if (same := self._known.get(part_id)) is not None:
                self._count("doubled")
                same.forced = part.forced = f"two parts came as {part_id}"
                same.passes = None if same.passes is None else False
            self._add(part)

    def verdict(self, part_id: str, label: Label) -> None:
        """The verdict on a part, in any order, at any time. Of two the worse one holds."""
        with self._lock:
            part = self._known.get(part_id)
            if part is None:
                self._count("strays")
                return
            if part.passes is not None:
                self._count("late")
                part.passes = part.passes and label is Label.OK
            elif part.label in (None, Label.OK):
                part.label = label

    def due(self, reading: int) -> list[RejectDecision]:
        """What was decided since the last call, now that the counter shows reading; each part comes once.

        For a rejecter that pushes out: it must act for the whole window of each reject. One that needs time to act asks
        with the reading that will be there when it has acted. What is no reading decides nothing.
        """
        readable = self._is_readable("rejecter", reading)
        with self._lock:
            if readable:
                self._decide(self._follow(reading))
            told = list(self._told)
            self._told.clear()
            return told

    def may_pass(self, reading: int) -> bool:
        """Whether what is at the rejecter now may pass: it is in the window of parts that are all OK, and in no other.

        For a rejecter that is closed unless told otherwise, which also stops what nobody triggered. Never where reading
        is none of the counter.
        """
        if not self._is_readable("rejecter", reading):
            return False
        with self._lock:
            position = self._follow(reading)
            self._decide(position)
            here = [part for part in self._parts if self._begin(part) <= position <= self._end(part)]
            return position >= self._floor and bool(here) and all(part.passes for part in here)

    def _is_readable(self, where: str, reading: object) -> bool:
        """Without the lock: whoever is told of it may ask this queue."""
        fault = "no count came." if reading is None else self._counter.fault(reading)
        with self._lock:
            changed = (fault is not None) is not (where in self._unread)
            if fault is not None:
                self._count("unread")
            if changed:
                self._unread ^= {where}
        if changed:
            self._on_fault(where, fault or "")
        return fault is None

    def _follow(self, reading: int, *, at_trigger: bool = False) -> int:
        """The position of a reading. At the first one, and after a jump, all that is on the belt is blocked."""
        position, last = self._counter.position(reading), self._last
        if last is None or abs(position - last) > self._max_step:
            self._start_at(position, at_trigger)
        self._last = position
        self._highest = max(self._highest, position)
        if (blind := self._blind) is not None:
            self._blind = None
            since = position if last is None else last
            blind.first, blind.last = (end + self._distance for end in sorted((since, position)))
            self._add(blind)
        return position

    def _start_at(self, position: int, at_trigger: bool) -> None:
        reason = "on the belt before the start"
        if self._last is not None:
            self._count("jumps")
            reason = f"the counter jumped from {self._counter.raw(self._last)} to {self._counter.raw(position)}"
            for part in self._parts:
                if part.passes is None:
                    self._tell(part, reason)
            self._parts.clear()
            self._known.clear()
        self._highest = self._floor = position - self._distance
        # A part at the trigger is at least twice the tolerance behind the last one that is on the belt already.
        last = position + self._distance - (2 * self._tolerance + 1 if at_trigger else 0)
        if last >= position:
            self._add(_Part("", position, last, reason))

    def _enter_blind(self, part_id: str) -> None:
        self._count("unplaced")
        if self._blind is None:
            self._blind = _Part(part_id, 0, 0, "it came without a position")
        else:
            self._blind.more += 1

    def _add(self, part: _Part) -> None:
        waiting = [one for one in self._parts if one.passes is None]
        if len(waiting) >= self._capacity:
            self._merge(waiting[-1], part)
            return
        insort(self._parts, part, key=lambda one: one.first)
        if part.part_id:
            self._known[part.part_id] = part

    def _merge(self, into: _Part, part: _Part) -> None:
        """What finds no room is rejected together with its neighbour, and all between them."""
        self._count("overflowed")
        into.first, into.last = min(into.first, part.first), max(into.last, part.last)
        into.forced, into.more = "more parts on the way than the capacity", into.more + 1 + part.more
        self._parts.sort(key=lambda one: one.first)

    def _decide(self, position: int) -> None:
        for part in self._parts:
            if self._begin(part) > position:
                break
            if part.passes is None:
                self._tell(part, self._fault(part, position))
        self._forget()

    def _fault(self, part: _Part, position: int) -> str:
        """Why a part whose window has begun does not pass; empty where it does."""
        if part.forced:
            return part.forced
        if position > self._end(part):
            self._count("missed")
            return "its window went by between two looks"
        if part.label is None:
            return "no verdict in time"
        return "" if part.label is Label.OK else f"the verdict is {part.label.value}"

    def _tell(self, part: _Part, fault: str) -> None:
        part.passes = not fault
        self._count("rejected" if fault else "passed", 1 + part.more)
        window = (self._counter.raw(self._begin(part)), self._counter.raw(self._end(part)))
        self._told.append(RejectDecision(part.part_id, bool(fault), fault or "OK in time", window, part.more))

    def _forget(self) -> None:
        """Parts whose windows lie more than distance back, and the oldest beyond the capacity."""
        self._floor = max(self._floor, self._highest - self._distance)
        decided = [part for part in self._parts if part.passes is not None]
        for part in decided[: max(0, len(decided) - self._capacity)]:
            self._floor = max(self._floor, self._end(part) + 1)
        gone = [part for part in decided if self._end(part) < self._floor]
        if not gone:
            return
        self._parts = [part for part in self._parts if part.passes is None or self._end(part) >= self._floor]
        for part in gone:
            if self._known.get(part.part_id) is part:
                del self._known[part.part_id]

    def _begin(self, part: _Part) -> int:
        return part.first - self._tolerance

    def _end(self, part: _Part) -> int:
        return part.last + self._tolerance

    def _count(self, what: str, by: int = 1) -> None:
        self._counts = replace(self._counts, **{what: getattr(self._counts, what) + by})
