"""The ledger's file: its tables, their versions, who may write, and SQLite's complaints in words. Knows no verdict.

Version 2 orders by `number`, which grows by one with every row: boards without a clock battery start in 1970.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from io import FileIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

from segdec_edge.errors import LedgerFull, OutputError, StorageError
from segdec_edge.files import fsync_folder, lock_holder, make_folder, take_lock

SCHEMA_VERSION = 2
BUSY_S = 5.0
CHECKPOINT_PAGES = 1000
"""Pages of 4 kB in the write-ahead log before a commit copies them into the file (about 4 MB): what one commit may wait
for. Fewer makes more of the slow commits, more makes them longer; figures in benchmarks/results/ledger_scale.json."""
_WAL_BYTES = 8_000_000
_APPLICATION_ID = 0x53444C47  # "SDLG": tells our file from another program's database
_NO_DATABASE = "file is not a database"  # SQLite's words; Python 3.10 does not give its error code
_FULL = "database or disk is full"
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PROBE_BYTES = 65536

# STRICT came with SQLite 3.37; JetPack 5 has 3.31, where the CHECK constraints stand alone.
_STRICT = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
_TABLES = f"""
CREATE TABLE parts (
    number INTEGER PRIMARY KEY,
    part_id TEXT NOT NULL UNIQUE,
    run_id TEXT NOT NULL,
    camera TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('OK', 'DEFECT', 'UNKNOWN')),
    score REAL,
    threshold REAL NOT NULL,
    reason TEXT NOT NULL,
    recipe TEXT NOT NULL,
    given_id TEXT,
    review INTEGER NOT NULL CHECK (review IN (0, 1)),
    regions TEXT,
    captured_ns INTEGER NOT NULL,
    decided_ns INTEGER NOT NULL,
    device_ns INTEGER,
    latency_ms REAL NOT NULL,
    bundle_sha256 TEXT NOT NULL,
    bundle_digest TEXT NOT NULL,
    source TEXT NOT NULL
) {_STRICT};
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    after_part INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,
    camera TEXT NOT NULL,
    text TEXT NOT NULL
) {_STRICT};
"""
_INDEXES = """
CREATE INDEX parts_by_run ON parts (run_id);
CREATE INDEX parts_by_given_id ON parts (given_id) WHERE given_id IS NOT NULL;
"""


class Row(NamedTuple):
    """One part as the ledger holds it; the columns are those of the table.

    number: the order in which parts were recorded, over all runs; verdict a Label's value; regions JSON text, None
    without any; times in ns of the wall clock, device_ns of the camera's own.
    """

    number: int
    part_id: str
    run_id: str
    camera: str
    sequence: int
    verdict: str
    score: float | None
    threshold: float
    reason: str
    recipe: str
    given_id: str | None
    review: int
    regions: str | None
    captured_ns: int
    decided_ns: int
    device_ns: int | None
    latency_ms: float
    bundle_sha256: str
    bundle_digest: str
    source: str


class Event(NamedTuple):
    """Something that happened beside the parts; after_part the number of the last part before it, 0 before any."""

    number: int
    run_id: str
    after_part: int
    at_ns: int
    kind: str
    camera: str
    text: str


COLUMNS = ", ".join(Row._fields)
_NEW_IN_2 = {
    "number": "rowid",
    "camera": "'camera'",
    "recipe": "''",
    "given_id": "NULL",
    "review": "0",
    "regions": "NULL",
    "device_ns": "NULL",
    "bundle_digest": "''",
}
_FROM_1 = ", ".join(f"{_NEW_IN_2[name]} AS {name}" if name in _NEW_IN_2 else name for name in Row._fields)
_CREATE = f"""
BEGIN IMMEDIATE;
{_TABLES}
{_INDEXES}
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
_MIGRATE_1 = f"""
BEGIN IMMEDIATE;
DROP INDEX parts_by_run;
ALTER TABLE parts RENAME TO parts_1;
{_TABLES}
INSERT INTO parts ({COLUMNS}) SELECT {_FROM_1} FROM parts_1 ORDER BY rowid;
DROP TABLE parts_1;
{_INDEXES}
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
# Read as if it were of today's version; a view of the reader's own, so the file is not touched.
_AS_2 = f"""
CREATE TEMP VIEW parts AS SELECT {_FROM_1} FROM main.parts;
CREATE TEMP VIEW events AS SELECT 0 AS number, '' AS run_id, 0 AS after_part, 0 AS at_ns, '' AS kind, '' AS camera,
    '' AS text WHERE 0;
"""


def open_to_write(path: Path) -> sqlite3.Connection:
    """A connection whose commits are durable; a missing file is made, one of version 1 brought to today's. OutputError.

    For whoever holds the lock(); refuse_foreign() comes before that.
    """
    with told(path), ExitStack() as unless_ready:
        database = sqlite3.connect(path, timeout=BUSY_S, isolation_level="IMMEDIATE", check_same_thread=False)
        unless_ready.callback(database.close)  # takes back a migration that was not finished
        _prepare(database, path)
        unless_ready.pop_all()
    return database


@contextmanager
def open_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot change anything, on a ledger in use, at rest, or on a disk mounted read-only.

    Whatever the file's version, it has today's tables. Raises OutputError, also where the file turns out damaged.
    """
    if not path.is_file():
        raise OutputError(f"{path}: no such ledger. Check the path.")
    address = _read_only(path)
    with told(path), blaming_damage(path), closing(sqlite3.connect(address, timeout=BUSY_S, uri=True)) as database:
        database.execute("PRAGMA temp_store = MEMORY")
        if _is_empty(database):  # a station that starts makes the file first, and all that is in it in one step
            raise OutputError(f"{path}: empty, nothing was recorded yet. Wait for the station, or check the path.")
        if check_version(database, path) == 1:
            database.executescript(_AS_2)
        yield database


