"""The picture archive: best effort, so that people can look at what was rejected. Knows no ledger and no camera.

It never stops inspection: a picture that could not be kept is counted. Layout: LABEL/<part id>.png with the original
pixels, LABEL/<part id>_overlay.jpg with heat map and caption; REVIEW/<part id>.png with <part id>.json beside it for
people to label again. Each folder's `.order` lists its parts as they came.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from segdec_edge.config.archive import ArchiveConfig, ClassConfig, Keep
from segdec_edge.errors import StorageError
from segdec_edge.files import make_folder
from segdec_edge.outputs.shelf import PART_FILE, UNFINISHED, Shelf
from segdec_edge.pictures import overlay
from segdec_edge.types import Frame, Label, Pixels, Verdict

__all__ = ["PART_FILE", "UNFINISHED", "Archive", "Limit", "open_archive"]

_log = logging.getLogger(__name__)

REVIEW = "REVIEW"
CLASSES = (Label.OK.value, REVIEW, Label.UNKNOWN.value, Label.DEFECT.value)
"""The folders, in the order in which their pictures leave."""
RESERVE_BYTES = 256_000_000
"""What pictures leave free on their disk: some 500 000 rows of a ledger beside them, for pictures must stop first."""
MOST_DROPPED = 50
"""Parts whose pictures are deleted for one new one at most, so that no picture waits for long."""
TEND_S = 60.0
_CLOCK_IS_SET_S = 1_577_836_800.0  # 1 January 2020
_PICTURE, _OVERLAY, _FACTS = ".png", "_overlay.jpg", ".json"
_CAPTION_WIDTH = 480


@dataclass(frozen=True)
class Limit:
    """How long the pictures of a class stay, in days of the wall clock, and how many bytes they are; None: no limit."""

    max_days: float | None = None
    max_bytes: int | None = None


class Archive:
    """Keeps pictures of parts. keep: defect (DEFECT and UNKNOWN), all or none; limits by class, one of CLASSES.

    max_bytes caps what lies there, earlier runs included; reserve_bytes stay free on the disk. For either, pictures
    leave in the order of CLASSES, of each class the first that came, but none for a part of a class before its own.
    failures counts the parts whose pictures could not be kept; problem says why the last one was not, None once one is
    kept again. Used by one thread.
    """

    def __init__(
        self,
        folder: Path,
        keep: Keep = "defect",
        max_bytes: int | None = None,
        reserve_bytes: int = RESERVE_BYTES,
        limits: Mapping[str, Limit] | None = None,
    ) -> None:
        self.failures = 0
        self.problem: str | None = None
        self._folder, self._keep = folder, keep
        self._max_bytes, self._reserve_bytes = max_bytes, reserve_bytes
        self._limits = {name: (limits or {}).get(name, Limit()) for name in CLASSES}
        self._shelves = {name: self._shelf(name) for name in CLASSES}
        self._tended_s: float | None = None
        self._dated = False

    def wants(self, label: Label, review: bool = False) -> bool:
        """Whether a part of this label is kept here; one that people shall look at is, unless nothing is."""
        return self._keep == "all" or (self._keep == "defect" and (review or label is not Label.OK))

    def write(self, verdict: Verdict, frame: Frame | None) -> None:
        """Keep one part's pictures, if wanted. Never raises for a disk or a picture: it counts them, see problem."""
        self.tend()
        if frame is None or not self.wants(verdict.label, verdict.review):
            return
        try:
            kept = self._store(verdict, frame)
        except (StorageError, OSError, cv2.error) as error:
            self._failed(error)
        else:
            self.problem = None if kept else self.problem

    def tend(self) -> None:
        """Delete what is too old, at most once a minute; write() does it, and whoever has an idle thread may."""
        now_s = time.monotonic()
        if self._tended_s is not None and now_s - self._tended_s < TEND_S:
            return
        self._tended_s = now_s
        try:
            self._drop_expired()
        except OSError as error:
            _log.warning("archive: old pictures cannot be deleted: %s", error)

    def close(self) -> None:
        """Nothing stays open."""

    @property
    def total_bytes(self) -> int:
        """What all pictures take."""
        return sum(shelf.total_bytes for shelf in self._shelves.values())

    def _shelf(self, name: str) -> Shelf:
        ends = (_PICTURE, _FACTS) if name == REVIEW else (_PICTURE, _OVERLAY)
        try:
            return Shelf(self._folder / name, ends)
        except (StorageError, OSError) as error:
            self.problem = str(error)
            _log.warning("archive: %s What lies in %s is not counted.", error, name)
            return Shelf(self._folder / name, ends, count=False)

    def _store(self, verdict: Verdict, frame: Frame) -> bool:
        """Whether it was kept; a part that would drive out better ones is not, and that is no failure."""
        picture = _encoded(_PICTURE, frame.pixels)
        kept = True
        if self.wants(verdict.label):
            shown = _encoded(".jpg", _explained(verdict, frame.pixels))
            kept = self._put(verdict.label.value, verdict.part_id, {_PICTURE: picture, _OVERLAY: shown})
        if verdict.review:
            kept &= self._put(REVIEW, verdict.part_id, {_PICTURE: picture, _FACTS: _facts(verdict)})
        return kept

    def _put(self, name: str, part_id: str, contents: Mapping[str, bytes]) -> bool:
        if not self._make_room(name, sum(map(len, contents.values()))):
            return False
        self._shelves[name].add(part_id, contents)
        return True

    def _make_room(self, name: str, size_bytes: int) -> bool:
        """Whether a part of this class may be written; deletes older ones for it. Raises StorageError."""
        shelf, own, cap = self._shelves[name], self._limits[name].max_bytes, self._max_bytes
        lowest = min((limit for limit in (own, cap) if limit is not None), default=size_bytes)
        if size_bytes > lowest:
            raise StorageError(
                f"{self._folder}: one part needs {size_bytes} bytes, the cap is {lowest}. Raise the cap."
            )
        # Where a limit was lowered, MOST_DROPPED for each new part bring it down soon enough.
        for _ in range(MOST_DROPPED):
            if own is None or shelf.total_bytes + size_bytes <= own or not shelf.drop_oldest():
                break
        for _ in range(MOST_DROPPED):
            if cap is None or self.total_bytes + size_bytes <= cap:
                break
            if not self._drop_one(name):
                return self.total_bytes + size_bytes <= cap  # where somebody deleted them, that shows only now
        return self._free_space(name, size_bytes)

    def _free_space(self, name: str, size_bytes: int) -> bool:
        """Keep the reserve free beside size_bytes more, by what may leave for this class; False where only better ones
        could. Raises StorageError.
        """
        for _ in range(MOST_DROPPED):
            if self._has_space(size_bytes) or not self._drop_one(name):
                break
        if self._has_space(size_bytes):
            return True
        if any(self._shelves[better].oldest() for better in CLASSES[CLASSES.index(name) + 1 :]):
            return False
        raise StorageError(
            f"{self._folder}: less than {self._reserve_bytes / 1e6:.0f} MB free, kept for the ledger."
            " Free some space on that disk."
        )

    def _has_space(self, size_bytes: int) -> bool:
        place = self._folder if self._folder.exists() else self._folder.parent
        return not place.exists() or shutil.disk_usage(place).free - size_bytes >= self._reserve_bytes

    def _drop_one(self, name: str) -> bool:
        """Delete one part for one of this class; False where there is none that may leave for it."""
        may_leave = CLASSES[: CLASSES.index(name) + 1]
        return any(self._shelves[other].drop_oldest() for other in may_leave)

    def _drop_expired(self) -> None:
        now_s = time.time()
        aged = [(self._shelves[name], limit.max_days) for name, limit in self._limits.items() if limit.max_days]
        if now_s < _CLOCK_IS_SET_S:
            return
        for shelf, max_days in aged:
            if not self._dated:  # what was taken before the clock was set counts from now on
                shelf.date_undated(_CLOCK_IS_SET_S, now_s)
            for _ in range(MOST_DROPPED):
                kept = shelf.oldest()
                if kept is None or shelf.written_s(kept) > now_s - max_days * 86_400:
                    break
                shelf.drop_oldest()
        self._dated = True

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        self.problem = " ".join(str(error).split())


