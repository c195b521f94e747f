"""A camera under supervision: it dies, hangs, comes back, and no part is lost or judged twice."""

from __future__ import annotations

import itertools
import logging
import time
from pathlib import Path

import pytest

from segdec_edge.errors import CameraError
from segdec_edge.station.events import CameraState
from tests.station.scripted import BAD, GOOD, Line, running, wait_until

FOREVER = itertools.repeat(GOOD)


def test_parts_count_on_over_every_rebuild(tmp_path: Path) -> None:
    line = Line([[GOOD, BAD, "gone"], [GOOD, "lost", GOOD, "gone"], [BAD, GOOD, "idle"]])
    with running(tmp_path, {"camera": line}, policy="lossless", timeout_s=30.0) as station:
        wait_until(lambda: len(station.seen.verdicts) == 7)
        wait_until(lambda: not station.active())
    assert station.seen.labels() == ["OK", "DEFECT", "OK", "UNKNOWN", "OK", "DEFECT", "OK"]
    assert [row.sequence for row in station.rows] == list(range(7))
    assert [row.source for row in station.rows if row.verdict == "DEFECT"] == ["life 0 frame 1", "life 2 frame 0"]
    assert (line.opened, line.closed) == (3, 3)
    assert not station.error


def test_states_are_events_with_durations_and_reasons(tmp_path: Path) -> None:
    line = Line([[GOOD, "gone"], [GOOD, "idle"]])
    with running(tmp_path, {"camera": line}, policy="lossless", timeout_s=30.0) as station:
        wait_until(lambda: len(station.seen.verdicts) == 2)
    states = [event.state for event in station.events]
    opening, run, lost, back = CameraState.OPENING, CameraState.RUNNING, CameraState.LOST, CameraState.BACK_OFF
    assert states == [opening, run, lost, back, opening, run, CameraState.ENDED]
    assert "plug was pulled" in station.events[2].reason
    assert station.events[4].before is back
    assert 0.02 <= station.events[4].seconds < 1.0
    assert all(before.state is after.before for before, after in itertools.pairwise(station.events))