def refuse_foreign(path: Path) -> None:
    """Raise OutputError on a file that is no ledger of ours, before a lock file lies beside it.

    What cannot be told yet, from a database in use or one to be recovered, is told once it is locked.
    """
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", timeout=0, uri=True)) as database:
            if not _is_empty(database):
                check_version(database, path)
    except UnicodeDecodeError as error:
        raise _error(path, error) from error
    except sqlite3.DatabaseError as error:
        if str(error) == _NO_DATABASE:
            raise _error(path, error) from error


def lock(path: Path) -> FileIO:
    """Hold the ledger's lock file while it is open; the system frees it when the process ends, however it ends.

    Not a lock on the ledger itself: closing any descriptor of that file would drop SQLite's own locks.
    """
    beside = path.with_name(path.name + ".lock")
    try:
        make_folder(path.parent)
        held = beside.open("ab", buffering=0)
    except StorageError as error:
        full = isinstance(error.__cause__, OSError) and error.__cause__.errno in _NO_ROOM
        raise (LedgerFull if full else OutputError)(str(error)) from error
    except OSError as error:
        raise OutputError(f"{beside}: cannot be opened ({error.strerror}). Choose another ledger path.") from error
    try:
        take_lock(held)
    except OSError as error:
        held.close()
        raise _not_locked(path, beside, error) from error
    return held


def check_version(database: sqlite3.Connection, path: Path) -> int:
    """The ledger's version. Raises OutputError on another program's database and on a newer ledger."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID:
        raise OutputError(f"{path}: a database of another program, wanted a ledger. Choose another ledger path.")
    if not 1 <= version <= SCHEMA_VERSION:
        raise OutputError(
            f"{path}: ledger of version {version}, this program knows {SCHEMA_VERSION}. Update segdec-edge."
        )
    return int(version)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into one line: LedgerFull where the disk has no room, OutputError for the rest."""
    try:
        yield
    # The last two: text that a damaged page made no UTF-8, numbers that no column can hold.
    except (sqlite3.Error, OSError, UnicodeDecodeError, OverflowError) as error:
        raise _error(path, error) from error


@contextmanager
def blaming_damage(path: Path) -> Iterator[None]:
    """Values that cannot be come from a damaged page: OutputError then. In a sound ledger they are a bug, and stay one.

    A damaged page may hold anything in any column, though the table's types forbid it.
    """
    try:
        yield
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        with told(path), closing(sqlite3.connect(_read_only(path), timeout=BUSY_S, uri=True)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if found == "ok":
            raise
        raise _error(path, ValueError(found)) from error


def identity(path: Path) -> tuple[int, int] | None:
    """What tells this file from another that is given its name; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    """Check that the file is ours before anything is changed in it, then make it durable."""
    if _is_empty(database):
        database.executescript(_CREATE)
        fsync_folder(path.parent)
    if check_version(database, path) == 1:
        database.executescript(_MIGRATE_1)
    (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise OutputError(f"{path}: this file system gives journal mode {mode}, wanted wal. Use a local disk.")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    database.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")  # after a long reader the log shrinks again


def _is_empty(database: sqlite3.Connection) -> bool:
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(tables == 0)


def _read_only(path: Path) -> str:
    """The address to read a ledger by. Where nobody can write beside it and no log is left, nobody writes into it."""
    alone = not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()
    return f"{path.resolve().as_uri()}?mode=ro" + ("&immutable=1" if alone else "")


def _not_locked(path: Path, beside: Path, error: OSError) -> OutputError:
    if error.errno in _NO_ROOM:
        return LedgerFull(f"{path}: the disk is full, the ledger cannot be locked. Free some space and start again.")
    if not isinstance(error, BlockingIOError):
        return OutputError(f"{path}: the ledger cannot be locked ({error.strerror}). Use another local disk.")
    return OutputError(
        f"{path}: another station writes to this ledger (process {lock_holder(beside)}). Stop it, or use another"
        " ledger."
    )


def _error(path: Path, error: Exception) -> OutputError:
    message = " ".join(str(error).split())
    if message == _FULL or (isinstance(error, OSError) and error.errno in _NO_ROOM) or _has_no_room(path, message):
        return LedgerFull(
            f"{path}: the disk is full, the ledger took no more rows. Free some space: pictures, never the ledger."
        )
    return OutputError(f"{path}: {_explained(message)}")


def _has_no_room(path: Path, message: str) -> bool:
    """Whether an I/O error means a full disk: SQLite says so only for ENOSPC in its log, not for quotas and limits."""
    if not message.startswith("disk I/O error"):
        return False
    try:
        with TemporaryFile(dir=path.parent) as probe:
            probe.seek(path.stat().st_size)
            probe.write(bytes(_PROBE_BYTES))
    except OSError as error:
        return error.errno in _NO_ROOM
    return False


def _explained(message: str) -> str:
    match message:
        case _ if message == _NO_DATABASE:
            return "not a SQLite file, wanted a ledger. Choose another path."
        case "database is locked":
            return f"another program has locked the ledger for {BUSY_S:g} s. Close it, or let it only read."
        case "attempt to write a readonly database" | "unable to open database file":
            return f"the ledger cannot be written or read ({message}). Check its permissions and its folder's."
        case _:
            return f"the ledger failed ({message}). Check the disk; keep the file for inquiry."
