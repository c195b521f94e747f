"""Pictures that the archive cannot take: counted, one alarm, and nothing waits for them."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.outputs.archive import Archive
from segdec_edge.station import keeper as module
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.keeper import Keeper
from segdec_edge.station.recorder import CAPACITY
from segdec_edge.types import Frame
from tests.station.scripted import BAD, GOOD, Line, running, wait_until

FRAME = Frame(np.zeros((8, 8), np.uint8), 0, 1, 1, "x")
CAMERAS = 8
PARTS = 60


class Stuck(Archive):
    """Keeps one picture after another, each once it may: as a network drive that does not answer."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "all")
        self.may = threading.Event()

    def write(self, verdict, frame) -> None:
        self.may.wait(60.0)
        super().write(verdict, frame)


def test_an_archive_that_hangs_holds_up_no_verdict_and_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALM_S", 0.2)
    archive = Stuck(tmp_path / "archive")
    lines = {f"c{number}": Line([[GOOD, BAD] * (PARTS // 2) + ["idle"]], pause_s=0.02) for number in range(CAMERAS)}
    with running(tmp_path, lines, archive=archive, policy="lossless", queue=64, timeout_s=60.0) as one:
        wait_until(lambda: len(one.seen.verdicts) == CAMERAS * PARTS, 60.0)
        wait_until(lambda: len(one.rows) == CAMERAS * PARTS, 60.0)
        assert not archive.may.is_set()
        assert one.active() == {"archive"}
        kept_later = one.station.summary().archive_failures
        assert CAMERAS * PARTS - CAPACITY - 1 <= kept_later < CAMERAS * PARTS
        archive.may.set()
        wait_until(lambda: not one.active())
    assert one.seen.labels() == ["OK", "DEFECT"] * (CAMERAS * PARTS // 2)
    assert one.station.summary().archive_failures == kept_later
    kept = len(list((tmp_path / "archive").rglob("*.png")))
    assert kept + kept_later == CAMERAS * PARTS
    (alarm,) = one.alarms.known()
    assert re.search(r"its picture is not kept: more pictures than it can take\. Keep fewer", alarm.message)


def test_kept_and_missed_pictures_in_turn_are_one_alarm(
    tmp_path: Path, make_verdict, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "CALM_S", 60.0)
    alarms, kept = Alarms(), threading.Semaphore(0)
    keeper = Keeper(Archive(tmp_path, "all"), alarms, lambda: kept.release())
    keeper.start()
    for number in range(10):
        keeper.miss(make_verdict(number))
        keeper.put(make_verdict(number), FRAME)
        assert kept.acquire(timeout=10.0)
        assert [alarm.name for alarm in alarms.active()] == ["archive"]
    monkeypatch.setattr(module, "CALM_S", 0.0)
    keeper.put(make_verdict(10), FRAME)
    assert kept.acquire(timeout=10.0)
    assert not alarms.active()
    keeper.close(10.0)
    assert keeper.failures == 10
    assert caplog.text.count("alarm archive: ") == 1
    assert caplog.text.count("alarm archive cleared: pictures are kept again; 10 were not") == 1


def test_a_bug_in_the_archive_is_an_alarm_with_its_traceback(
    tmp_path: Path, make_verdict, caplog: pytest.LogCaptureFixture
) -> None:
    class Buggy(Archive):
        def write(self, verdict, frame) -> None:
            raise ZeroDivisionError("bug")

    alarms = Alarms()
    keeper = Keeper(Buggy(tmp_path, "all"), alarms, lambda: None)
    keeper.start()
    for number in range(3):
        keeper.put(make_verdict(number), FRAME)
    keeper.close(10.0)
    assert keeper.failures == 3
    assert "not kept: ZeroDivisionError: bug" in alarms.active()[0].message
    assert caplog.text.count("Traceback") == 1
