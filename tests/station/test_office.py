"""Who judges while a recipe changes and backends hang or fail: no part meets another recipe's model, nothing is used by
two threads, and everything is closed once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from segdec_edge.decision import Rule
from segdec_edge.errors import BackendError
from segdec_edge.station.events import CameraState
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.judging import Judges
from segdec_edge.station.lane import REPLACED, Lane
from segdec_edge.station.setup import Tuning
from segdec_edge.types import Prediction
from tests.fakes import FakeBackend, level
from tests.station.scripted import GOOD, QUICK, SOFTWARE, Line, Running, TriggeredLine, running, wait_until

TRIGGERED = SOFTWARE | {"queue": 20}
CAMERAS = ("camera", "left", "right")


class Watched(FakeBackend):
    """Keeps the threads that called it; before: run in each call."""

    def __init__(self, judge: Callable[[object], float] = level, before: Callable[[], object] = lambda: None) -> None:
        super().__init__(judge)
        self.before, self.threads = before, set[threading.Thread]()

    def infer(self, pixels) -> Prediction:
        assert not self.closed, "called after it was closed"
        self.threads.add(threading.current_thread())
        self.before()
        return super().infer(pixels)

    def close(self) -> None:
        self.threads.add(threading.current_thread())
        super().close()


def judges_of(backend: FakeBackend, recipe: str, digest: str = "") -> Judges:
    inspectors = {
        name: Inspector(backend, Rule(0.5), "cd" * 32, camera=name, recipe=recipe, bundle_digest=digest)
        for name in CAMERAS
    }
    return Judges(backend, inspectors, recipe=recipe, bundle_digest=digest)


def triggered(station: Running, count: int, camera: str = "camera") -> None:
    """So many parts, prepared and waiting or judged."""
    wait_until(lambda: station.station.states()[camera] is CameraState.RUNNING)
    grab = station.station._grabs[camera]
    wanted = grab.frames + count
    for _ in range(count):
        station.station.trigger(camera)
    wait_until(lambda: grab.frames == wanted)


def reasons(station: Running) -> list[str]:
    return [row.reason if row.verdict == "UNKNOWN" else row.recipe for row in station.rows]


def test_parts_of_a_recipe_whose_backend_hangs_are_not_judged_by_the_next(tmp_path: Path) -> None:
    """Nor is the hanging backend called by the thread that takes its place, or closed by it."""
    line, hangs = TriggeredLine([[GOOD] * 99]), threading.Event()

    def hang() -> None:
        hangs.set()
        line.release.wait(20.0)

    old, new = Watched(before=hang), Watched(lambda _: 0.9)
    with running(tmp_path, {"camera": line}, lambda: old, tuning=QUICK, **TRIGGERED) as one:
        lane: Lane = one.station.lane()
        triggered(one, 4)
        assert hangs.wait(20.0)
        lane.swap(judges_of(new, "cup"))
        wait_until(lambda: len(one.seen.verdicts) == 4)
        triggered(one, 2)
        wait_until(lambda: len(one.seen.verdicts) == 6)
        assert (old.closed, len(old.threads)) == (0, 1)
        line.release.set()
        wait_until(lambda: old.closed == 1)
    assert reasons(one) == ["no prediction: the backend did not return within 0.3 s"] + [REPLACED] * 3 + ["cup"] * 2
    assert (len(old.threads), new.closed) == (1, 1)


def test_a_swap_while_a_hanging_backend_is_opened_again_leaves_it_alone(tmp_path: Path) -> None:
    line, made = TriggeredLine([[GOOD] * 99]), list[Watched]()
    opening, go_on = threading.Event(), threading.Event()

    def opener() -> FakeBackend:
        if made:
            opening.set()
            go_on.wait(20.0)
        made.append(Watched(before=lambda: line.release.wait(20.0)))
        return made[-1]

    new = Watched(lambda _: 0.9)
    with running(tmp_path, {"camera": line}, opener, tuning=QUICK, **TRIGGERED) as one:
        triggered(one, 3)
        assert opening.wait(20.0)
        one.station.lane().swap(judges_of(new, "cup"))
        go_on.set()
        wait_until(lambda: len(one.seen.verdicts) == 3)
        wait_until(lambda: len(made) == 2 and made[1].closed == 1)
        triggered(one, 1)
        wait_until(lambda: len(one.seen.verdicts) == 4)
        line.release.set()
    assert reasons(one)[1:] == [REPLACED] * 2 + ["cup"]
    assert len(made[0].threads) == 1 and made[0].calls == [1]


def test_a_swap_while_a_failed_backend_waits_to_be_opened_again_closes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segdec_edge.station.lane.REOPEN_S", (60.0, 60.0))

    def fail() -> None:
        raise BackendError("device lost")

    old, new, line = Watched(before=fail), Watched(lambda _: 0.9), TriggeredLine([[GOOD] * 99])
    with running(tmp_path, {"camera": line}, lambda: old, **TRIGGERED) as one:
        triggered(one, 5)
        wait_until(lambda: old.closed == 1)
        triggered(one, 3)
        one.station.lane().swap(judges_of(new, "cup"))
        triggered(one, 1)
        wait_until(lambda: len(one.seen.verdicts) == 9)
    assert reasons(one) == ["device lost"] * 5 + [REPLACED] * 3 + ["cup"]
    assert (old.closed, new.closed) == (1, 1)


def test_the_same_recipe_opened_again_judges_the_parts_that_waited(tmp_path: Path) -> None:
    line, calls = TriggeredLine([[GOOD] * 99]), list[int]()

    def hang_once() -> None:
        calls.append(1)
        if len(calls) == 1:
            line.release.wait(20.0)

    made: list[Watched] = []

    def opener() -> Judges:
        made.append(Watched(before=hang_once))
        return judges_of(made[-1], "lid", "12" * 32)

    with running(tmp_path, {"camera": line}, tuning=QUICK, **TRIGGERED) as one:
        lane = one.station.lane()
        lane.swap(opener(), opener)
        triggered(one, 4)
        wait_until(lambda: len(one.seen.verdicts) == 4)
        line.release.set()
    assert reasons(one)[1:] == ["lid"] * 3
    assert [len(one.threads) for one in made] == [1, 1]


def test_a_picture_that_is_prepared_during_a_swap_is_judged_by_the_old_one_which_stays_open_for_it(
    tmp_path: Path,
) -> None:
    """The right camera goes on meanwhile, so the lane has every occasion to close what was replaced."""
    old, new = Watched(), Watched(lambda _: 0.9)
    lines: dict[str, Line] = {name: TriggeredLine([[GOOD] * 99]) for name in ("left", "right")}
    preparing, go_on = threading.Event(), threading.Event()
    with running(tmp_path, lines, **TRIGGERED) as one:
        lane = one.station.lane()
        lane.swap(judges_of(old, "lid"))
        triggered(one, 1, "right")
        wait_until(lambda: len(one.seen.verdicts) == 1)
        assert lane.judges is not None
        inspector = lane.judges.inspectors["left"]

        def slowly(frame, prepare=inspector.prepare):
            preparing.set()
            go_on.wait(20.0)
            return prepare(frame)

        inspector.prepare = slowly  # type: ignore[method-assign]
        wait_until(lambda: one.station.states()["left"] is CameraState.RUNNING)
        one.station.trigger("left")
        assert preparing.wait(20.0)
        lane.swap(judges_of(new, "cup"))
        for count in range(5):
            triggered(one, 1, "right")
            wait_until(lambda: len(one.seen.verdicts) == count + 2)  # noqa: B023 - it runs at once
        assert old.closed == 0
        go_on.set()
        wait_until(lambda: old.closed == 1)
        wait_until(lambda: len(one.seen.of("left")) == 1)
    assert [row.recipe for row in one.rows if row.camera == "left"] == ["lid"]
    assert [row.recipe for row in one.rows if row.camera == "right"] == ["lid"] + ["cup"] * 5
    assert not any(row.verdict == "UNKNOWN" for row in one.rows)


def test_failures_of_what_was_replaced_do_not_close_what_is_in_office(tmp_path: Path) -> None:
    """Its last parts are UNKNOWN one after the other, and what judges the others by now is healthy."""
    lines: dict[str, Line] = {name: TriggeredLine([[GOOD] * 99]) for name in ("left", "right")}
    failing, go_on = threading.Event(), threading.Event()

    def fail() -> None:
        failing.set()
        go_on.wait(20.0)
        raise BackendError("device lost")

    old, new = Watched(before=fail), Watched(lambda _: 0.9)
    with running(tmp_path, lines, lambda: old, **TRIGGERED) as one:
        triggered(one, 10, "left")
        assert failing.wait(20.0)
        one.station.lane().swap(judges_of(new, "cup"))
        triggered(one, 1, "right")
        go_on.set()
        wait_until(lambda: len(one.seen.verdicts) == 11)
        triggered(one, 1, "right")
        wait_until(lambda: len(one.seen.verdicts) == 12)
        assert (old.closed, new.closed) == (1, 0)
    assert reasons(one) == ["device lost"] * 10 + ["cup"] * 2


def test_what_is_swapped_in_just_before_the_end_is_closed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lane is between two backends when the station stops."""
    opening, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr("segdec_edge.station.lane.REOPEN_S", (0.01, 0.01))

    def fail() -> None:
        raise BackendError("device lost")

    def opener() -> FakeBackend:
        if old.closed:
            opening.set()
            go_on.wait(20.0)
            raise BackendError("still lost")
        return old

    old, new, line = Watched(before=fail), Watched(), TriggeredLine([[GOOD] * 99])
    with running(tmp_path, {"camera": line}, opener, tuning=Tuning(drain_s=0.1), **TRIGGERED) as one:
        triggered(one, 5)
        assert opening.wait(20.0)
        one.station.lane().swap(judges_of(new, "cup"))
        one.stop.request()
        wait_until(lambda: one.station.lane()._closing)
        go_on.set()
        one.end()
    assert (old.closed, new.closed) == (1, 1)
