"""Which picture belongs to which trigger: no device, only what one may send."""

from __future__ import annotations

import numpy as np
import pytest

from segdec_edge.cameras.accounting import Arrival, FreeRunning, HardwareTriggered, Result, SoftwareTriggered
from segdec_edge.errors import CameraLost, FrameLost
from segdec_edge.types import Frame

PIXELS = np.zeros((2, 2), np.uint8)
BROKEN = "incomplete: missing packets"


def came(frame_id: int | None, fault: str = "", wall_ns: int = 10**9) -> Arrival:
    return Arrival(frame_id, None if fault else PIXELS, fault, wall_ns, wall_ns, 0)


def told(results: list[Result]) -> list[tuple[int, bool]]:
    """(number, whether it is a frame) of each."""
    return [(one.sequence, isinstance(one, Frame)) for one in results]


def test_free_running_gives_the_newest_whole_picture_and_counts_the_rest() -> None:
    accounts = FreeRunning("GV1")
    assert told(accounts.take([came(7)])) == [(0, True)]
    newest = accounts.take([came(8), came(11, BROKEN), came(12), came(13, "aged")])
    assert told(newest) == [(1, True)]
    assert newest[0].source == "GV1#12"
    assert accounts.take([came(14, BROKEN)]) == []
    counters = accounts.counters
    assert (counters.frames, counters.incomplete, counters.gaps) == (2, 2, 2)
    assert counters.reasons == {"superseded": 1, BROKEN: 2, "aged": 1, "missing": 2}


@pytest.mark.parametrize(
    ("ids", "gaps"), [([65534, 65535, 1, 2], 0), ([65534, 1], 1), ([65535, 3], 2), ([70000, 70001], 0), ([0, 1], 0)]
)
def test_frame_ids_wrap_as_gige_vision_1_does(ids: list[int], gaps: int) -> None:
    accounts = FreeRunning("GV1")
    for one in ids:
        accounts.take([came(one)])
    assert accounts.counters.gaps == gaps


@pytest.mark.parametrize("ids", [[5, 5], [5, 4], [5, 3000], [70000, 5]])
def test_ids_that_cannot_be_counted_are_a_lost_camera(ids: list[int]) -> None:
    accounts = HardwareTriggered("GV1", first_id=1)
    accounts.take([came(ids[0])])
    with pytest.raises(CameraLost, match="jumped"):
        accounts.take([came(ids[1])])


def test_software_trigger_gets_its_own_picture() -> None:
    accounts = SoftwareTriggered("GV1")
    assert accounts.sent(1000, 7) == (0, True)
    assert accounts.due_since_ns() == 7
    assert told(accounts.take([came(1)])) == [(0, True)]
    assert accounts.due_since_ns() is None
    assert accounts.sent(2000, 8) == (1, True)
    assert told(accounts.take([came(2, BROKEN)])) == [(1, False)]


def test_trigger_while_another_waits_is_lost_and_not_sent() -> None:
    accounts = SoftwareTriggered("GV1")
    assert [accounts.sent(1000, 0) for _ in range(3)] == [(0, True), (1, False), (2, False)]
    results = accounts.take([came(1)])
    assert told(results) == [(0, True), (1, False), (2, False)]
    assert "busy" in str(results[1])
    assert accounts.sent(3000, 0) == (3, True)


def test_picture_without_a_trigger_is_never_the_next_triggers() -> None:
    accounts = SoftwareTriggered("GV1")
    assert accounts.take([came(1)]) == []
    accounts.sent(5 * 10**9, 0)
    assert accounts.take([came(2, wall_ns=4 * 10**9)]) == []  # it began to come before the trigger
    assert told(accounts.take([came(3, wall_ns=6 * 10**9)])) == [(0, True)]
    assert accounts.counters.reasons == {"unexpected": 2}


def test_picture_after_a_gap_may_be_another_triggers_and_is_lost() -> None:
    accounts = SoftwareTriggered("GV1")
    accounts.sent(1000, 0)
    accounts.take([came(1)])
    accounts.sent(1000, 0)
    assert told(accounts.take([came(3)])) == [(1, False)]


def test_abandoned_triggers_are_lost_each_once() -> None:
    accounts = SoftwareTriggered("GV1")
    accounts.sent(1000, 0)
    accounts.sent(1000, 0)
    results = accounts.abandon("no power", 9)
    assert told(results) == [(0, False), (1, False)]
    assert "no power" in str(results[0])
    assert accounts.abandon("no power", 9) == []
    assert accounts.counters.reasons == {"no picture": 1, "busy": 1}


def test_hardware_trigger_counts_every_missing_id() -> None:
    accounts = HardwareTriggered("GV1", first_id=1)
    assert told(accounts.take([came(1), came(2, BROKEN)])) == [(0, True), (1, False)]
    results = accounts.take([came(5)])
    assert told(results) == [(2, False), (3, False), (4, True)]
    assert all(isinstance(one, FrameLost) for one in results[:2])
    assert accounts.counters.triggers == 5
    assert accounts.counters.reasons == {BROKEN: 1, "missing": 2}


@pytest.mark.parametrize(("first", "seen", "lost"), [(1, 1, 0), (1, 3, 2), (0, 0, 0), (0, 2, 2), (1, 5000, 0)])
def test_first_picture_that_was_lost_whole_is_counted_where_ids_begin_anew(first: int, seen: int, lost: int) -> None:
    results = HardwareTriggered("GV1", first_id=first).take([came(seen)])
    assert told(results) == [*((number, False) for number in range(lost)), (lost, True)]


@pytest.mark.parametrize(
    ("ids", "lost"),
    [
        ([1, None, 3], [1]),
        ([1, None, 4], [1, 2]),
        ([65535, None, 2], [1]),
        ([None, 2], [0]),
        ([None, 3], [0, 1]),
        ([None, None, 9000, 9001], [0, 1]),
    ],
)
def test_picture_without_its_id_is_one_lost_trigger(ids: list[int | None], lost: list[int]) -> None:
    accounts = HardwareTriggered("GV1", first_id=1)
    results = [one for frame_id in ids for one in accounts.take([came(frame_id, "" if frame_id else BROKEN)])]
    assert [one.sequence for one in results] == list(range(len(results)))
    assert [one.sequence for one in results if isinstance(one, FrameLost)] == lost


def test_software_trigger_goes_on_after_a_picture_without_its_id() -> None:
    accounts = SoftwareTriggered("GV1")
    for frame_id, whole in ((7, True), (None, False), (9, True)):
        accounts.sent(1000, 0)
        (result,) = accounts.take([came(frame_id, "" if whole else BROKEN)])
        assert isinstance(result, Frame) is whole
