"""The figures of a run on the terminal, while it runs. Knows no camera and no backend.

It reads, and only from a thread of its own: a terminal that is frozen (Ctrl-S) or gone must not hold up the line.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from segdec_edge.station.statistics import RunSummary
from segdec_edge.types import Label

_REFRESH_S = 0.25
_LINE_S = 5.0
_FROZEN_S = 2.0
_STYLES = {Label.OK: "green", Label.DEFECT: "red", Label.UNKNOWN: "yellow"}


class LiveTable:
    """A context manager. On a terminal a table, at most four times a second; else (a CI log) a line every five seconds.

    figures gives the run's figures at any time; heading names station, model and threshold; total parts if known.
    """

    def __init__(
        self, figures: Callable[[], RunSummary], heading: str, console: Console, total: int | None = None
    ) -> None:
        self._figures, self._heading, self._console, self._total = figures, heading, console, total
        self._done = Event()
        self._thread = Thread(target=self._work, name="table", daemon=True)

    def __enter__(self) -> LiveTable:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(_FROZEN_S)

    def _work(self) -> None:
        try:
            if self._console.is_terminal:
                self._draw()
            else:
                self._print_lines()
        except (OSError, SystemExit):
            # Nobody looks any more: a closed terminal, or a broken pipe, at which rich leaves by SystemExit.
            return

    def _draw(self) -> None:
        with Live(console=self._console, auto_refresh=False) as live:
            while True:
                ending = self._done.wait(_REFRESH_S)
                live.update(table(self._figures(), self._heading, self._total), refresh=True)
                if ending:
                    return

    def _print_lines(self) -> None:
        self._console.out(self._heading, highlight=False)
        while not self._done.wait(_LINE_S):
            self._console.out(line(self._figures(), self._total), highlight=False)
        self._console.out(line(self._figures(), self._total), highlight=False)


def table(figures: RunSummary, heading: str, total: int | None = None) -> Group:
    """The figures as a table with one row and the last flagged part under it."""
    grid = Table(title=Text(heading), title_justify="left", title_style="bold")
    for name in ("parts", "OK", "DEFECT", "UNKNOWN", "parts/s", "p50 ms", "p99 ms"):
        grid.add_column(name, justify="right")
    grid.add_row(
        _of_total(figures.parts, total),
        Text(str(figures.ok), style=_STYLES[Label.OK]),
        Text(str(figures.defect), style=_STYLES[Label.DEFECT] if figures.defect else ""),
        Text(str(figures.unknown), style=_STYLES[Label.UNKNOWN] if figures.unknown else ""),
        f"{figures.rate_hz:.1f}",
        _milliseconds(figures.latency_p50_ms),
        _milliseconds(figures.latency_p99_ms),
    )
    below = [Text(f"last flagged: {_last_flagged(figures)}", overflow="ellipsis", no_wrap=True)]
    if figures.archive_failures:
        below.append(Text(f"pictures not archived: {figures.archive_failures}", style="yellow"))
    return Group(grid, *below)


def line(figures: RunSummary, total: int | None = None) -> str:
    """The figures as one line of a log."""
    archive = f", {figures.archive_failures} pictures not archived" if figures.archive_failures else ""
    return (
        f"{_of_total(figures.parts, total)} parts: {figures.ok} OK, {figures.defect} DEFECT, "
        f"{figures.unknown} UNKNOWN; {figures.rate_hz:.1f} parts/s, "
        f"latency p50 {_milliseconds(figures.latency_p50_ms)} ms, "
        f"p99 {_milliseconds(figures.latency_p99_ms)} ms{archive}; last flagged: {_last_flagged(figures)}"
    )


def _of_total(parts: int, total: int | None) -> str:
    return str(parts) if total is None else f"{parts} of {total}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _last_flagged(figures: RunSummary) -> str:
    if not figures.flagged:
        return "none"
    part = figures.flagged[-1]
    score = "" if part.score is None else f" {part.score:.4f}"
    return f"{part.part_id} {part.label.value}{score} {part.source}"
