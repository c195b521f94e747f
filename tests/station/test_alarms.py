"""Alarms, the books, and the watch that looks after both."""

from __future__ import annotations

import threading
import time

import pytest

from segdec_edge.station.alarms import Alarm, Alarms
from segdec_edge.station.books import PERIOD_S, Balance, Books
from segdec_edge.station.supervisor import TICK_S, Turn, Watch, join_all, start_thread
from tests.station.scripted import wait_until

STEP_NS = round(PERIOD_S * 1e9)


def test_alarm_is_counted_told_once_a_raise_and_cleared(caplog: pytest.LogCaptureFixture) -> None:
    alarms, heard = Alarms(), list[Alarm]()
    alarms.listen(heard.append)
    for message in ("first", "second"):
        alarms.raised("ledger", message)
    (active,) = alarms.active()
    assert (active.name, active.message, active.count) == ("ledger", "second", 2)
    alarms.cleared("ledger", "fine")
    alarms.cleared("ledger")
    alarms.cleared("nobody")
    assert not alarms.active()
    alarms.raised("ledger", "again")
    assert alarms.known()[0].count == 3
    assert [alarm.active for alarm in heard] == [True, False, True]
    assert caplog.text.count("alarm ledger: ") == 2
    assert caplog.text.count("alarm ledger cleared") == 1


def test_time_of_an_alarm_is_that_of_its_raising() -> None:
    alarms = Alarms()
    alarms.raised("a", "x")
    raised_ns = alarms.active()[0].raised_ns
    time.sleep(0.002)
    alarms.raised("a", "x")
    assert alarms.active()[0].raised_ns == raised_ns


def test_a_gap_in_the_books_that_stays_is_an_alarm_and_a_passing_one_is_none() -> None:
    alarms, left = Alarms(), {"now": 10}
    books = Books(lambda: [Balance("camera", left["now"], 10, "triggers and parts")], alarms)
    for step in range(20):
        left["now"] = 10 + step % 2  # counters read at two instants
        books.check(step * STEP_NS)
    assert not alarms.known()
    left["now"] = 12
    for step in range(20, 26):
        books.check(step * STEP_NS)
    assert [alarm.name for alarm in alarms.active()] == ["books camera triggers and parts"]
    assert "12 and 10, +2 parts" in alarms.active()[0].message
    left["now"] = 10
    books.check(30 * STEP_NS)
    assert not alarms.active()


def test_watch_keeps_its_appointments_and_survives_a_fault() -> None:
    seen, faults, due = list[int](), list[Exception](), {"at": None}

    def check(now_ns: int) -> int | None:
        seen.append(now_ns)
        return due["at"]

    def broken(now_ns: int) -> int | None:
        raise ZeroDivisionError

    watch = Watch([broken, check], faults.append)
    watch.start()
    wait_until(lambda: len(seen) > 2)
    for _ in range(5):  # one that falls into the sleep of the watch
        due["at"] = time.monotonic_ns() + 3_000_000
        watch.wake_by(due["at"])
        wait_until(lambda: seen[-1] >= due["at"])
    watch.stop(5.0)
    assert faults
    count = len(seen)
    time.sleep(3 * TICK_S)
    assert len(seen) == count


def test_turn_tells_the_call_that_hangs() -> None:
    turn = Turn()
    assert turn.overdue(time.monotonic_ns()) is None
    turn.begin("read", 0.5)
    now_ns = time.monotonic_ns()
    assert turn.overdue(now_ns) is None
    assert turn.overdue(now_ns + 600_000_000) == "read"
    assert turn.limit_s == 0.5
    turn.done()
    assert turn.overdue(now_ns + 600_000_000) is None


def test_thread_that_does_not_end_is_named(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()
    stuck = start_thread("camera left", lambda: release.wait(10.0) and None)
    quick = start_thread("quick", lambda: None)
    assert join_all([stuck, quick], 0.05) == ["camera left"]
    assert "camera left" in caplog.text
    release.set()
    assert join_all([stuck], 5.0) == []
