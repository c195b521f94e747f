"""What a person sees, and that a terminal in trouble holds up nobody."""

from __future__ import annotations

import io
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from segdec_edge.station import table as module
from segdec_edge.station.statistics import Flagged, RunSummary
from segdec_edge.station.table import LiveTable, line, table
from segdec_edge.types import Label

FLAGGED = Flagged("20260102T030405Z-0a1b2c-000041", Label.DEFECT, 0.98765, "score", "lots/[7]/41.png")


def figures(**changes: object) -> RunSummary:
    values: dict[str, object] = {
        "run_id": "run",
        "parts": 60,
        "ok": 50,
        "defect": 8,
        "unknown": 2,
        "seconds": 3.0,
        "rate_hz": 19.96,
        "latency_p50_ms": 12.345,
        "latency_p99_ms": 234.5,
        "archive_failures": 0,
        "flagged": (FLAGGED,),
    }
    return RunSummary(**(values | changes))  # type: ignore[arg-type]


def drawn(width: int = 100, **changes: object) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(table(figures(**changes), "line 3: model abc", 60))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_table_holds_every_figure(width: int) -> None:
    text = drawn(width)
    for part in ("line 3: model abc", "60 of 60", "50", "8", "2", "20.0", "12.3", "234", "000041 DEFECT 0.9877"):
        assert part in text
    assert "archived" not in text
    assert all(len(row) <= width for row in text.splitlines())


def test_table_shows_pictures_that_were_not_archived() -> None:
    assert "pictures not archived: 7" in drawn(archive_failures=7)
    assert "7 pictures not archived" in line(figures(archive_failures=7))


def test_before_the_first_part() -> None:
    empty = {"parts": 0, "ok": 0, "defect": 0, "unknown": 0, "rate_hz": 0.0, "flagged": ()}
    text = drawn(**empty, latency_p50_ms=None, latency_p99_ms=None)
    assert "last flagged: none" in text
    assert line(figures(**empty, latency_p50_ms=None, latency_p99_ms=None)).startswith("0 parts: 0 OK")


def test_line_of_a_log_is_one_line_with_every_figure() -> None:
    text = line(figures(), 60)
    assert text == (
        "60 of 60 parts: 50 OK, 8 DEFECT, 2 UNKNOWN; 20.0 parts/s, latency p50 12.3 ms, p99 234 ms; "
        "last flagged: 20260102T030405Z-0a1b2c-000041 DEFECT 0.9877 lots/[7]/41.png"
    )


def test_log_gets_plain_lines_and_a_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LINE_S", 0.02)
    out = io.StringIO()
    parts = iter(range(1, 10_000))
    with LiveTable(lambda: figures(parts=next(parts)), "line 3", Console(file=out, width=40)):
        time.sleep(0.2)
    lines = out.getvalue().splitlines()
    assert lines[0] == "line 3"
    assert len(lines) >= 3
    assert "\x1b" not in out.getvalue()
    assert [int(text.split()[0]) for text in lines[1:]] == list(range(1, len(lines)))


def test_terminal_gets_a_table_with_the_final_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REFRESH_S", 10.0)
    out = io.StringIO()
    now = {"ok": 1}
    with LiveTable(lambda: figures(**now), "line 3", Console(file=out, width=100, force_terminal=True)):
        now["ok"] = 4711
    assert "4711" in out.getvalue()


def test_no_more_than_four_refreshes_a_second() -> None:
    calls: list[int] = []

    def count() -> RunSummary:
        calls.append(1)
        return figures()

    with LiveTable(count, "line 3", Console(file=io.StringIO(), width=100, force_terminal=True)):
        time.sleep(0.6)
    assert 1 <= len(calls) <= 4


class GoneTerminal(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


class FrozenTerminal(io.StringIO):
    """Like a terminal after Ctrl-S."""

    def __init__(self) -> None:
        super().__init__()
        self.thaw = threading.Event()

    def write(self, text: str) -> int:
        self.thaw.wait(5.0)
        return len(text)


@contextmanager
def _thawed(terminal: FrozenTerminal):
    try:
        yield
    finally:
        terminal.thaw.set()
        for thread in threading.enumerate():
            if thread.name == "table":
                thread.join(5.0)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_reader_that_went_away_stops_nobody(is_terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # rich points the descriptor of sys.stdout to /dev/null at a broken pipe: not pytest's own, please.
    with (tmp_path / "stdout").open("w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        _watch_from_a_closed_terminal(is_terminal)


def _watch_from_a_closed_terminal(is_terminal: bool) -> None:
    with LiveTable(figures, "line 3", Console(file=GoneTerminal(), force_terminal=is_terminal, width=100)):
        time.sleep(0.05)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_frozen_terminal_stops_nobody(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FROZEN_S", 0.1)
    monkeypatch.setattr(module, "_REFRESH_S", 0.01)
    frozen = FrozenTerminal()
    with _thawed(frozen):
        started = time.monotonic()
        with LiveTable(figures, "line 3", Console(file=frozen, force_terminal=is_terminal, width=100)):
            time.sleep(0.05)
        assert time.monotonic() - started < 1.0
