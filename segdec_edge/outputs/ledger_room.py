"""The room that a ledger has on its disk, and its log kept short where that is little. Knows no row.

SQLite folds its log into the file once it is some 4 MB long. On a disk smaller than that it never would: the log would
take all the room, with every page of it many times, and could not be folded in any more.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from segdec_edge.outputs.ledger_file import BUSY_S, CHECKPOINT_PAGES

_log = logging.getLogger(__name__)

LOW_BYTES = 2 * CHECKPOINT_PAGES * 4096
"""Less room than this, for a log and for what is folded in from it, and the log is kept empty."""
ROW_BYTES = 500
"""What a part without regions takes in the end; more with long reasons and names."""


class Room:
    """Of one open ledger. Used by one thread at a time."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self._path, self._database = path, database
        self._told = False
        self.tend()

    def tend(self) -> None:
        """After every transaction, also one that failed: what it left in the log takes room. Never raises.

        Where room is little: warn once, and fold the log in. What cannot be folded in now stays durable in the log.
        """
        with suppress(OSError, sqlite3.Error):
            facts = os.statvfs(self._path)
            free = facts.f_bavail * facts.f_frsize
            room = free + self._log_size()
            if room < LOW_BYTES:
                self._warn(room)
                if self._growth() <= free:
                    self._fold()
            elif room > 2 * LOW_BYTES:
                self._told = False

    def _log_size(self) -> int:
        log = self._path.with_name(self._path.name + "-wal")
        return log.stat().st_size if log.exists() else 0

    def _growth(self) -> int:
        """What folding in adds to the file. Begun without that much room it would take all there is and end nowhere."""
        (pages,), (size,) = (self._database.execute(f"PRAGMA {of}").fetchone() for of in ("page_count", "page_size"))
        return int(pages * size) - self._path.stat().st_size

    def _warn(self, room: int) -> None:
        if self._told:
            return
        self._told = True
        _log.warning(
            "%s: %.1f MB left on its disk, wanted %.1f: room for some %d parts, and each commit takes longer now. Free"
            " some space: pictures, never the ledger.",
            self._path,
            room / 1e6,
            LOW_BYTES / 1e6,
            room // ROW_BYTES,
        )

    def _fold(self) -> None:
        self._database.execute("PRAGMA busy_timeout = 0")  # a reader that stays must not hold up the rows
        try:
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._database.execute(f"PRAGMA busy_timeout = {round(BUSY_S * 1000)}")
