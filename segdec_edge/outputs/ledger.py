"""The ledger: one durable row a part, in SQLite. Knows no picture and no line protocol.

A row that was acknowledged (write() returned) survives a kill and a power cut: WAL with synchronous FULL.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Lock

from segdec_edge.errors import OutputError
from segdec_edge.outputs.ledger_file import Event, Row, identity, lock, open_to_write, refuse_foreign, told
from segdec_edge.outputs.ledger_read import counts, read_events, read_rows
from segdec_edge.outputs.ledger_room import Room
from segdec_edge.types import Frame, Region, Verdict

__all__ = ["FREE_RUNNING", "Event", "Ledger", "Row", "counts", "read_events", "read_rows", "regions_json"]

FREE_RUNNING = "free-running"
"""An event of this kind says of its camera: in this run not every picture is a part, so its numbers may have gaps."""

REGIONS_LENGTH = 4096
"""Characters of one part's regions at most: a broken lens must not fill the disk with outlines."""
_EVENT_LENGTH = 2000
_KIND_LENGTH = 40

_STORED = Row._fields[1:]
_STORED_COLUMNS = ", ".join(_STORED)
_INSERT = f"INSERT INTO parts ({_STORED_COLUMNS}) VALUES ({', '.join('?' * len(_STORED))}) ON CONFLICT DO NOTHING"
_INSERT_EVENT = """
INSERT INTO events (run_id, after_part, at_ns, kind, camera, text)
VALUES (?, coalesce((SELECT max(number) FROM parts), 0), ?, ?, ?, ?)
"""
_Values = tuple[str | int | float | None, ...]


class Ledger:
    """Writes the rows of one run. One station at a time may write; anyone may read meanwhile.

    Its methods may be called from several threads. A file of an older version is brought to today's, or stays as it
    was. Raises OutputError on a file that is no ledger, of a newer version, of another station, or not writable.
    """

    def __init__(self, path: Path, run_id: str) -> None:
        self._path, self._run_id = path, run_id
        self._one_at_a_time = Lock()
        refuse_foreign(path)
        with ExitStack() as opened:
            opened.enter_context(lock(path))
            self._database = opened.enter_context(closing(open_to_write(path)))
            self._file = identity(path)
            self._room = Room(path, self._database)
            self._opened = opened.pop_all()

    def write(self, verdict: Verdict, frame: Frame | None = None) -> None:
        """Make one row durable; the frame is not kept. Writing the same verdict again changes nothing.

        Raises OutputError where it could not be written, or where its part id has a row of other content; of these
        LedgerFull where the disk is full: once it has room again, the same ledger goes on.
        """
        self.write_all([verdict])

    def write_all(self, verdicts: Sequence[Verdict]) -> None:
        """Make several rows durable in one transaction: all or none. Raises as write() does."""
        rows = [_values(verdict, self._run_id) for verdict in verdicts]
        with self._transaction():
            new = self._database.executemany(_INSERT, rows).rowcount
            if new < len(rows):
                self._refuse_changes(rows)

    def event(self, kind: str, text: str, camera: str = "") -> None:
        """Make a note durable beside the parts: an alarm, a changed threshold, another recipe, a gap.

        kind is one word to search for; both are cut where they are too long. Waits for the disk as write() does, so it
        is nothing for the reject path. Raises as write() does.
        """
        values = (self._run_id, time.time_ns(), kind[:_KIND_LENGTH], camera, _text(text[:_EVENT_LENGTH]))
        with self._transaction():
            self._database.execute(_INSERT_EVENT, values)

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        with self._one_at_a_time:
            self._opened.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._one_at_a_time:
            self._require_file()
            try:
                with told(self._path), self._database:
                    yield
            finally:
                self._room.tend()

    def _require_file(self) -> None:
        if identity(self._path) != self._file:  # SQLite would go on writing into a file that has no name any more
            raise OutputError(f"{self._path}: was removed or replaced while in use. Put it back, and start again.")

    def _refuse_changes(self, rows: Sequence[_Values]) -> None:
        for row in rows:
            found = self._database.execute(f"SELECT {_STORED_COLUMNS} FROM parts WHERE part_id = ?", row[:1])
            stored = found.fetchone()
            if stored is None:  # refused for a row that is not there
                raise OutputError(f"{self._path}: its index is damaged. Keep the file for inquiry; use another ledger.")
            if stored != row:
                verdict = _STORED.index("verdict")
                raise OutputError(
                    f"{self._path}: part {row[0]} is recorded as {stored[verdict]}, got {row[verdict]} with other"
                    " content. A part is decided once; give the second one an id of its own."
                )


def regions_json(regions: Sequence[Region], limit: int = REGIONS_LENGTH) -> str | None:
    """Regions as JSON of at most `limit` characters, None without any: [{"box", "area_px", "peak", "polygon"}, …].

    Where that is too long the outlines go first, then the smallest regions.
    """
    if not regions:
        return None
    text = _json([_region(region) | {"polygon": region.polygon_xy} for region in regions])
    if len(text) <= limit:
        return text
    boxes = [_json([_region(region)])[1:-1] for region in sorted(regions, key=lambda one: -one.area_px)]
    room, kept = limit - 2, []
    for box in boxes:
        room -= len(box) + 1
        if room < 0:
            break
        kept.append(box)
    return f"[{','.join(kept)}]"


def _values(verdict: Verdict, run_id: str) -> _Values:
    """The row as SQLite takes it, in the order of _STORED."""
    score = verdict.score
    return (
        verdict.part_id,
        run_id,
        verdict.camera,
        verdict.sequence,
        verdict.label.value,
        None if score is None else float(score),
        float(verdict.threshold),
        _text(verdict.reason),
        verdict.recipe,
        _text(verdict.given_id),
        int(verdict.review),
        regions_json(verdict.regions),
        verdict.captured_ns,
        verdict.decided_ns,
        verdict.device_ns,
        float(verdict.latency_ms),
        verdict.bundle_sha256,
        verdict.bundle_digest,
        _text(verdict.source),
    )


def _text(value: str | None) -> str | None:
    """As SQLite takes it: the bytes of a file name that are no UTF-8 become \\udc.., instead of losing the row."""
    return value if value is None or value.isascii() else value.encode("utf-8", "backslashreplace").decode()


def _region(region: Region) -> dict[str, object]:
    return {"box": region.box_xywh, "area_px": round(float(region.area_px), 1), "peak": round(float(region.peak), 4)}


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
