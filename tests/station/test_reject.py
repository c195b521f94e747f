"""The right part at the rejecter: on a simulated belt nothing passes that has not its own OK in time."""

from __future__ import annotations

import heapq
import random
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import pytest
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


def queue(**changes: int) -> RejectFifo:
    """Distance 100, tolerance 5, started at 0 with an empty belt."""
    made = RejectFifo(**({"distance": 100, "tolerance": 5} | changes))
    made.due(-1000)
    made.due(-950)
    for position in range(-900, 1, 50):
        made.due(position)
    return made


def at(made: RejectFifo, *positions: int) -> list[bool]:
    return [made.may_pass(position) for position in positions]


def test_an_ok_opens_its_own_window_and_nothing_else() -> None:
    made = queue()
    made.enter("a", 10)
    made.verdict("a", Label.OK)
    assert at(made, 50, 104, 105, 110, 115, 116) == [False, False, True, True, True, False]


def test_each_part_is_told_once_with_its_window() -> None:
    made = queue()
    for name, where in (("a", 10), ("b", 40)):
        made.enter(name, where)
    made.verdict("b", Label.DEFECT)
    made.verdict("a", Label.OK)
    assert made.due(104) == []
    assert made.due(105) == [RejectDecision("a", False, "OK in time", (105, 115))]
    assert made.due(120) == []
    assert made.due(140) == [RejectDecision("b", True, "the verdict is DEFECT", (135, 145))]
    assert made.due(200) == []


@pytest.mark.parametrize("label", [Label.DEFECT, Label.UNKNOWN, None])
def test_all_but_ok_is_rejected(label: Label | None) -> None:
    made = queue()
    made.enter("a", 10)
    if label is not None:
        made.verdict("a", label)
    assert at(made, 105, 110) == [False, False]
    assert [one.reject for one in made.due(110)] == [True]


def test_a_late_ok_changes_nothing_and_a_late_defect_closes() -> None:
    made = queue()
    for name, where in (("a", 10), ("b", 40)):
        made.enter(name, where)
    made.verdict("b", Label.OK)
    assert at(made, 106) == [False]
    made.verdict("a", Label.OK)
    assert at(made, 110, 136) == [False, True]
    made.verdict("b", Label.DEFECT)
    assert at(made, 138) == [False]
    assert made.counts.late == 2


@pytest.mark.parametrize("labels", [(Label.OK, Label.DEFECT), (Label.DEFECT, Label.OK), (Label.OK, Label.UNKNOWN)])
def test_of_two_verdicts_the_worse_one_holds(labels: tuple[Label, Label]) -> None:
    made = queue()
    made.enter("a", 10)
    for label in labels:
        made.verdict("a", label)
    assert at(made, 110) == [False]


def test_windows_that_touch_pass_only_where_both_are_ok() -> None:
    for second, expected in ((Label.OK, [True, True, True]), (Label.DEFECT, [True, False, False])):
        made = queue()
        made.enter("a", 10)
        made.enter("b", 18)
        made.verdict("a", Label.OK)
        made.verdict("b", second)
        assert at(made, 107, 114, 120) == expected


def test_two_parts_under_one_id_are_both_rejected() -> None:
    made = queue()
    made.enter("a", 10)
    made.verdict("a", Label.OK)
    made.enter("a", 60)
    made.verdict("a", Label.OK)
    assert at(made, 110, 160) == [False, False]
    assert made.counts.doubled == 1


def test_what_was_on_the_belt_before_the_start_is_rejected() -> None:
    made = RejectFifo(100, 5)
    made.due(1000)
    made.enter("a", 1020)
    made.verdict("a", Label.OK)
    assert at(made, 1000, 1050, 1099, 1105, 1117) == [False, False, False, False, True]
    told = RejectFifo(100, 5).due(1000)
    assert [(one.part_id, one.reject, one.window) for one in told] == [("", True, (995, 1105))]


def test_the_first_part_passes_where_its_trigger_is_the_first_reading() -> None:
    made = RejectFifo(100, 5)
    made.enter("a", 1000)
    made.verdict("a", Label.OK)
    assert at(made, 1094, 1095, 1105, 1106) == [False, True, True, False]


@pytest.mark.parametrize("jump", [10_000, -10_000])
def test_a_counter_that_jumps_rejects_all_on_the_way(jump: int) -> None:
    made = queue()
    made.enter("a", 10)
    made.enter("b", 60)
    made.verdict("a", Label.OK)
    told = made.due(60 + jump)
    assert {one.part_id for one in told} == {"a", "b", ""}
    assert all(one.reject for one in told)
    made.verdict("b", Label.OK)
    assert not any(at(made, *range(60 + jump, 170 + jump, 5)))
    assert made.counts.jumps == 1
    made.enter("c", 200 + jump)
    made.verdict("c", Label.OK)
    assert at(made, 250 + jump, 300 + jump) == [False, True]


def test_what_came_before_a_jump_back_never_opens_a_window_later() -> None:
    made = queue(max_step=60)
    for position in range(0, 200, 50):
        made.due(position)
    made.enter("old", 190)
    made.verdict("old", Label.OK)
    made.due(0)  # the encoder was reset
    assert not any(made.may_pass(position) for position in range(0, 400, 5))


def test_a_part_whose_window_nobody_watched_counts_as_rejected() -> None:
    made = queue(max_step=1000)
    made.enter("a", 10)
    made.verdict("a", Label.OK)
    (told,) = made.due(300)
    assert (told.reject, told.reason) == (True, "its window went by between two looks")
    assert made.counts.missed == 1


