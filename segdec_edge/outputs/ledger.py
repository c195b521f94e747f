"""The ledger: one durable row a part, in SQLite. Knows no picture and no line protocol.

A row that was acknowledged (write() returned) survives a kill and a power cut: WAL with synchronous FULL.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from segdec_edge.errors import OutputError, StorageError
from segdec_edge.files import fsync_folder, make_folder
from segdec_edge.types import Frame, Label, Verdict

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x53444C47  # "SDLG": tells our file from another program's database
_BUSY_S = 5.0
_NO_DATABASE = "file is not a database"  # SQLite's words; Python 3.10 does not give its error code

# STRICT came with SQLite 3.37; JetPack 5 has 3.31, where the CHECK constraints stand alone.
_STRICT = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE parts (
    part_id TEXT PRIMARY KEY NOT NULL,
    run_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('OK', 'DEFECT', 'UNKNOWN')),
    score REAL,
    threshold REAL NOT NULL,
    reason TEXT NOT NULL,
    captured_ns INTEGER NOT NULL,
    decided_ns INTEGER NOT NULL,
    latency_ms REAL NOT NULL,
    bundle_sha256 TEXT NOT NULL,
    source TEXT NOT NULL
) {_STRICT};
CREATE INDEX parts_by_run ON parts (run_id, sequence);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class Row(NamedTuple):
    """One part as the ledger holds it; the columns are those of the table, verdict is a Label's value."""

    part_id: str
    run_id: str
    sequence: int
    verdict: str
    score: float | None
    threshold: float
    reason: str
    captured_ns: int
    decided_ns: int
    latency_ms: float
    bundle_sha256: str
    source: str


_COLUMNS = ", ".join(Row._fields)
_INSERT = (
    f"INSERT INTO parts ({_COLUMNS}) VALUES ({', '.join('?' * len(Row._fields))}) ON CONFLICT (part_id) DO NOTHING"
)


class Ledger:
    """Writes the rows of one run. One station at a time may write; anyone may read meanwhile.

    Raises OutputError on a file that is no ledger, of a newer version, of another station, or not writable.
    """

    def __init__(self, path: Path, run_id: str) -> None:
        self._path, self._run_id = path, run_id
        _refuse_foreign(path)
        with ExitStack() as opened:
            opened.enter_context(_lock(path))
            # Opened by the station's thread, used by the recorder's, never by both at once.
            self._database = opened.enter_context(closing(_connect(path)))
            with _told(path):
                _prepare(self._database, path)
            self._file = _identity(path)
            self._opened = opened.pop_all()

    def write(self, verdict: Verdict, frame: Frame | None = None) -> None:
        """Make one row durable; the frame is not kept. Writing the same verdict again changes nothing.

        Raises OutputError where it could not be written, or where its part id has a row of other content.
        """
        self.write_all([verdict])

    def write_all(self, verdicts: Sequence[Verdict]) -> None:
        """Make several rows durable in one transaction: all or none. Raises as write() does."""
        if _identity(self._path) != self._file:  # SQLite would go on writing into a file that has no name any more
            raise OutputError(f"{self._path}: was removed or replaced while in use. Put it back, and start again.")
        rows = [_row(verdict, self._run_id) for verdict in verdicts]
        with _told(self._path), self._database:
            new = self._database.executemany(_INSERT, rows).rowcount
            if new < len(rows):
                self._refuse_changes(rows)

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        self._opened.close()

    def _refuse_changes(self, rows: Sequence[Row]) -> None:
        for row in rows:
            found = self._database.execute(f"SELECT {_COLUMNS} FROM parts WHERE part_id = ?", (row.part_id,))
            stored = Row._make(found.fetchone())
            if stored != row:
                raise OutputError(
                    f"{self._path}: part {row.part_id} is recorded as {stored.verdict}, got {row.verdict} with other"
                    " content. A part is decided once; give the second one an id of its own."
                )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def read_rows(path: Path, run_id: str | None = None) -> Iterator[Row]:
    """The rows of one run or of all, in the order of runs and triggers. Raises OutputError."""
    where, values = ("WHERE run_id = ?", (run_id,)) if run_id is not None else ("", ())
    with _reading(path) as database:
        for row in database.execute(f"SELECT {_COLUMNS} FROM parts {where} ORDER BY run_id, sequence", values):
            yield Row._make(row)


