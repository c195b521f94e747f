"""One folder of the archive: its parts' pictures, the order in which they came, and how much they are.

The order is a list of its own, `.order`, one line a part: clocks jump, and numbers of several cameras do not compare.
Memory does not grow with the folder. Knows no limits and no verdict.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from segdec_edge.errors import StorageError
from segdec_edge.files import write_atomic, write_together

PART_FILE = re.compile(
    r"(?P<part_id>\d{8}T\d{6}Z-(?:[0-9a-f]{6}){1,2}(?:-[a-z][a-z0-9_]*)?-(?P<sequence>\d{6,}))"
    r"(?P<end>\.png|_overlay\.jpg|\.json)"
)
"""Only files named like this are ours: nothing else in the folder is ever adopted or deleted. Earlier versions had six
hexadecimal digits where there are twelve now."""
UNFINISHED = ".segdec_tmp_"
"""How the names of files begin before they are whole (segdec_edge.files)."""
ORDER = ".order"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_LINE = re.compile(rb"([A-Za-z0-9][A-Za-z0-9_.-]{0,199}) (\d{1,12})\n")
_LONGEST = 256  # bytes of a line
_STALE_BYTES = 1_000_000


@dataclass(frozen=True)
class Kept:
    """The pictures of one part."""

    part_id: str
    size_bytes: int


class Shelf:
    """Pictures of one class, each part with a file for each of `ends`. Used by one thread.

    Constructed = leftovers of a killed run are gone and what lies there is counted, unless `count` says not to look.
    Raises OSError.
    """

    def __init__(self, folder: Path, ends: tuple[str, ...], *, count: bool = True) -> None:
        self.folder, self.total_bytes = folder, 0
        self._ends = ends
        self._place = 0  # where in the list the oldest part is
        self._next: Kept | None = None
        if count and folder.is_dir():
            self._take_stock()

    def add(self, part_id: str, contents: Mapping[str, bytes]) -> None:
        """Write a part's files, by their ends. All or none. Raises StorageError, also for an id that makes no name."""
        if not _SAFE.fullmatch(part_id):
            raise StorageError(f"{self.folder}: part id {part_id!r} makes no file name. Use letters, digits, - and _.")
        known = self._files(part_id)[0].exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_together(self.folder, {f"{part_id}{end}": content for end, content in contents.items()})
            if not known:
                self._append([Kept(part_id, sum(map(len, contents.values())))])
        except (OSError, StorageError):
            if not known:
                self._remove(part_id)
            raise

    def oldest(self) -> Kept | None:
        """The part that came first, None in an empty folder."""
        if self._list_size() < self._place:  # somebody deleted the folder
            self._place, self._next = 0, None
        while self._next is None and (line := self._line_at(self._place)):
            kept = _kept(line)
            if kept is not None and any(path.exists() for path in self._files(kept.part_id)):
                self._next = kept
            else:
                self._place += len(line)
        if self._next is None:
            self.total_bytes = 0
        return self._next

    def drop_oldest(self) -> int:
        """Delete the part that came first; the bytes that it had, 0 in an empty folder."""
        kept = self.oldest()
        if kept is None:
            return 0
        self._remove(kept.part_id)
        self.total_bytes = max(0, self.total_bytes - kept.size_bytes)
        self._next, self._place = None, self._place + len(_line(kept))
        self._forget_dropped()
        return kept.size_bytes

    def written_s(self, kept: Kept) -> float:
        """When the part's first picture was written, in seconds of the wall clock; 0 where it is gone."""
        try:
            return self._files(kept.part_id)[0].stat().st_mtime
        except OSError:
            return 0.0

    def date_undated(self, before_s: float, now_s: float) -> None:
        """Files dated before a time when no clock can have been right are dated now. Raises OSError."""
        if not self.folder.is_dir():
            return
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if PART_FILE.fullmatch(entry.name) and entry.stat().st_mtime < before_s:
                    os.utime(entry.path, (now_s, now_s))

    def _files(self, part_id: str) -> list[Path]:
        return [self.folder / f"{part_id}{end}" for end in self._ends]

    def _remove(self, part_id: str) -> None:
        for path in self._files(part_id):
            path.unlink(missing_ok=True)

    def _take_stock(self) -> None:
        present, listed = self._present(), self._listed()
        order = [kept for kept in listed.values() if kept.part_id in present]
        new = [self._found(part_id) for part_id in present.keys() - listed.keys()]
        # Without a list they come from before there were lists; else from the last moment before a power cut.
        new.sort(key=lambda found: (0 if listed else found[0], present[found[1].part_id], found[1].part_id))
        if len(listed) > 2 * len(order):
            self._rewrite(b"".join(map(_line, order)))
        self.total_bytes = sum(kept.size_bytes for kept in order)
        with suppress(OSError):  # no room for the list: these are counted the next time
            self._append([kept for _, kept in new])

    def _present(self) -> dict[str, int]:
        """Part ids of the files that are ours, with their sequence; deletes what was left unfinished."""
        found: dict[str, int] = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if (match := PART_FILE.fullmatch(entry.name)) and match["end"] in self._ends:
                    found[match["part_id"]] = int(match["sequence"])
                elif entry.name.startswith(UNFINISHED):
                    Path(entry.path).unlink(missing_ok=True)
        return found

    def _listed(self) -> dict[str, Kept]:
        try:
            lines = self._list.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return {}
        return {kept.part_id: kept for kept in map(_kept, lines) if kept is not None}

    def _found(self, part_id: str) -> tuple[int, Kept]:
        facts = [path.stat() for path in self._files(part_id) if path.exists()]
        written_ns = min((fact.st_mtime_ns for fact in facts), default=0)
        return written_ns, Kept(part_id, sum(fact.st_size for fact in facts))

    def _append(self, added: list[Kept]) -> None:
        """Raises OSError. After a line that a power cut tore a new one begins."""
        if not added:
            return
        with self._list.open("ab", buffering=0) as order:  # not kept open: nobody has to close a shelf
            end = order.tell()
            torn = end > 0 and self._bytes_at(end - 1, 1) != b"\n"
            order.write(b"\n" * torn + b"".join(map(_line, added)))
        self.total_bytes += sum(kept.size_bytes for kept in added)

    @property
    def _list(self) -> Path:
        return self.folder / ORDER

    def _list_size(self) -> int:
        try:
            return self._list.stat().st_size
        except FileNotFoundError:
            return 0

    def _line_at(self, place: int) -> bytes:
        """A whole line of the list; empty at its end."""
        found = self._bytes_at(place, _LONGEST)
        return found[: found.find(b"\n") + 1]

    def _bytes_at(self, place: int, count: int) -> bytes:
        try:
            with self._list.open("rb", buffering=0) as order:
                return os.pread(order.fileno(), count, place)
        except FileNotFoundError:
            return b""

    def _forget_dropped(self) -> None:
        """Shorten the list once most of it is of parts that are gone."""
        if self._place < _STALE_BYTES or 2 * self._place < self._list_size():
            return
        if self._rewrite(self._list.read_bytes()[self._place :]):
            self._place = 0

    def _rewrite(self, content: bytes) -> bool:
        try:
            write_atomic(self._list, content)
        except StorageError:  # a long list serves as well, and a full disk must not keep pictures from leaving
            return False
        return True


def _line(kept: Kept) -> bytes:
    return f"{kept.part_id} {kept.size_bytes}\n".encode()


def _kept(line: bytes) -> Kept | None:
    match = _LINE.fullmatch(line)
    return Kept(match[1].decode(), int(match[2])) if match else None
