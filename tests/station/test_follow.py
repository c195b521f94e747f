"""What follows a verdict keeps to the parts' order, whenever their verdicts come."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from segdec_edge.config.rules import DebounceConfig
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.events import CameraState
from segdec_edge.station.follow import Follower
from segdec_edge.station.part import Part
from segdec_edge.types import Label, Pixels, Verdict
from tests.fakes import FakeBackend, level
from tests.station.scripted import GOOD, Line, running, wait_until


@pytest.mark.parametrize("waiting", [False, True])
def test_debounce_starts_anew_when_its_camera_was_lost(tmp_path: Path, waiting: bool) -> None:
    """Two frames of the next camera object do not fill a window of three, whatever was seen before; also where frames
    from before are judged only after the loss.
    """
    line, told = Line([[GOOD] * 5 + ["hang", "gone"], [GOOD] * 2 + ["idle"]]), list[str]()
    judge = threading.Event()

    def judged(picture: Pixels) -> float:
        judge.wait(20.0)
        return level(picture)

    with running(tmp_path, {"camera": line}, lambda: FakeBackend(judged), ready=False, timeout_s=30.0) as one:
        wait_until(one.station.ready.is_set)
        one.station.follower = Follower(
            one.alarms,
            lambda kind, text, camera: told.append(text),
            debounce=DebounceConfig(frames=3, defects=2),
            free=["camera"],
        )
        assert one.station.follower.event("camera") is Label.UNKNOWN
        line.go.set()
        if waiting:
            wait_until(lambda: one.station._grabs["camera"].frames == 5)
        else:
            judge.set()
            wait_until(lambda: len(one.seen.verdicts) == 5 and told)
            assert one.station.follower.event("camera") is Label.OK
        line.release.set()
        wait_until(lambda: any(event.state is CameraState.LOST for event in one.events))
        judge.set()
        wait_until(lambda: len(one.seen.verdicts) == 7 and line.opened == 2)
    assert one.seen.labels() == ["OK"] * 7
    assert one.station.follower.event("camera") is Label.UNKNOWN
    assert told == ([] if waiting else ["OK: 0 of the last 3 frames not OK"])


def good_part(number: int, at_s: float) -> tuple[Part, Verdict]:
    at_ns = time.monotonic_ns() + round(at_s * 1e9)
    part = Part(f"p-{number}", "camera", number, opened_ns=at_ns, opened_wall_ns=0, deadline_ns=0)
    return part, Verdict(part.part_id, number, Label.OK, 0.1, 0.5, "", 0, 0, 1.0, "ab", "x")


@pytest.mark.parametrize("late_by_s", [1.0, 1.3])
def test_debounce_starts_anew_where_no_frame_was_looked_at_for_long(late_by_s: float) -> None:
    """A camera that stalls, or a backend that hangs, is no lost one; what stood there may have gone all the same."""
    told = list[str]()
    one = Follower(
        Alarms(),
        lambda kind, text, camera: told.append(text),
        debounce=DebounceConfig(frames=3, defects=2, gap_s=1.2),
        free=["camera"],
    )
    for number in range(3):
        one.decided(*good_part(number, -100 - late_by_s))
    assert one.event("camera") is Label.UNKNOWN  # nobody looks any more
    assert told == ["OK: 0 of the last 3 frames not OK"]
    one.decided(*good_part(3, -100.0))
    one.decided(*good_part(4, 0.0))
    one.decided(*good_part(5, 0.1))
    assert one.event("camera") is Label.UNKNOWN
    one.decided(*good_part(6, 0.2))
    assert one.event("camera") is Label.OK
    assert [text.split(" ")[0] for text in told] == ["OK:", "UNKNOWN:", "OK:"]
    gap_s = 100.0 if late_by_s < 1.2 else late_by_s
    assert told[1] == f"UNKNOWN: no frame was looked at for {gap_s:.1f} s"
