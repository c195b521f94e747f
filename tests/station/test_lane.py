"""A backend in trouble: whatever it does, each part has its verdict in time, and the lane comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.errors import BackendError
from segdec_edge.station.events import CameraState
from segdec_edge.station.setup import Tuning
from segdec_edge.types import Label, Prediction
from tests.fakes import FAKE_SPEC, FakeBackend, level
from tests.station.scripted import (
    BAD,
    GOOD,
    QUICK,
    SOFTWARE,
    Backends,
    Line,
    TriggeredLine,
    hanging,
    running,
    shoot,
    wait_until,
)


def test_hanging_backend_is_unknown_at_the_deadline_then_replaced(tmp_path: Path) -> None:
    line = TriggeredLine([[GOOD] * 99])
    backends = Backends(hanging(line.release, 1), level)
    with running(tmp_path, {"camera": line}, backends, tuning=Tuning(hang_s=0.6), **SOFTWARE, deadline_ms=150.0) as one:
        shoot(one)
        began = time.monotonic()
        shoot(one)
        assert one.seen.times[-1] - began < 0.5  # long before the backend is given up
        assert "backend" not in one.active()
        wait_until(lambda: "backend" in one.active() or backends.opened == 2)
        wait_until(lambda: backends.opened == 2)
        wait_until(lambda: one.station.lane().judges.backend is backends.made[1])
        shoot(one)
        wait_until(lambda: "backend" not in one.active())
        line.release.set()
        wait_until(lambda: one.station.summary().late == 1)
        wait_until(lambda: backends.made[0].closed == 1)  # by its own thread, as soon as that comes back
    assert one.seen.labels() == ["OK", "UNKNOWN", "OK"]
    assert one.rows[1].reason == "late: no verdict within 150 ms"
    assert not one.error


def test_without_a_deadline_a_hanging_backend_is_unknown_when_it_is_given_up(tmp_path: Path) -> None:
    line = TriggeredLine([[GOOD] * 99])
    backends = Backends(hanging(line.release, 0), level)
    with running(tmp_path, {"camera": line}, backends, tuning=QUICK, **SOFTWARE) as one:
        shoot(one, 3)
    assert one.seen.labels() == ["UNKNOWN", "OK", "OK"]
    assert "did not return within 0.3 s" in one.rows[0].reason


def test_backends_that_all_hang_take_no_more_threads_than_allowed(tmp_path: Path) -> None:
    line = TriggeredLine([[GOOD] * 99])
    backends = Backends(hanging(line.release, 0))
    with running(tmp_path, {"camera": line}, backends, tuning=Tuning(0.1, drain_s=0.2), **SOFTWARE, queue=4) as one:
        shoot(one, 2)
        one.station.trigger("camera")
        time.sleep(0.4)
        assert backends.opened == 2
        assert "backend" in one.active()
        line.release.set()
        wait_until(lambda: len(one.seen.verdicts) == 3)
    assert one.seen.labels() == ["UNKNOWN", "UNKNOWN", "OK"]


@pytest.mark.parametrize("deadline_ms", [30.0, 100.0])
def test_late_verdict_is_dropped_and_counted(tmp_path: Path, deadline_ms: float) -> None:
    def slowly(picture) -> float:
        time.sleep(0.25)
        return level(picture)

    line = TriggeredLine([[GOOD] * 99])
    settings = {**SOFTWARE, "deadline_ms": deadline_ms}
    with running(tmp_path, {"camera": line}, lambda: FakeBackend(slowly), **settings) as one:
        for _ in range(3):
            began = time.monotonic()
            shoot(one)
            assert one.seen.times[-1] - began >= deadline_ms / 1e3 - 0.002  # not before its time
            time.sleep(0.3)
    assert one.seen.labels() == ["UNKNOWN"] * 3
    assert one.station.summary().late == 3
    assert len(one.rows) == 3
    assert one.station.summary().unknown == 3


def crooked(shape: str) -> Callable[[], object]:
    class Crooked(FakeBackend):
        bad = True

        def infer(self, pixels):
            good = super().infer(pixels)
            if not self.bad:
                return good
            match shape:
                case "nan":
                    return Prediction(good.score * np.nan, good.heatmap)
                case "heat":
                    return Prediction(good.score, good.heatmap[:, 1:])
                case "heat of another size each time":
                    self.calls.append(0)
                    return Prediction(good.score, np.zeros((1, 4, 4 + len(self.calls)), np.float32))
                case "heat without its batch":
                    return Prediction(good.score, good.heatmap[0])
                case "scores":
                    return Prediction(np.zeros(3, np.float32), good.heatmap)
                case "one score for all":
                    return Prediction(good.score[0], good.heatmap)
                case "too few":
                    return Prediction(good.score[1:], good.heatmap[1:])
                case "too many":
                    return Prediction(np.repeat(good.score, 2), np.repeat(good.heatmap, 2, axis=0))
                case "integers":
                    return Prediction(good.score.astype(np.int64), good.heatmap)
                case "heat in integers":
                    return Prediction(good.score, good.heatmap.astype(np.uint8))
                case "text":
                    return Prediction(np.array(["0.1"] * len(good.score)), good.heatmap)
                case "nothing":
                    return None
                case "backend error":
                    raise BackendError("device lost")
                case _:
                    raise ZeroDivisionError("bug")

    return Crooked(level)


SHAPES = (
    *("nan", "heat", "heat of another size each time", "heat without its batch", "scores", "one score for all"),
    *("too few", "too many", "integers", "heat in integers", "text", "nothing", "backend error", "bug"),
)


@pytest.mark.parametrize("shape", SHAPES)
def test_unusable_prediction_is_unknown_an_alarm_and_over_when_it_is_over(tmp_path: Path, shape: str) -> None:
    backend = crooked(shape)
    line = TriggeredLine([[GOOD] * 99])
    with running(tmp_path, {"camera": line}, lambda: backend, **SOFTWARE, deadline_ms=5000.0) as one:
        shoot(one, 3)
        wait_until(lambda: "backend" in one.active())
        backend.bad = False
        shoot(one, 2)
        wait_until(lambda: "backend" not in one.active())
    assert one.seen.labels() == ["UNKNOWN"] * 3 + ["OK"] * 2
    assert not any("late" in row.reason for row in one.rows)


@pytest.mark.parametrize("shape", ["too few", "too many", "heat of another size each time"])
def test_of_a_batch_that_is_answered_crookedly_no_part_takes_anothers_verdict(tmp_path: Path, shape: str) -> None:
    backend = crooked(shape)
    greys = {"a": GOOD, "b": BAD, "c": GOOD}
    lines = {name: TriggeredLine([[grey] * 50]) for name, grey in greys.items()}
    with running(tmp_path, lines, lambda: backend, tuning=Tuning(batch_ms=200.0), **SOFTWARE) as one:
        for camera in lines:
            wait_until(lambda: one.station.states()[camera] is CameraState.RUNNING)  # noqa: B023 - it runs at once
        for number in range(4):
            backend.bad = number < 2
            for camera in lines:
                one.station.trigger(camera)
            wait_until(lambda: len(one.seen.verdicts) == 3 * number + 3)  # noqa: B023 - it runs at once
        wait_until(lambda: not one.active())
    assert max(backend.calls) == 3
    for camera, grey in greys.items():
        labels = [one.label.value for one in one.seen.of(camera)]
        assert labels == ["UNKNOWN"] * 2 + ["DEFECT" if grey == BAD else "OK"] * 2


def test_backend_that_fails_again_and_again_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segdec_edge.station.lane.REOPEN_S", (0.02, 0.1))

    def fail(picture) -> float:
        raise BackendError("device lost")

    backends = Backends(fail, BackendError("still lost"), BackendError("still lost"), level)
    line = TriggeredLine([[GOOD] * 99])
    with running(tmp_path, {"camera": line}, backends, **SOFTWARE) as one:
        shoot(one, 5)
        wait_until(lambda: backends.opened == 4)
        shoot(one, 2)
    assert one.seen.labels() == ["UNKNOWN"] * 5 + ["OK"] * 2
    assert backends.made[0].closed == 1
    assert backends.made[1].closed == 1


def test_backend_that_cannot_be_opened_ends_the_station_at_the_start(tmp_path: Path) -> None:
    with running(tmp_path, {"camera": Line([["idle"]])}, Backends(BackendError("no GPU")), ready=False) as one:
        one.thread.join(10.0)
    assert str(one.error[0]) == "no GPU"


def test_cameras_in_step_are_judged_together_and_in_their_own_name(tmp_path: Path) -> None:
    backend = FakeBackend(level)
    lines = {name: TriggeredLine([[grey] * 50]) for name, grey in (("a", GOOD), ("b", BAD), ("c", GOOD))}
    with running(tmp_path, lines, lambda: backend, tuning=Tuning(batch_ms=200.0), **SOFTWARE) as one:
        for camera in lines:
            wait_until(lambda: one.station.states()[camera] is CameraState.RUNNING)  # noqa: B023 - it runs at once
        for number in range(5):
            for camera in lines:
                one.station.trigger(camera)
            wait_until(lambda: len(one.seen.verdicts) == 3 * number + 3)  # noqa: B023 - it runs at once
    assert max(backend.calls) == 3
    assert sum(backend.calls) == 15
    assert {(one.camera, one.label) for one in one.seen.verdicts} == {
        ("a", Label.OK),
        ("b", Label.DEFECT),
        ("c", Label.OK),
    }


def test_a_batch_is_no_larger_than_the_backend_takes_and_waits_no_longer_than_told(tmp_path: Path) -> None:
    backend = FakeBackend(level, replace(FAKE_SPEC, max_batch=2))
    lines = {name: TriggeredLine([[GOOD] * 50]) for name in ("a", "b", "c", "silent")}
    with running(tmp_path, lines, lambda: backend, tuning=Tuning(batch_ms=30.0), **SOFTWARE) as one:
        for camera in lines:
            wait_until(lambda: one.station.states()[camera] is CameraState.RUNNING)  # noqa: B023 - it runs at once
        for number in range(5):
            for camera in ("a", "b", "c"):
                one.station.trigger(camera)
            wait_until(lambda: len(one.seen.verdicts) == 3 * number + 3)  # noqa: B023 - it runs at once
    assert max(backend.calls) <= 2
    assert one.station.summary().unknown == 0


def test_cameras_may_have_a_backend_of_their_own(tmp_path: Path) -> None:
    release = threading.Event()
    openers = {"a": lambda: FakeBackend(hanging(release, 0)), "b": lambda: FakeBackend(level)}
    lines = {name: TriggeredLine([[GOOD] * 50]) for name in ("a", "b")}
    with running(tmp_path, lines, openers, **SOFTWARE) as one:
        for camera in lines:
            wait_until(lambda: one.station.states()[camera] is CameraState.RUNNING)  # noqa: B023 - it runs at once
        one.station.trigger("a")
        for number in range(5):
            one.station.trigger("b")
            wait_until(lambda: len(one.seen.of("b")) == number + 1)  # noqa: B023 - it runs at once
        assert not one.seen.of("a")
        release.set()
    assert len(one.seen.of("a")) == 1


def test_stop_ends_with_a_verdict_for_what_the_backend_never_answers(tmp_path: Path) -> None:
    line = TriggeredLine([[GOOD] * 9])
    backends = Backends(hanging(line.release, 0))
    with running(tmp_path, {"camera": line}, backends, tuning=Tuning(60.0, drain_s=0.2), **SOFTWARE) as one:
        wait_until(lambda: one.station.states()["camera"] is CameraState.RUNNING)
        for _ in range(3):
            one.station.trigger("camera")
        began = time.monotonic()
        one.end()
        assert time.monotonic() - began < 8.0
    assert [row.reason for row in one.rows] == ["the station stopped before its verdict"] * 3


def test_what_fails_after_a_verdict_loses_none_and_is_an_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("bug")

    line = TriggeredLine([[GOOD] * 5 + ["hang"]])
    with running(tmp_path, {"camera": line}, deadline_ms=300.0, **SOFTWARE) as one:
        monkeypatch.setattr(one.station.follower, "decided", fail)
        monkeypatch.setattr(one.station.follower, "entered", fail)
        shoot(one, 5)
        shoot(one, 2)
        assert "follow" in one.active()
        assert one.station.lane().judges is not None and one.station.summary().parts == 7
    assert one.seen.labels() == ["OK"] * 5 + ["UNKNOWN"] * 2
    assert [row.reason[:4] for row in one.rows[5:]] == ["late"] * 2
    assert one.active() == {"follow"}
