"""CSV files that come with pictures, line by line: no cell of theirs holds a line break. Knows no column."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

from segdec_edge.errors import DataError

_MOST_SHOWN = 60


def csv_rows(lines: Sequence[str], source: object) -> Iterator[tuple[int, list[str]]]:
    """Line number, from 1, and cells of each line. Raises DataError on a quote that is not closed on its line."""
    rows = csv.reader(lines, strict=True)
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise DataError(f"{source}, line {number}: {_unclosed(lines, number)} ({error}). Correct it.") from error
        if row is None:
            return
        if rows.line_num > number:
            raise DataError(f"{source}, line {number}: {_unclosed(lines, number)}. Correct that line.")
        yield number, row


def shown(row: Sequence[str]) -> str:
    """A row's cells for a message, shortened."""
    return repr(_cut(",".join(row)))


def _unclosed(lines: Sequence[str], number: int) -> str:
    return f"{_cut(lines[number - 1])!r}, wanted each quote closed on its line"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
