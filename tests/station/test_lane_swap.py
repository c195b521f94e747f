"""A backend exchanged while parts wait: each is judged by the one in office when its picture came."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import pytest

from segdec_edge.decision import Rule
from segdec_edge.errors import BackendError
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.judging import Judges
from segdec_edge.station.setup import Tuning
from tests.fakes import FakeBackend, level
from tests.station.scripted import (
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


def test_swap_between_two_parts(tmp_path: Path) -> None:
    """Every part is judged by what was in office when its picture came, and the old one is closed after its last."""

    def slowly(picture) -> float:
        time.sleep(0.004)
        return 0.1

    old, new = FakeBackend(slowly), FakeBackend(lambda _: 0.9)
    line = Line([[GOOD] * 300 + ["idle"]], pause_s=0.002)
    with running(tmp_path, {"camera": line}, lambda: old, policy="lossless", timeout_s=30.0, queue=400) as one:
        wait_until(lambda: len(one.seen.verdicts) > 40)
        triggered = one.station._grabs["camera"].triggers
        assert triggered > len(one.seen.verdicts) + 10  # parts wait for the old one
        one.station.lane().swap(Judges(new, {"camera": Inspector(new, Rule(0.5), "cd" * 32)}))
        wait_until(lambda: len(one.seen.verdicts) == 300)
        wait_until(lambda: old.closed == 1)
        assert new.closed == 0
    labels = [row.verdict for row in one.rows]
    change = labels.index("DEFECT")
    assert change >= triggered - 1  # one may have been triggered, but not prepared yet
    assert labels == ["OK"] * change + ["DEFECT"] * (300 - change)
    assert [row.bundle_sha256[:2] for row in one.rows] == ["ab"] * change + ["cd"] * (300 - change)
    assert (old.closed, new.closed) == (1, 1)


def swapped_in(backend: FakeBackend) -> Judges:
    return Judges(backend, {name: Inspector(backend, Rule(0.5), "cd" * 32) for name in ("camera", "left", "right")})


@pytest.mark.parametrize("is_opening", [True, False])
def test_what_is_swapped_in_while_the_old_one_is_opened_again_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_opening: bool
) -> None:
    """Without waiting for the back-off, and never taken back by the one that was being opened."""
    monkeypatch.setattr("segdec_edge.station.lane.REOPEN_S", (0.02, 0.02) if is_opening else (60.0, 60.0))
    opening, go_on, made = threading.Event(), threading.Event(), []

    def fail(picture) -> float:
        raise BackendError("device lost")

    def opener() -> FakeBackend:
        if made:
            opening.set()
            go_on.wait(20.0)
        made.append(FakeBackend(level if made else fail))
        return made[-1]

    new = FakeBackend(lambda _: 0.9)
    line = TriggeredLine([[GOOD] * 99])
    with running(tmp_path, {"camera": line}, opener, **SOFTWARE) as one:
        shoot(one, 5)
        if is_opening:
            assert opening.wait(20.0)
        wait_until(lambda: made[0].closed == 1)
        one.station.lane().swap(swapped_in(new))
        go_on.set()
        if is_opening:
            wait_until(lambda: len(made) == 2 and made[1].closed == 1)
        shoot(one, 3)
    assert made[0].closed == 1
    assert [row.bundle_sha256[:2] for row in one.rows] == ["ab"] * 5 + ["cd"] * 3
    assert one.seen.labels() == ["UNKNOWN"] * 5 + ["DEFECT"] * 3
    assert len(made) == (2 if is_opening else 1)


def test_what_is_swapped_in_while_the_old_one_hangs_judges_at_once(tmp_path: Path) -> None:
    line = TriggeredLine([[GOOD] * 9])
    backends = Backends(hanging(line.release, 1), level)
    new = FakeBackend(lambda _: 0.9)
    with running(tmp_path, {"camera": line}, backends, tuning=QUICK, deadline_ms=100.0, **SOFTWARE) as one:
        shoot(one, 2)
        one.station.lane().swap(swapped_in(new))
        wait_until(lambda: "backend" in one.active())
        shoot(one, 3)
        assert backends.opened == 1
    assert one.seen.labels() == ["OK", "UNKNOWN"] + ["DEFECT"] * 3
    assert new.closed == 1


def test_a_swap_while_a_batch_is_prepared_gives_each_part_the_backend_it_was_prepared_for(tmp_path: Path) -> None:
    """Free-running cameras are prepared by the lane: the swap comes between two pictures of one batch."""
    old, new = FakeBackend(lambda _: 0.1), FakeBackend(lambda _: 0.9)
    lines = {name: Line([[GOOD, "idle"]]) for name in ("left", "right")}
    tuning = Tuning(batch_ms=1000.0)
    with running(tmp_path, lines, lambda: old, ready=False, policy="latest", timeout_s=30.0, tuning=tuning) as one:
        wait_until(one.station.ready.is_set)
        lane = one.station.lane()
        swaps = itertools.count()
        for inspector in lane.judges.inspectors.values():

            def prepare(frame, prepare=inspector.prepare):
                pixels = prepare(frame)
                if next(swaps) == 0:
                    lane.swap(swapped_in(new))
                return pixels

            inspector.prepare = prepare
        for line in lines.values():
            line.go.set()
        wait_until(lambda: len(one.seen.verdicts) == 2)
    assert {(row.bundle_sha256[:2], row.verdict) for row in one.rows} == {("ab", "OK"), ("cd", "DEFECT")}
