"""Reads a ledger: rows, events, counts, in the order of recording and in constant memory. Changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdec_edge.errors import OutputError
from segdec_edge.outputs.ledger_file import COLUMNS, Event, Row, open_to_read
from segdec_edge.types import Label

_CHUNK = 2000


@dataclass(frozen=True)
class Selection:
    """Which rows: all that fit every field given. since_ns and until_ns on captured_ns, until_ns not included.

    after: rows of a larger number alone. A clock that is set back gives times a second time; numbers only grow.
    """

    run_id: str | None = None
    camera: str | None = None
    label: Label | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    after: int | None = None

    @property
    def where(self) -> tuple[str, tuple[str | int, ...]]:
        """A condition of SQL, true for every row where nothing is given, and its values."""
        wanted = {
            "run_id = ?": self.run_id,
            "camera = ?": self.camera,
            "verdict = ?": None if self.label is None else self.label.value,
            "captured_ns >= ?": self.since_ns,
            "captured_ns < ?": self.until_ns,
            "number > ?": self.after,
        }
        given = {text: value for text, value in wanted.items() if value is not None}
        return " AND ".join(given) or "1", tuple(given.values())


ALL = Selection()


def read_rows(path: Path, run_id: str | None = None, selection: Selection = ALL) -> Iterator[Row]:
    """The rows of one run or of all, in the order in which they were recorded. Raises OutputError.

    In constant memory, and never holding on to one state of the file for long: a station that writes meanwhile keeps
    its log short, and rows that it adds before the end is reached come too.
    """
    chosen = selection if run_id is None else Selection(run_id)
    with reading(path) as ledger:
        yield from (Row._make(row) for row in ledger.stream(COLUMNS, "parts", *chosen.where))


def read_events(path: Path, run_id: str | None = None) -> Iterator[Event]:
    """The events of one run or of all, in the order in which they were recorded. Raises OutputError."""
    with reading(path) as ledger:
        where = Selection(run_id).where
        yield from (Event._make(row) for row in ledger.stream(", ".join(Event._fields), "events", *where))


def counts(path: Path, run_id: str | None = None) -> dict[Label, int]:
    """How many parts got each verdict, in one run or in all; every label is a key. Raises OutputError."""
    where, values = Selection(run_id).where
    with open_to_read(path) as database:
        found = dict(database.execute(f"SELECT verdict, count(*) FROM parts WHERE {where} GROUP BY verdict", values))
    return {label: found.get(label.value, 0) for label in Label}


class Reading:
    """An open ledger."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self.path, self.database = path, database

    def stream(self, columns: str, table: str, where: str = "1", values: tuple[Any, ...] = ()) -> Iterator[Any]:
        """Tuples of these columns, of which `number` is the first, in its order. Raises OutputError on damage."""
        query = f"SELECT {columns} FROM {table} WHERE {where} AND number > ? ORDER BY number LIMIT {_CHUNK}"
        last = 0
        while rows := self.database.execute(query, (*values, last)).fetchall():
            if rows[-1][0] <= last:  # a damaged page in another's place would be read for ever
                raise OutputError(f"{self.path}: damaged after row {last}. Check the disk; keep the file for inquiry.")
            yield from rows
            last = rows[-1][0]


@contextmanager
def reading(path: Path) -> Iterator[Reading]:
    """Open a ledger to read. Raises OutputError, also where it turns out damaged later."""
    with open_to_read(path) as database:
        yield Reading(path, database)
