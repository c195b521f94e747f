"""Outputs: a slow or broken one holds up nobody, and what it was not told is an alarm."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from segdec_edge.errors import OutputError
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.outlet import Outlet
from tests.station.scripted import GOOD, Line, Seen, running, wait_until


class Stuck(Seen):
    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def write(self, verdict, frame) -> None:
        self.release.wait(30.0)
        super().write(verdict, frame)


class Failing(Seen):
    error: Exception | None = None

    def write(self, verdict, frame) -> None:
        if self.error is not None:
            raise self.error
        super().write(verdict, frame)


def test_hanging_output_holds_up_neither_the_line_nor_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("segdec_edge.station.loop._CLOSE_S", 0.2)
    stuck, line = Stuck(), Line([[GOOD] * 400 + ["idle"]])
    settings = {"policy": "lossless", "queue": 500, "timeout_s": 30.0}
    with running(tmp_path, {"camera": line}, outputs={"stuck": stuck}, **settings) as one:
        wait_until(lambda: len(one.seen.verdicts) == 400)
        assert one.active() == {"output stuck"}
        began = time.monotonic()
        one.end()
        assert time.monotonic() - began < 5.0
    stuck.release.set()
    assert "abandoned after 0.2 s: output stuck" in caplog.text
    assert len(one.rows) == 400


@pytest.mark.parametrize("error", [OutputError("no broker"), ZeroDivisionError("bug")])
def test_failing_output_is_an_alarm_until_it_works_again(error: Exception, make_verdict) -> None:
    alarms, failing = Alarms(), Failing()
    outlet = Outlet("mqtt", failing, alarms)
    outlet.start()
    failing.error = error
    outlet.put(make_verdict(0), None)
    wait_until(lambda: outlet.lost == 1)
    wait_until(lambda: [alarm.name for alarm in alarms.active()] == ["output mqtt"])
    assert "run-000000" in alarms.active()[0].message
    failing.error = None
    outlet.put(make_verdict(1), None)
    wait_until(lambda: outlet.sent == 1)
    outlet.close(5.0)
    assert not alarms.active()


class OneByOne(Seen):
    """Takes a verdict for each permit."""

    def __init__(self) -> None:
        super().__init__()
        self.permits = threading.Semaphore(0)

    def write(self, verdict, frame) -> None:
        self.permits.acquire()
        super().write(verdict, frame)


def test_an_output_too_slow_for_a_burst_is_one_alarm_until_nothing_waits(make_verdict) -> None:
    alarms, slow, told = Alarms(), OneByOne(), []
    alarms.listen(lambda alarm: told.append(alarm.active))
    outlet = Outlet("plc", slow, alarms, capacity=5)
    outlet.start()
    for taken in range(1, 4):  # taken and lost ones alternate
        for number in range(10):
            outlet.put(make_verdict(number), None)
        slow.permits.release()
        wait_until(lambda taken=taken: outlet.sent == taken)
    assert told == [True]
    slow.permits.release(100)
    wait_until(lambda: told == [True, False])
    outlet.close(5.0)


def test_it_is_told_before_the_row_is_written(tmp_path: Path) -> None:
    with running(tmp_path, {"camera": Line([[GOOD, "idle"]])}, policy="lossless", timeout_s=30.0) as one:
        wait_until(lambda: one.seen.verdicts)
        wait_until(lambda: one.rows)
    assert [row.part_id for row in one.rows] == [one.seen.verdicts[0].part_id]