def test_parts_without_a_position_are_rejected_wherever_they_may_be() -> None:
    made = queue()
    made.enter("a", 10)
    made.enter("lost", None)
    made.enter("lost too", None)
    for name in ("a", "lost", "lost too"):
        made.verdict(name, Label.OK)
    made.enter("b", 60)
    made.verdict("b", Label.OK)
    made.enter("c", 80)
    made.verdict("c", Label.OK)
    assert not any(at(made, *range(60, 166, 5)))
    assert at(made, 180) == [True]
    assert made.counts.unplaced == 2
    assert [(one.part_id, one.reject, one.more) for one in made.due(180)] == [
        ("a", False, 0),
        ("lost", True, 1),
        ("b", False, 0),
        ("c", False, 0),
    ]


NO_COUNT = (None, 2.5, float("nan"), True, "7", b"7", [7], 2**32, -(2**31) - 1, 10**400)


@pytest.mark.parametrize("reading", NO_COUNT, ids=lambda reading: type(reading).__name__)
def test_what_is_no_count_opens_nothing_and_changes_nothing(reading: object) -> None:
    told: list[tuple[str, str]] = []
    made = queue(on_fault=lambda where, why: told.append((where, why)))
    other = queue()
    for one in (made, other):
        one.enter("a", 10)
        one.verdict("a", Label.OK)
    for position in range(90, 140, 5):
        assert made.due(reading) == []  # type: ignore[arg-type]
        assert not made.may_pass(reading)  # type: ignore[arg-type]
        assert made.due(position) == other.due(position)
        assert made.may_pass(position) == other.may_pass(position)
    assert [where for where, _ in told] == ["rejecter"] * 2 * 10
    assert [bool(why) for _, why in told] == [True, False] * 10
    assert made.counts.unread == 20


def test_a_part_whose_count_cannot_be_read_is_rejected_wherever_it_may_be() -> None:
    told: list[tuple[str, str]] = []
    made = queue(on_fault=lambda where, why: told.append((where, why)))
    made.enter("a", 10)
    for reading in (float("nan"), 2.5, "x"):
        made.enter("unread", reading)  # type: ignore[arg-type]
    made.enter("b", 60)
    for name in ("a", "unread", "b"):
        made.verdict(name, Label.OK)
    assert not any(at(made, *range(60, 166, 5)))
    assert (made.counts.unplaced, made.counts.unread) == (3, 3)
    assert [(where, bool(why)) for where, why in told] == [("trigger", True), ("trigger", False)]
    assert "wanted a whole number of 32 bits" in told[0][1]


def test_reverse_motion_leaves_decisions_as_they_are() -> None:
    made = queue()
    made.enter("a", 10)
    made.enter("b", 40)
    made.verdict("b", Label.OK)
    assert at(made, 110, 140) == [False, True]
    made.verdict("a", Label.OK)
    assert at(made, 120, 110, 60, 110, 140) == [False, False, False, False, True]
    for position in (170, 200, 230, 250):
        made.due(position)
    assert at(made, 200, 145, 140) == [False, False, False]  # farther back than the distance


def test_more_parts_than_the_capacity_are_rejected_together() -> None:
    made = queue(capacity=3, distance=1000)
    for number in range(10):
        made.enter(f"p{number}", number * 20)
        made.verdict(f"p{number}", Label.OK)
    assert made.counts.overflowed == 7
    seen = {number: made.may_pass(number * 20 + 1000) for number in range(10)}
    assert [number for number, passed in seen.items() if passed] == [0, 1]
    assert sum(1 + one.more for one in made.due(1200)) == 10


def test_memory_stays_bounded() -> None:
    made = RejectFifo(1000, 0, capacity=50)
    for position in range(4000):
        made.enter(f"p{position}", position)
        if position % 3:
            made.verdict(f"p{position}", Label.OK)
        made.may_pass(position)
    assert len(made._parts) <= 110
    assert len(made._known) <= 110
    assert len(made._told) <= 200


@pytest.mark.parametrize("bits", [8, 16])
def test_by_count_of_the_line_a_pocket_without_trigger_is_rejected(bits: int) -> None:
    """Steps of a wheel: tolerance 0, the counter of the line starts again at 0 after 256 steps."""
    made = RejectFifo(12, counter_bits=bits)
    passed = []
    for step in range(600):
        if step % 7:
            made.enter(f"p{step}", step % (1 << bits))
            made.verdict(f"p{step}", Label.DEFECT if step % 5 == 0 else Label.OK)
        if made.may_pass(step % (1 << bits)):
            passed.append(step - 12)
    assert passed == [step for step in range(588) if step % 7 and step % 5]


def test_a_window_that_was_open_before_a_jump_does_not_open_again() -> None:
    made = queue()
    made.enter("a", 10)
    made.verdict("a", Label.OK)
    assert at(made, 110) == [True]
    made.due(-10_000)
    for position in range(-9950, 110, 50):
        made.due(position)
    assert at(made, 105, 110, 115) == [False, False, False]


def test_far_back_a_forgotten_reject_does_not_open_its_neighbours_window() -> None:
    made = queue()
    made.enter("bad", 10)
    made.enter("good", 18)
    made.verdict("bad", Label.DEFECT)
    made.verdict("good", Label.OK)
    assert at(made, 114, 120) == [False, True]
    made.due(200)
    assert at(made, 218, 121, 114) == [False, True, False]
