"""The right part at the rejecter: on a simulated belt nothing passes that has not its own OK in time."""

from __future__ import annotations

import heapq
import random
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from hypothesis import given, settings
from hypothesis import strategies as st

from segdec_edge.station.reject import RejectDecision, RejectFifo
from segdec_edge.types import Label

RANGE = 1 << 32


class Queue(Protocol):
    def enter(self, part_id: str, reading: int | None) -> None: ...
    def verdict(self, part_id: str, label: Label) -> None: ...
    def due(self, reading: int) -> list[RejectDecision]: ...
    def may_pass(self, reading: int) -> bool: ...


class CountsItsOwnTriggers:
    """What many lines do: what arrives is the oldest one triggered. Wrong after one skipped trigger."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        self._labels: dict[str, Label] = {}

    def enter(self, part_id: str, reading: int | None) -> None:
        self._waiting.append(part_id)

    def verdict(self, part_id: str, label: Label) -> None:
        self._labels[part_id] = label

    def due(self, reading: int) -> list[RejectDecision]:
        return []

    def may_pass(self, reading: int) -> bool:
        return bool(self._waiting) and self._labels.get(self._waiting.popleft()) is Label.OK


@dataclass
class Part:
    """One thing on the belt: at belt position x, seen by the trigger and by the rejecter a little off it."""

    x: int
    defective: bool
    triggers: list[int]
    arrival: int
    entered: list[str] = field(default_factory=list)
    in_time: set[str] = field(default_factory=set)
    passed: bool | None = None
    pushed: bool = False

    @property
    def deserves_to_pass(self) -> bool:
        return bool(self.entered) and not self.defective and all(name in self.in_time for name in self.entered)


@dataclass
class Line:
    """A belt with a trigger at 0 and a rejecter `distance` on; the encoder wraps in the middle of the run."""

    rng: random.Random
    count: int
    distance: int = 1500
    tolerance: int = 8
    jitter: int = 3
    slip: int = 5
    least_gap: int = 24
    skipped: float = 0.04
    doubled: float = 0.02
    late: float = 0.04
    reverse: float = 0.002
    start: int = RANGE - 200_000
    empty: bool = False

    def parts(self) -> list[Part]:
        x, made = 30 if self.empty else -self.distance, []
        for _ in range(self.count):
            x += self.least_gap + int(self.rng.expovariate(1 / 150))
            where = x + self.rng.randint(-self.jitter, self.jitter)
            triggers = [] if x <= 30 or self.rng.random() < self.skipped else [where]
            if triggers and self.rng.random() < self.doubled:
                triggers.append(x + self.jitter)
            arrival = x + self.distance + self.rng.randint(-self.slip, self.slip)
            made.append(Part(x, self.rng.random() < 0.2, triggers, arrival))
        return made

    def run(self, queue: Queue) -> list[Part]:
        parts = self.parts()
        triggers = sorted((where, index) for index, part in enumerate(parts) for where in part.triggers)
        arrivals = sorted((part.arrival, index) for index, part in enumerate(parts))
        events = sorted([(at, 0, index) for at, index in triggers] + [(at, 1, index) for at, index in arrivals])
        keys = [at for at, _, _ in events]
        verdicts: list[tuple[int, int, str, Label]] = []
        pushes: deque[tuple[int, int]] = deque(maxlen=64)
        position, travelled, names = 0, 0, 0
        open_until: dict[str, int] = {}  # parts whose window no look has reached yet

        def look(where: int) -> int:
            for name in [name for name, begin in open_until.items() if begin <= where]:
                del open_until[name]
            return (self.start + where) % RANGE

        queue.due(look(0))
        while position <= arrivals[-1][0]:
            forward = self.rng.random() >= self.reverse
            step = self.rng.randint(1, 40) if forward else -self.rng.randint(1, 150)
            low, position = position, position + step
            travelled += abs(step)
            while verdicts and verdicts[0][0] <= travelled:
                _, owner, name, label = heapq.heappop(verdicts)
                queue.verdict(name, label)
                if label is Label.OK and name in open_until:
                    parts[owner].in_time.add(name)
            for at, kind, index in events[bisect_right(keys, low) : bisect_right(keys, max(low, position))]:
                part = parts[index]
                if kind == 0:
                    names += 1
                    queue.enter(f"p{names}", (self.start + at) % RANGE)
                    part.entered.append(f"p{names}")
                    open_until[f"p{names}"] = at + self.distance - self.tolerance
                    if (verdict := self._verdict(part, travelled)) is not None:
                        heapq.heappush(verdicts, (verdict[0], index, f"p{names}", verdict[1]))
                elif part.passed is None:
                    here = look(at)
                    part.passed = queue.may_pass(here)
                    pushes.extend(one.window for one in queue.due(here) if one.reject)
                    part.pushed = any((here - a) % RANGE <= (b - a) % RANGE for a, b in pushes)
            pushes.extend(one.window for one in queue.due(look(position)) if one.reject)
        return parts

    def _verdict(self, part: Part, travelled: int) -> tuple[int, Label] | None:
        if self.rng.random() < self.late / 2:
            return None
        late = self.rng.random() < self.late / 2
        reach = self.distance + 2 * self.tolerance if late else 0
        delay = reach + self.rng.randint(5, self.distance + 100 if late else self.distance - 200)
        label = Label.DEFECT if part.defective else Label.UNKNOWN if self.rng.random() < 0.02 else Label.OK
        return travelled + delay, label


def test_of_twelve_thousand_parts_the_right_ones_are_rejected() -> None:
    line = Line(random.Random(5), 12_000)
    queue = RejectFifo(line.distance, line.tolerance)
    parts = line.run(queue)
    assert [part.passed for part in parts] == [part.deserves_to_pass for part in parts]
    # A pusher acts on what was triggered; what was not, only a gate that is closed by default can stop.
    assert all(part.pushed for part in parts if part.entered and not part.deserves_to_pass)
    assert not any(part.pushed for part in parts if part.deserves_to_pass)
    counts = queue.counts
    assert min(counts.passed, counts.rejected, counts.late, sum(not part.entered for part in parts)) > 100
    assert sum(len(part.entered) > 1 for part in parts) > 100  # triggered twice, or again after reverse motion
    assert (counts.jumps, counts.missed, counts.overflowed) == (0, 0, 0)
    assert parts[-1].arrival + line.start > RANGE  # the encoder did wrap


def test_the_simulated_belt_finds_out_a_queue_that_counts_its_own_triggers() -> None:
    parts = Line(random.Random(5), 2000).run(CountsItsOwnTriggers())
    assert sum(part.defective and bool(part.passed) for part in parts) > 100
    straight = Line(random.Random(5), 2000, skipped=0, doubled=0, late=0, reverse=0, start=0, empty=True)
    parts = straight.run(CountsItsOwnTriggers())
    assert sum(bool(part.passed) for part in parts) > 1000
    assert not any(part.passed and part.defective for part in parts)


@settings(max_examples=25)
@given(
    st.integers(0, 2**32),
    st.integers(0, RANGE - 1),
    st.integers(300, 5000),
    st.integers(0, 30),
    st.sampled_from([0.0, 0.01, 0.1]),
    st.sampled_from([0.0, 0.05, 0.5]),
)
def test_nothing_bad_passes_on_any_belt(
    seed: int, start: int, distance: int, wobble: int, reverse: float, skipped: float
) -> None:
    rng = random.Random(seed)
    jitter = rng.randint(0, wobble)
    line = Line(rng, 40, distance, wobble, jitter, wobble - jitter, 3 * wobble + 3, skipped, 0.1, 0.2, reverse, start)
    queue = RejectFifo(distance, wobble, max_step=max(distance, 400))
    parts = line.run(queue)
    assert not any(part.passed and not part.deserves_to_pass for part in parts)
