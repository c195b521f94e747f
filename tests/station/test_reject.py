"""The queue before the rejecter: each part in its own window, and rejected wherever anything is in doubt."""

from __future__ import annotations

import pytest

from segdec_edge.station.reject import RejectDecision, RejectFifo
from segdec_edge.types import Label


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
