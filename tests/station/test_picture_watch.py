"""Pictures that show nothing, part after part: UNKNOWN each, one line, and an alarm that says what to do."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.station.alarms import Alarms
from segdec_edge.station.picture_watch import IN_A_ROW, PictureWatch
from segdec_edge.types import Frame
from tests.fakes import FAKE_SPEC, FakeBackend, level
from tests.station.scripted import GOOD, Line, LineCamera, TriggeredLine, running, shoot, wait_until

CAP = -1


class CappedCamera(LineCamera):
    def frame(self, value: int, number: int, source: str) -> Frame:
        frame = super().frame(max(value, 0), number, source)
        if value != CAP:
            return frame
        covered = np.zeros((40, 60), np.uint8)
        covered.flat[: number % 7] = 3  # its noise, so that each has another contrast
        return replace(frame, pixels=covered)


class CappedLine(Line):
    def open(self) -> CappedCamera:
        super().open()
        return CappedCamera(self, self.opened - 1)


LOSSLESS = {"policy": "lossless", "timeout_s": 30.0, "queue": 400}


@pytest.mark.parametrize("settings", [LOSSLESS, {"policy": "latest", "timeout_s": 30.0}])
def test_a_covered_lens_is_one_line_and_an_alarm_until_it_sees_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: dict[str, object]
) -> None:
    line = CappedLine([[GOOD] * 3 + [CAP] * 60 + ["hang"] + [GOOD] * 3 + ["idle"]], pause_s=0.005)
    with running(tmp_path, {"camera": line}, **settings) as one:
        wait_until(lambda: "pictures camera" in one.active())
        (alarm,) = one.alarms.active()
        assert f"no usable picture {IN_A_ROW} times in a row" in alarm.message
        assert "a picture without contrast" in alarm.message
        assert "Check light, exposure and lens cap." in alarm.message
        line.release.set()
        wait_until(lambda: not one.active())
    assert one.seen.labels()[-1] == "OK"
    unknown = [row for row in one.rows if row.verdict == "UNKNOWN"]
    assert all(f"{row.source}: a picture without contrast" in row.reason for row in unknown)
    assert len({row.reason for row in unknown}) == len(unknown) > IN_A_ROW
    assert caplog.text.count("is UNKNOWN: ") == 1
    assert caplog.text.count("alarm pictures camera: ") == 1


def test_pictures_of_another_size_than_trained_on_are_told(tmp_path: Path) -> None:
    line = Line([[GOOD] * 9 + ["idle"]])
    backend = FakeBackend(level, replace(FAKE_SPEC, source_hw=((32, 32), (32, 32))))
    with running(tmp_path, {"camera": line}, lambda: backend, **LOSSLESS) as one:
        wait_until(lambda: "pictures camera" in one.active())
        (alarm,) = one.alarms.active()
        assert "trained on 32x32" in alarm.message
        wait_until(lambda: len(one.seen.verdicts) == 9)
    assert one.seen.labels() == ["UNKNOWN"] * 9


def test_two_cameras_with_their_own_faults_are_a_line_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = {"left": CappedLine([[CAP] * 30 + ["idle"]]), "right": Line([["lost"] * 30 + ["idle"]])}
    with running(tmp_path, lines, **LOSSLESS) as one:
        wait_until(lambda: len(one.seen.verdicts) == 60)
        assert one.active() == {"pictures left", "pictures right"}
    assert caplog.text.count("is UNKNOWN: ") == 2


@pytest.mark.parametrize("settings", [LOSSLESS, {"policy": "latest", "timeout_s": 30.0}])
def test_frames_of_which_none_comes_whole_are_told(tmp_path: Path, settings: dict[str, object]) -> None:
    line = Line([["lost"] * 9 + ["hang"] + [GOOD] * 3 + ["idle"]])
    with running(tmp_path, {"camera": line}, **settings) as one:
        wait_until(lambda: "pictures camera" in one.active())
        line.release.set()
        wait_until(lambda: not one.active())


def test_triggers_that_bring_no_whole_picture_are_told(tmp_path: Path) -> None:
    line = TriggeredLine([["lost"] * 5 + [GOOD] * 9])
    with running(tmp_path, {"camera": line}, trigger="software", timeout_s=2.0) as one:
        shoot(one, 5)
        (alarm,) = one.alarms.active()
        assert alarm.name == "pictures camera" and alarm.message.endswith("The last: half of it came")
        shoot(one)
        assert not one.active()


def test_one_unusable_picture_now_and_then_is_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    alarms = Alarms()
    watch = PictureWatch(alarms)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            for _ in range(IN_A_ROW - 1):
                watch.unusable("left", "dark")
                watch.unusable("right", "dark")
            watch.usable("left")
        assert [alarm.name for alarm in alarms.active()] == ["pictures right"]
        watch.usable("right")
    assert not alarms.active()
    assert caplog.text.count("alarm pictures") == 2