@pytest.mark.parametrize("fault", ["gone", "hang", "bug"])
def test_a_faulty_camera_holds_up_no_other(tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    broken = Line([[GOOD, fault], [BAD, "idle"]])
    lines = {"broken": broken, "sound": Line([FOREVER])}
    with running(tmp_path, lines, policy="lossless", deadline_ms=5000.0) as station:
        wait_until(lambda: len(station.seen.of("broken")) == 2)
        before = len(station.seen.of("sound"))
        wait_until(lambda: len(station.seen.of("sound")) > before + 5)
        broken.release.set()
    assert [verdict.sequence for verdict in station.seen.of("broken")] == [0, 1]
    assert len(station.rows) == len(station.seen.verdicts)
    sound = sorted(verdict.sequence for verdict in station.seen.of("sound"))
    assert sound == list(range(len(sound)))
    assert ("Traceback" in caplog.text) == (fault == "bug")
    assert station.alarms.known()[0].name == "camera broken"


def test_what_a_hung_read_gives_in_the_end_is_not_judged(tmp_path: Path) -> None:
    class Late(Line):
        def act(self, action: object) -> None:
            if action == 13:
                self.release.wait(30.0)

    line = Late([[GOOD, 13], [BAD, "idle"]])
    with running(tmp_path, {"camera": line}, policy="lossless") as station:
        wait_until(lambda: len(station.seen.verdicts) == 2)
        line.release.set()
        wait_until(lambda: line.closed == 1)
    assert [row.source for row in station.rows] == ["life 0 frame 0", "life 1 frame 0"]


@pytest.mark.parametrize("where", ["open_with", "close_with"])
def test_hang_in_open_or_close_is_left_behind(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("segdec_edge.station.feed.OPEN_LIMIT_S", 0.1)
    monkeypatch.setattr("segdec_edge.station.feed.CALL_LIMIT_S", 0.1)
    line = Line([[GOOD, "gone"], [GOOD, "idle"]])
    setattr(line, where, ["hang"])
    with running(tmp_path, {"camera": line}, policy="lossless", timeout_s=30.0) as station:
        wait_until(lambda: line.opened >= 2 and station.station.states()["camera"] is CameraState.RUNNING)
        wait_until(lambda: station.seen.verdicts)
    assert "thread abandoned" in caplog.text
    assert not station.error


def test_threads_that_hang_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segdec_edge.station.feed.OPEN_LIMIT_S", 0.02)
    monkeypatch.setattr("segdec_edge.station.feed.HUNG_THREADS", 2)
    line = Line([[GOOD, "idle"]], open_with=["hang"] * 100)
    with running(tmp_path, {"camera": line}, policy="lossless", backoff_s=(0.05, 0.05)) as station:
        wait_until(lambda: line.opened == 2)
        time.sleep(0.3)
        assert line.opened == 2
        line.release.set()
        wait_until(lambda: station.seen.verdicts)


def test_silence_is_a_stall_and_then_a_loss(tmp_path: Path) -> None:
    line = Line([[GOOD, "hang"], [GOOD, "idle"]])
    with running(tmp_path, {"camera": line}, policy="lossless", timeout_s=0.1) as station:
        wait_until(lambda: len(station.seen.verdicts) == 2)
    states = [event.state for event in station.events]
    assert states[2:4] == [CameraState.STALLED, CameraState.LOST]


def test_camera_that_says_idle_too_long_is_lost_only_where_frames_are_due(tmp_path: Path) -> None:
    free, waiting = Line([[GOOD, "idle"]]), Line([[GOOD, "idle"]])
    with running(tmp_path / "a", {"camera": free}, policy="lossless", timeout_s=0.1):
        wait_until(lambda: free.opened > 2)
    with running(tmp_path / "b", {"camera": waiting}, policy="lossless", timeout_s=0.1, trigger="hardware"):
        time.sleep(0.5)
        assert waiting.opened == 1


def test_missing_frame_numbers_are_unknown_parts_and_repeated_ones_none(tmp_path: Path) -> None:
    line = Line([[GOOD, "gap", BAD, "repeat", GOOD, "idle"]])
    with running(tmp_path, {"camera": line}, policy="lossless", trigger="hardware") as station:
        wait_until(lambda: len(station.seen.verdicts) == 6)
    assert station.seen.labels() == ["OK", "UNKNOWN", "UNKNOWN", "UNKNOWN", "DEFECT", "OK"]
    assert station.station.summary().dropped == {"given before": 1}
    assert "gap in the camera's frame numbers" in station.rows[1].reason


def test_waits_grow_and_start_again_after_a_frame(tmp_path: Path) -> None:
    line = Line([["gone"]] * 4 + [[GOOD, "gone"], [GOOD, "idle"]])
    with running(tmp_path, {"camera": line}, policy="lossless", timeout_s=30.0, backoff_s=(0.05, 0.2)) as station:
        wait_until(lambda: len(station.seen.verdicts) == 2)
    waits = [float(one.reason.split()[3]) for one in station.events if one.state is CameraState.BACK_OFF]
    slept = [one.seconds for one in station.events if one.before is CameraState.BACK_OFF][1:]
    assert len(waits) == len(slept) == 5
    for number, limit in enumerate([0.05, 0.1, 0.2, 0.2, 0.05]):
        assert slept[number] >= 0.5 * limit
    assert waits[4] <= 0.1  # after the frame that came


def test_setting_that_the_device_ignores_ends_the_station_at_the_start(tmp_path: Path) -> None:
    line = Line([[GOOD]], open_with=["refused"])
    with running(tmp_path, {"camera": line}, ready=False) as station:
        station.thread.join(10.0)
    assert isinstance(station.error[0], CameraError)
    assert "ignored exposure_us" in str(station.error[0])
    assert line.opened == 1


def test_camera_that_is_not_there_at_the_start_is_waited_for(tmp_path: Path) -> None:
    line = Line([[GOOD, "idle"]], open_with=["gone", "gone"])
    with running(tmp_path, {"camera": line}, policy="lossless") as station:
        wait_until(lambda: station.seen.verdicts)
    assert line.opened == 3


def test_end_of_stream_ends_one_camera_and_the_last_one_the_station(tmp_path: Path) -> None:
    lines = {"short": Line([[GOOD, "end"]]), "long": Line([[GOOD] * 30 + ["end"]])}
    with running(tmp_path, lines, policy="lossless") as station:
        wait_until(lambda: not station.thread.is_alive())
    assert len(station.rows) == 31
    assert not station.error
    assert {row.part_id.split("-")[2] for row in station.rows} == {"short", "long"}


def test_stop_is_not_held_up_by_a_camera_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("segdec_edge.station.loop._CLOSE_S", 0.2)
    line = Line([[GOOD, "hang"]])
    with running(tmp_path, {"camera": line}, policy="lossless", timeout_s=0.5) as station:
        wait_until(lambda: station.seen.verdicts)
        with caplog.at_level(logging.ERROR):
            started = time.monotonic()
            station.end()
        assert time.monotonic() - started < 5.0
    assert "abandoned" in caplog.text


def test_newest_frame_only_and_every_drop_counted(tmp_path: Path) -> None:
    from tests.fakes import FakeBackend

    def slowly(picture: object) -> float:
        time.sleep(0.02)
        return 0.1

    line = Line([[GOOD] * 200 + ["idle"]], pause_s=0.001)
    with running(tmp_path, {"camera": line}, lambda: FakeBackend(slowly), policy="latest", timeout_s=30.0) as station:
        wait_until(lambda: "frame 199" in (station.rows or [_Nothing()])[-1].source)
    dropped = station.station.summary().dropped
    rows = station.rows
    assert dropped["a newer one came"] + len(rows) == 200
    assert dropped["a newer one came"] > 50
    assert all(row.verdict == "OK" for row in rows)
    assert max(row.latency_ms for row in rows) < 500  # one frame at most waited, whatever came meanwhile


class _Nothing:
    source = ""
