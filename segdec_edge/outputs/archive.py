"""The picture archive: best effort, so that people can look at what was rejected. Knows no ledger and no camera.

It never stops inspection: a picture that could not be kept is counted. Layout: LABEL/<part id>.png with the original
pixels and LABEL/<part id>_overlay.jpg with heat map and caption.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from segdec_edge.config.station import Keep
from segdec_edge.errors import StorageError
from segdec_edge.files import write_atomic
from segdec_edge.pictures import overlay
from segdec_edge.types import Frame, Label, Pixels, Verdict

_log = logging.getLogger(__name__)

RESERVE_BYTES = 256_000_000
"""What pictures leave free on their disk: some 600 000 rows of a ledger beside them, for pictures must stop first."""
PART_FILE = re.compile(r"(?P<part_id>\d{8}T\d{6}Z-[0-9a-f]{6}-\d{6,})(?P<end>\.png|_overlay\.jpg)")
"""Only files named like this are ours: nothing else in the folder is ever deleted."""
UNFINISHED = ".segdec_tmp_"
"""How the names of files.write_atomic begin before they are whole."""
_CAPTION_WIDTH = 480


@dataclass(frozen=True)
class _Kept:
    """The pictures of one part; written_ns is the time of the older file."""

    folder: Path
    part_id: str
    size_bytes: int
    written_ns: int = 0

    @property
    def files(self) -> tuple[Path, Path]:
        return self.folder / f"{self.part_id}.png", self.folder / f"{self.part_id}_overlay.jpg"


class Archive:
    """Keeps pictures of parts. keep: defect (DEFECT and UNKNOWN), all or none.

    max_bytes caps what lies there, earlier runs included: the oldest OK parts leave first, then the oldest flagged
    ones; an OK part never drives out a flagged one. failures counts the parts whose pictures could not be kept.
    """

    def __init__(
        self, folder: Path, keep: Keep = "defect", max_bytes: int | None = None, reserve_bytes: int = RESERVE_BYTES
    ) -> None:
        self.failures = 0
        self._folder, self._keep = folder, keep
        self._max_bytes, self._reserve_bytes = max_bytes, reserve_bytes
        self._remove_leftovers()
        # Without a cap nothing is indexed, so that memory stays flat.
        self._ok, self._flagged = (deque[_Kept](), deque[_Kept]()) if max_bytes is None else self._index()
        self._total_bytes = sum(kept.size_bytes for kept in (*self._ok, *self._flagged))

    def wants(self, label: Label) -> bool:
        """Whether a part of this label is kept here."""
        return self._keep == "all" or (self._keep == "defect" and label is not Label.OK)

    def write(self, verdict: Verdict, frame: Frame | None) -> None:
        """Keep one part's pictures, if wanted. Never raises for a disk or a picture: it counts, and warns once."""
        if frame is None or not self.wants(verdict.label):
            return
        try:
            self._store(verdict, frame)
        except (StorageError, OSError, cv2.error) as error:
            self._count_failure(error)

    def close(self) -> None:
        """Nothing stays open."""

    def _store(self, verdict: Verdict, frame: Frame) -> None:
        pictures = (_encoded(".png", frame.pixels), _encoded(".jpg", _explained(verdict, frame.pixels)))
        kept = _Kept(self._folder / verdict.label.value, verdict.part_id, sum(map(len, pictures)))
        kept.folder.mkdir(parents=True, exist_ok=True)
        if not self._make_room(verdict.label, kept.size_bytes):
            return
        if self._max_bytes is not None:
            (self._ok if verdict.label is Label.OK else self._flagged).append(kept)
            self._total_bytes += kept.size_bytes
        for path, content in zip(kept.files, pictures, strict=True):
            write_atomic(path, content)

    def _make_room(self, label: Label, size_bytes: int) -> bool:
        """Whether the part's pictures may be written; deletes older ones for it. Raises StorageError."""
        cap = self._max_bytes
        if cap is not None and size_bytes > cap:
            raise StorageError(f"{self._folder}: one part needs {size_bytes} bytes, the cap is {cap}. Raise the cap.")
        while cap is not None and self._total_bytes + size_bytes > cap:
            pool = self._ok or (self._flagged if label is not Label.OK else None)
            if not pool:
                return False
            for path in pool[0].files:
                path.unlink(missing_ok=True)
            self._total_bytes -= pool.popleft().size_bytes
        if shutil.disk_usage(self._folder).free - size_bytes < self._reserve_bytes:
            raise StorageError(
                f"{self._folder}: less than {self._reserve_bytes / 1e6:.0f} MB free, kept for the ledger."
                " Free some space, or set archive.max_megabytes."
            )
        return True

    def _count_failure(self, error: Exception) -> None:
        self.failures += 1
        if self.failures == 1:
            _log.warning("archive: %s Inspection goes on; further failures are only counted.", error)

    def _remove_leftovers(self) -> None:
        """Files that a killed run was writing; nobody would ever finish or find them."""
        try:
            for label in Label:
                for path in (self._folder / label.value).glob(f"{UNFINISHED}*"):
                    path.unlink(missing_ok=True)
        except OSError as error:
            self._count_failure(error)

    def _index(self) -> tuple[deque[_Kept], deque[_Kept]]:
        """What earlier runs left, OK and flagged, the oldest first."""
        try:
            by_label = {label: _kept_in(self._folder / label.value) for label in Label}
        except OSError as error:
            self._count_failure(error)
            return deque(), deque()
        flagged = by_label[Label.DEFECT] + by_label[Label.UNKNOWN]
        return deque(_oldest_first(by_label[Label.OK])), deque(_oldest_first(flagged))


