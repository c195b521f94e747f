"""The wall's clock is set while the station runs: order, limits and figures come from counts and the other clock."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from segdec_edge.config.rules import DebounceConfig
from segdec_edge.decision import Rule
from segdec_edge.errors import FrameLost
from segdec_edge.outputs.archive import Archive, Limit
from segdec_edge.outputs.ledger import read_events
from segdec_edge.outputs.ledger_check import check_ledger
from segdec_edge.outputs.ledger_export import export_ledger
from segdec_edge.outputs.ledger_read import Selection
from segdec_edge.outputs.shelf import ORDER
from segdec_edge.station.follow import Follower
from segdec_edge.station.inspection import Inspector
from segdec_edge.types import Label
from tests.fakes import FakeBackend, level
from tests.station.scripted import BAD, GOOD, Line, running, wait_until

HOUR_S = 3600
PARTS = 60


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """[seconds that the wall's clock is off]."""
    off, now_s, now_ns = [0.0], time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: now_s() + off[0])
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + round(off[0] * 1e9))
    return off


@pytest.mark.parametrize("jump_s", [-HOUR_S, HOUR_S])
def test_a_clock_that_is_set_changes_no_order_and_no_verdict(tmp_path: Path, clock: list[float], jump_s: int) -> None:
    line = Line([[GOOD, BAD, "lost"] * (PARTS // 3) + ["idle"]], pause_s=0.01)
    archive = Archive(tmp_path / "archive", "all", limits={"DEFECT": Limit(max_days=1 / 48)})  # half an hour
    with running(tmp_path, {"camera": line}, archive=archive, policy="lossless", timeout_s=60.0, queue=64) as one:
        follower = Follower(
            one.alarms,
            partial(one.station._recorder.note),
            debounce=DebounceConfig(frames=12, defects=12, gap_s=600.0),
            free=["camera"],
        )
        one.station.follower = follower
        wait_until(lambda: len(one.rows) > PARTS // 3)
        clock[0] = jump_s
        wait_until(lambda: len(one.rows) == PARTS)
        assert one.alarms.known() == ()
    assert one.seen.labels() == ["OK", "DEFECT", "UNKNOWN"] * (PARTS // 3)
    assert follower.event("camera") is Label.OK
    found = check_ledger(one.path)
    assert found.is_whole
    assert len(found.clock) == (1 if jump_s < 0 else 0)
    assert sorted(row.number for row in one.rows) == list(range(1, PARTS + 1))
    assert all(abs(row.number - row.sequence - 1) < 5 for row in one.rows)  # a lost picture has its verdict at once
    assert all(0 <= row.latency_ms < 60_000 for row in one.rows)
    assert len({row.captured_ns // (600 * 10**9) for row in one.rows}) >= 2
    order = (tmp_path / "archive" / "OK" / ORDER).read_text().splitlines()
    assert order == sorted(order)
    assert len(order) == PARTS // 3
    texts = [event.text for event in read_events(one.path) if event.kind == "event"]
    assert [text.split(":")[0] for text in texts] == ["OK"]


def test_exports_one_after_another_have_every_part_once(tmp_path: Path, clock: list[float]) -> None:
    line, last, exported = Line([[GOOD] * PARTS + ["idle"]], pause_s=0.005), 0, []
    with running(tmp_path, {"camera": line}, policy="lossless", timeout_s=60.0, queue=64) as one:
        for off, until in ((0, 20), (-HOUR_S, 40), (HOUR_S, PARTS)):
            wait_until(lambda until=until: len(one.rows) >= until)
            export_ledger(one.path, tmp_path / "parts.csv", selection=Selection(after=last))
            rows = [text.split(",") for text in (tmp_path / "parts.csv").read_text().splitlines()[1:]]
            exported += [row[1] for row in rows]
            last, clock[0] = int(rows[-1][0]), off
    assert exported == [row.part_id for row in one.rows]


def test_a_part_that_waits_while_the_clock_is_set_has_its_own_latency(clock: list[float]) -> None:
    lost, opened_ns = FrameLost("gone", sequence=0, source="x", captured_ns=time.time_ns()), time.monotonic_ns()
    clock[0] = HOUR_S
    verdict = Inspector(FakeBackend(level), Rule(0.5), "abc").lost(lost, "p", opened_ns)
    assert 0 <= verdict.latency_ms < 60_000
    assert verdict.decided_ns - verdict.captured_ns > HOUR_S * 10**9
