"""Triggers of the station's own: each one is a part with one verdict, whatever the camera does."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path

import pytest

from segdec_edge.errors import CameraError, RecipeError
from segdec_edge.station.events import CameraState
from segdec_edge.station.parts import Names
from segdec_edge.station.reject import RejectFifo
from segdec_edge.station.run import counter_told
from tests.fakes import FakeBackend, level
from tests.station.scripted import BAD, GOOD, SOFTWARE, Line, Running, TriggeredLine, running, wait_until

TRIGGERED = SOFTWARE | {"timeout_s": 0.5}


def until_running(station: Running, camera: str = "camera") -> None:
    wait_until(lambda: station.station.states()[camera] is CameraState.RUNNING)


def test_every_trigger_of_several_threads_is_one_part_with_its_own_name(tmp_path: Path) -> None:
    line = TriggeredLine([[GOOD, BAD] * 200])
    ids: dict[str, str] = {}

    def ask(thread: int) -> None:
        for number in range(50):
            name = f"{thread}-{number}"
            ids[name] = station.station.trigger("camera", name)
            wait_until(lambda: len(ids) - len(station.seen.verdicts) < 6)

    with running(tmp_path, {"camera": line}, **TRIGGERED, queue=64) as station:
        until_running(station)
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: len(station.seen.verdicts) == 200)
    assert {verdict.given_id: verdict.part_id for verdict in station.seen.verdicts} == ids
    assert [row.sequence for row in station.rows] == list(range(200))
    assert station.seen.labels() == ["OK", "DEFECT"] * 100


def test_lost_camera_makes_every_outstanding_trigger_unknown_at_once(tmp_path: Path) -> None:
    line = TriggeredLine([[GOOD, "hang"], [GOOD] * 9])
    with running(tmp_path, {"camera": line}, **TRIGGERED, queue=8) as station:
        until_running(station)
        for _ in range(5):
            station.station.trigger("camera")
        wait_until(lambda: len(station.seen.verdicts) == 5)
        assert station.seen.labels() == ["OK"] + ["UNKNOWN"] * 4
        station.station.trigger("camera")  # while it is lost
        wait_until(lambda: len(station.seen.verdicts) == 6)
        wait_until(lambda: line.opened == 2)
        until_running(station)
        station.station.trigger("camera")
        wait_until(lambda: len(station.seen.verdicts) == 7)
        assert line.triggers == 3  # what waited behind the hanging one was never sent
        line.release.set()
    reasons = [row.reason for row in station.rows]
    assert all("the camera was lost" in reason for reason in reasons[1:5])
    assert "not triggered" in reasons[5]
    assert [row.verdict for row in station.rows][6] == "OK"


@pytest.mark.parametrize("fault", ["lost", "gone", "idle", "bug"])
def test_one_fault_costs_one_part(tmp_path: Path, fault: str) -> None:
    line = TriggeredLine([[GOOD, fault, GOOD, GOOD], [GOOD] * 9])
    with running(tmp_path, {"camera": line}, trigger="software", timeout_s=0.2) as station:
        for number in range(4):
            until_running(station)
            station.station.trigger("camera")
            wait_until(lambda: len(station.seen.verdicts) == number + 1)  # noqa: B023 - it runs at once
    assert station.seen.labels() == ["OK", "UNKNOWN", "OK", "OK"]
    assert [row.sequence for row in station.rows] == [0, 1, 2, 3]


def test_picture_of_another_trigger_is_not_taken_for_this_one(tmp_path: Path) -> None:
    line = TriggeredLine([[GOOD, "gap", GOOD], [GOOD] * 9])
    with running(tmp_path, {"camera": line}, **TRIGGERED) as station:
        until_running(station)
        for number in range(2):
            station.station.trigger("camera")
            wait_until(lambda: len(station.seen.verdicts) == number + 1)  # noqa: B023 - it runs at once
    assert station.seen.labels() == ["OK", "UNKNOWN"]


def test_too_many_triggers_are_unknown_and_not_sent_later(tmp_path: Path) -> None:
    line = TriggeredLine([[GOOD] * 99], pause_s=0.1)
    with running(tmp_path, {"camera": line}, **TRIGGERED, queue=2) as station:
        until_running(station)
        for _ in range(6):
            station.station.trigger("camera")
        wait_until(lambda: len(station.seen.verdicts) == 6)
    assert station.seen.labels() == ["OK", "OK", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN"]
    assert line.triggers == 2


def test_trigger_that_waited_past_its_deadline_is_not_sent(tmp_path: Path) -> None:
    line = TriggeredLine([[GOOD] * 99], pause_s=0.25)
    with running(tmp_path, {"camera": line}, **TRIGGERED, queue=8, deadline_ms=150.0) as station:
        until_running(station)
        station.station.trigger("camera")
        station.station.trigger("camera")
        wait_until(lambda: len(station.seen.verdicts) == 2)
        time.sleep(0.3)
    assert [row.reason for row in station.rows] == ["late: no verdict within 150 ms"] * 2
    assert line.triggers == 1


def test_the_station_triggers_at_its_interval(tmp_path: Path) -> None:
    line = TriggeredLine([[GOOD] * 999])
    with running(tmp_path, {"camera": line}, **TRIGGERED, interval_s=0.02) as station:
        wait_until(lambda: len(station.seen.verdicts) >= 20)
    times = [row.captured_ns for row in station.rows if row.verdict == "OK"]
    assert len(times) >= 15
    assert times[-1] - times[0] >= 0.018e9 * (len(times) - 1) * 0.9  # never faster; later on a busy machine


def test_before_it_is_ready_and_after_its_stop_a_trigger_is_unknown(tmp_path: Path) -> None:
    line, opening = TriggeredLine([[GOOD] * 9]), threading.Event()

    def slow_backend() -> FakeBackend:
        opening.wait(10.0)
        return FakeBackend(level)

    with running(tmp_path, {"camera": line}, slow_backend, ready=False, **TRIGGERED) as station:
        until_running(station)
        station.station.trigger("camera", "early")
        opening.set()
        wait_until(station.station.ready.is_set)
    assert [(row.verdict, row.reason) for row in station.rows] == [("UNKNOWN", "the station was not ready")]


def test_stop_waits_for_what_was_triggered(tmp_path: Path) -> None:
    line = TriggeredLine([[BAD] * 9], pause_s=0.1)
    with running(tmp_path, {"camera": line}, **TRIGGERED) as station:
        until_running(station)
        line.go.set()
        for _ in range(4):
            station.station.trigger("camera")
        station.end()
    assert [row.verdict for row in station.rows] == ["DEFECT"] * 4


def test_only_a_camera_that_can_be_triggered_is(tmp_path: Path) -> None:
    with running(tmp_path, {"free": Line([["idle"]])}, timeout_s=30.0) as station:
        for name in ("free", "nobody"):
            with pytest.raises(CameraError, match="wanted one of: none"):
                station.station.trigger(name)


def test_camera_that_is_gone_is_noticed_before_the_next_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unplugged(TriggeredLine):
        def open(self):
            camera = super().open()
            probes = iter(range(10))
            read = camera.read

            def dying(timeout_s: float):
                if self.opened == 1 and not camera.outstanding._value and next(probes) == 1:
                    self.act("gone")
                return read(timeout_s)

            camera.read = dying
            return camera

    monkeypatch.setattr("segdec_edge.station.triggered._IDLE_S", 0.02)
    line = Unplugged([[GOOD] * 9])
    with running(tmp_path, {"camera": line}, **TRIGGERED) as station:
        wait_until(lambda: line.opened == 2)
        until_running(station)
        station.station.trigger("camera")
        wait_until(lambda: station.seen.verdicts)
    assert station.seen.labels() == ["OK"]


def test_part_without_a_usable_name_is_unknown_and_an_alarm(tmp_path: Path) -> None:
    line = TriggeredLine([[GOOD] * 9])
    with running(tmp_path, {"camera": line}, **TRIGGERED, names=Names("given")) as station:
        until_running(station)
        for name in ("a", "a", None, "b"):
            station.station.trigger("camera", name)
            time.sleep(0.05)
        wait_until(lambda: len(station.seen.verdicts) == 4)
        assert not station.active()
    verdicts = sorted(station.seen.verdicts, key=lambda one: one.sequence)
    assert [one.given_id for one in verdicts] == ["a", None, None, "b"]
    assert station.seen.labels() == ["OK", "UNKNOWN", "UNKNOWN", "OK"]
    assert next(alarm for alarm in station.alarms.known() if alarm.name == "names camera").count == 2


NO_COUNTS = [3.5, float("nan"), float("-inf"), "12", b"12", [1, 2], True, 2**32, 10**400]
NO_IDS = [3.5, float("nan"), b"A", ["A"], True, "a b", "ä", "x" * 99, 10**400]


@pytest.mark.parametrize(
    ("names", "sent", "alarms"),
    [
        (Names("encoder"), [{"encoder": count} for count in NO_COUNTS], {"names camera", "counter at the trigger"}),
        (None, [{"encoder": count} for count in NO_COUNTS], {"counter at the trigger"}),
        (Names("given"), [{"given_id": name, "encoder": 7} for name in NO_IDS], {"names camera"}),
        (None, [{"given_id": name, "encoder": 7} for name in NO_IDS], {"names camera"}),
    ],
    ids=["encoder names", "encoder rejects", "id names", "id is noted"],
)
def test_what_a_line_sends_by_mistake_costs_that_part_alone(
    tmp_path: Path, names, sent, alarms, caplog: pytest.LogCaptureFixture
) -> None:
    line, ids = TriggeredLine([[GOOD] * 99]), []
    with running(tmp_path, {"camera": line}, **TRIGGERED, names=names, queue=64) as station:
        until_running(station)
        told = partial(counter_told, station.alarms)
        fifo = station.station.follower.reject = RejectFifo(1000, 5, max_step=10**6, on_fault=told)
        ids.append(station.station.trigger("camera", "first", encoder=5))
        for values in sent:
            ids.append(station.station.trigger("camera", **values))
        assert station.active() == alarms
        ids.append(station.station.trigger("camera", "last", encoder=100))
        wait_until(lambda: len(station.seen.verdicts) == len(ids))
        assert not station.active()
        assert not fifo.may_pass(float("nan"))  # type: ignore[arg-type]
        assert station.active() == {"counter at the rejecter"}
        passing = [reading for reading in range(900, 1200, 5) if fifo.may_pass(reading)]
    assert [row.part_id for row in station.rows] == ids
    labels = [row.verdict for row in station.rows]
    assert (labels[0], labels[-1]) == ("OK", "OK")
    assert set(labels[1:-1]) == ({"UNKNOWN"} if "names camera" in alarms else {"OK"})
    assert all(row.given_id is None for row in station.rows[1:-1])
    assert passing == (
        [] if "counter at the trigger" in alarms else [1000, 1095, 1100, 1105]
    )  # from 1002 on a bad one may be there
    assert all(caplog.text.count(f"alarm {name}: ") == 1 for name in alarms)
    assert "Traceback" not in caplog.text


def test_a_camera_or_a_recipe_that_has_no_name_is_told(tmp_path: Path) -> None:
    with running(tmp_path, {"camera": TriggeredLine([[GOOD]])}, **TRIGGERED) as station:
        for name in (3, None, ["camera"], float("nan")):
            with pytest.raises(CameraError, match="is no camera triggered by software, wanted one of: camera"):
                station.station.trigger(name)  # type: ignore[arg-type]
            with pytest.raises(RecipeError, match="wanted the name of one of"):
                station.station.change_recipe(name)  # type: ignore[arg-type]
    assert station.rows == []


def test_a_trigger_after_the_end_is_no_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(tmp_path, {"camera": TriggeredLine([[GOOD]])}, **TRIGGERED) as station:
        station.end()
        part_id = station.station.trigger("camera")
    assert f"decided but not recorded: part {part_id} UNKNOWN" in caplog.text