def _oldest_first(kept: list[_Kept]) -> list[_Kept]:
    return sorted(kept, key=lambda one: (one.written_ns, one.part_id))


def _kept_in(folder: Path) -> list[_Kept]:
    files: dict[str, list[tuple[int, int]]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := PART_FILE.fullmatch(path.name):
            facts = path.stat()
            files.setdefault(match["part_id"], []).append((facts.st_size, facts.st_mtime_ns))
    return [
        _Kept(folder, part_id, sum(size for size, _ in facts), min(time for _, time in facts))
        for part_id, facts in files.items()
    ]


def _encoded(suffix: str, pixels: Pixels) -> bytes:
    _, data = cv2.imencode(suffix, pixels)
    return bytes(data)


def _explained(verdict: Verdict, pixels: Pixels) -> Pixels:
    """The picture with its heat map, at least _CAPTION_WIDTH wide, under a caption."""
    heat = verdict.heatmap if verdict.heatmap is not None else np.zeros((1, 1), np.float32)
    picture = overlay(pixels, heat)
    height, width = picture.shape[:2]
    if width < _CAPTION_WIDTH:
        scale = _CAPTION_WIDTH / width
        size_wh = (_CAPTION_WIDTH, round(height * scale))
        picture = np.asarray(cv2.resize(picture, size_wh, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    score = "no score" if verdict.score is None else f"score {verdict.score:.4f}"
    judged = f"{verdict.label.value}  {score}  threshold {verdict.threshold:.4f}"
    lines = [verdict.part_id, judged] + ([verdict.reason] if verdict.label is Label.UNKNOWN else [])
    return np.vstack([_caption(lines, picture.shape[1]), picture])


def _caption(lines: list[str], width: int) -> Pixels:
    """White text on black, (h, width, 3); a line that is too long is cut."""
    scale, pitch = width / 960 + 0.25, round(width / 30 + 10)
    band = np.zeros((pitch * len(lines) + pitch // 2, width, 3), np.uint8)
    for number, line in enumerate(lines, start=1):
        ascii_line = line.encode("ascii", "replace").decode()
        place = (pitch // 2, pitch * number)
        cv2.putText(band, ascii_line, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return band