def open_archive(config: ArchiveConfig) -> Archive:
    """The archive of a station.toml. Raises StorageError where its folder can never be written."""
    if config.keep != "none":
        make_folder(config.path)  # one that can never work must show now, not at the first defect
    classes = dict(zip(CLASSES, (config.ok, config.review, config.unknown, config.defect), strict=True))
    limits = {name: _limit(settings) for name, settings in classes.items()}
    reserve = round(config.min_free_megabytes * 1e6)
    return Archive(config.path, config.keep, _bytes(config.max_megabytes), reserve, limits)


def _limit(settings: ClassConfig) -> Limit:
    return Limit(settings.max_days, _bytes(settings.max_megabytes))


def _bytes(megabytes: float | None) -> int | None:
    return None if megabytes is None else round(megabytes * 1e6)


def _facts(verdict: Verdict) -> bytes:
    """What the station thought of a part, for whoever labels it again."""
    facts = {
        "part_id": verdict.part_id,
        "given_id": verdict.given_id,
        "camera": verdict.camera,
        "recipe": verdict.recipe,
        "verdict": verdict.label.value,
        "score": verdict.score,
        "threshold": verdict.threshold,
        "reason": verdict.reason,
        "regions": [asdict(region) for region in verdict.regions],
        "captured_ns": verdict.captured_ns,
        "source": verdict.source,
        "bundle_sha256": verdict.bundle_sha256,
        "bundle_digest": verdict.bundle_digest,
    }
    return (json.dumps(facts, indent=1) + "\n").encode()


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