def counts(path: Path, run_id: str | None = None) -> dict[Label, int]:
    """How many parts got each verdict, in one run or in all; every label is a key. Raises OutputError."""
    where, values = ("WHERE run_id = ?", (run_id,)) if run_id is not None else ("", ())
    with _reading(path) as database:
        found = dict(database.execute(f"SELECT verdict, count(*) FROM parts {where} GROUP BY verdict", values))
    return {label: found.get(label.value, 0) for label in Label}


def _row(verdict: Verdict, run_id: str) -> Row:
    return Row(
        part_id=verdict.part_id,
        run_id=run_id,
        sequence=verdict.sequence,
        verdict=verdict.label.value,
        score=None if verdict.score is None else float(verdict.score),
        threshold=float(verdict.threshold),
        reason=verdict.reason,
        captured_ns=verdict.captured_ns,
        decided_ns=verdict.decided_ns,
        latency_ms=float(verdict.latency_ms),
        bundle_sha256=verdict.bundle_sha256,
        source=verdict.source,
    )


def _refuse_foreign(path: Path) -> None:
    """Raise OutputError on a file that is no ledger of ours, before a lock file lies beside it.

    What cannot be told yet, from a database in use or one to be recovered, is told once it is locked.
    """
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", timeout=0, uri=True)) as database:
            if not _is_empty(database):
                _check_version(database, path)
    except sqlite3.DatabaseError as error:
        if str(error) == _NO_DATABASE:
            raise OutputError(f"{path}: {_explained(_NO_DATABASE)}") from error


def _lock(path: Path) -> FileIO:
    """Hold the ledger's lock file while it is open; the system frees it when the process ends, however it ends.

    Not a lock on the ledger itself: closing any descriptor of that file would drop SQLite's own locks.
    """
    beside = path.with_name(path.name + ".lock")
    try:
        make_folder(path.parent)
        lock = beside.open("ab", buffering=0)  # a buffer would fail again at close on a full disk
    except StorageError as error:
        raise OutputError(str(error)) from error
    except OSError as error:
        raise OutputError(f"{beside}: cannot be opened ({error.strerror}). Choose another ledger path.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n".encode())
    except OSError as error:
        lock.close()
        raise OutputError(_not_locked(path, beside, error)) from error
    return lock


def _not_locked(path: Path, beside: Path, error: OSError) -> str:
    if not isinstance(error, BlockingIOError):
        return f"{path}: the ledger cannot be locked ({error.strerror}). Free some space, or use another local disk."
    holder = beside.read_text(encoding="ascii", errors="replace").strip() or "unknown"
    return f"{path}: another station writes to this ledger (process {holder}). Stop it, or use another ledger."


def _connect(path: Path) -> sqlite3.Connection:
    with _told(path):
        return sqlite3.connect(path, timeout=_BUSY_S, isolation_level="IMMEDIATE", check_same_thread=False)


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    """Check that the file is ours before anything is changed in it, then make it durable."""
    if _is_empty(database):
        database.executescript(_SCHEMA)
        fsync_folder(path.parent)
    _check_version(database, path)
    (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise OutputError(f"{path}: this file system gives journal mode {mode}, wanted wal. Use a local disk.")
    database.execute("PRAGMA synchronous = FULL")


def _is_empty(database: sqlite3.Connection) -> bool:
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(tables == 0)


def _check_version(database: sqlite3.Connection, path: Path) -> None:
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID:
        raise OutputError(f"{path}: a database of another program, wanted a ledger. Choose another ledger path.")
    if version > SCHEMA_VERSION:
        raise OutputError(
            f"{path}: ledger of version {version}, this program knows {SCHEMA_VERSION}. Update segdec-edge."
        )


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    if not path.is_file():
        raise OutputError(f"{path}: no such ledger. Check the path.")
    address = f"{path.resolve().as_uri()}?mode=ro"
    with _told(path), closing(sqlite3.connect(address, timeout=_BUSY_S, uri=True)) as database:
        _check_version(database, path)
        yield database


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise OutputError(f"{path}: {_explained(str(error))}") from error


def _explained(message: str) -> str:
    match message:
        case "database or disk is full":
            return "the disk is full, the ledger took no more rows. Free some space; pictures first, never the ledger."
        case _ if message == _NO_DATABASE:
            return "not a SQLite file, wanted a ledger. Choose another path."
        case "database is locked":
            return f"another program has locked the ledger for {_BUSY_S:g} s. Close it, or let it only read."
        case "attempt to write a readonly database" | "unable to open database file":
            return f"the ledger cannot be written ({message}). Check its permissions."
        case _:
            return f"the ledger failed ({message}). Check the disk; keep the file for inquiry."
