"""An export and its pictures become a data set in the folder layout, whole or not at all. Knows no format's details."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np

from segdec_edge.data.annotations.coco import read_coco
from segdec_edge.data.annotations.cvat import read_cvat
from segdec_edge.data.annotations.cvat_masks import read_cvat_masks
from segdec_edge.data.annotations.labelme import read_labelme
from segdec_edge.data.annotations.labelstudio import read_labelstudio
from segdec_edge.data.annotations.locate import Found, Located, locate
from segdec_edge.data.annotations.shapes import AnnotatedPicture, Export, draw
from segdec_edge.data.folder import IMAGES, MASKS, PARTS, default_part
from segdec_edge.data.samples import read_upright
from segdec_edge.errors import DataError
from segdec_edge.files import folder_atomic, make_folder
from segdec_edge.types import BoolMask

Format = Literal["coco", "labelme", "cvat", "labelstudio"]
FORMATS: tuple[str, ...] = get_args(Format)
_MOST_LINES = 20


@dataclass(frozen=True)
class Choice:
    """What of an export to take, and how to write it.

    classes: only these mark defects, all where empty; min_area: pixels, smaller regions mark none; link: hard links
    instead of copies, where the disk allows it; parts: write parts.csv, each picture a part of its own.
    """

    classes: tuple[str, ...] = ()
    min_area: int = 0
    link: bool = False
    parts: bool = False


@dataclass(frozen=True)
class ImportReport:
    """What was written. notes: what a user must know of it, one line each."""

    out: Path
    good: int
    defective: int
    regions: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Marked:
    """One picture's mask and how many regions it has, were clipped, were too small or of other classes."""

    mask: BoolMask
    regions: int = 0
    clipped: int = 0
    small: int = 0
    other: int = 0

    @property
    def emptied(self) -> bool:
        return not self.regions and bool(self.small or self.other)


def import_annotations(
    form: str,
    source: Path,
    images: Path,
    out: Path,
    choice: Choice | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Write `out` with images/ and masks/ from an export of `form` at `source` and the pictures below `images`.

    A listed picture without regions is a good part; one that the export leaves undecided, or does not list, is not
    taken. progress: called after each picture with how many are done and how many there are.
    Raises DataError, a line for each mistake, and StorageError; `out` is not there then.
    """
    choice = choice or Choice()
    _refuse_filled(out)
    if not images.is_dir():
        raise DataError(f"{images}: no such folder. Give the one that holds the annotated pictures (--images).")
    export = _read(form, source, images, choice.classes)
    _refuse_unknown_classes(choice.classes, export.classes, source)
    located = locate(export, images, [source, out])
    taken = [found for found in located.found if found.picture.left_out is None]
    if not taken:
        raise DataError(f"{source}: no annotated picture in it, wanted at least one. Annotate some and export again.")
    make_folder(out.absolute().parent)
    with folder_atomic(out) as folder:
        marked = _write_all(folder, taken, choice, progress)
        if choice.parts or _copies(taken):
            _write_parts(folder / PARTS, taken, each=choice.parts)
    return _report(out, export, located, marked, choice)


def render(report: ImportReport) -> str:
    """The report as plain text for a terminal."""
    head = f"{report.out}: {report.good + report.defective} pictures, {report.good} good, {report.defective} defective"
    return "\n".join([f"{head} with {report.regions} regions", *(f"note: {note}" for note in report.notes)])


def _refuse_filled(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already, wanted a new or empty folder. Choose another one with --out.")


def _read(form: str, source: Path, images: Path, classes: Sequence[str]) -> Export:
    if not source.exists():
        raise DataError(f"{source}: no such file or folder. Give what the annotation tool exported.")
    match form:
        case "coco":
            export = read_coco(source)
        case "labelme":
            export = read_labelme(source, images)
        case "cvat" if source.is_dir() and not (source / "annotations.xml").is_file():
            export = read_cvat_masks(source)
        case "cvat":
            export = read_cvat(source / "annotations.xml" if source.is_dir() else source, images)
        case "labelstudio":
            export = read_labelstudio(source, classes)
        case _:
            raise DataError(f"format {form!r}, wanted {', '.join(FORMATS)}.")
    if not export.pictures:
        raise DataError(f"{source}: lists no picture, wanted at least one. Export it again.")
    return export


def _refuse_unknown_classes(wanted: Sequence[str], there: frozenset[str], source: Path) -> None:
    unknown = [name for name in wanted if name not in there]
    if unknown:
        known = ", ".join(sorted(there)) or "none"
        raise DataError(f"{source}: no class {', '.join(unknown)}, there are: {known}. Correct --classes.")


def _write_all(
    folder: Path, taken: Sequence[Found], choice: Choice, progress: Callable[[int, int], None] | None
) -> list[_Marked]:
    marked, mistakes = [], []
    for done, found in enumerate(taken, start=1):
        try:
            one = _marked(found, choice)
        except DataError as error:
            mistakes.append(str(error))
            continue
        if not mistakes:
            _write(folder, found, one.mask, choice.link)
        marked.append(one)
        if progress is not None:
            progress(done, len(taken))
    if len(mistakes) > _MOST_LINES:
        mistakes[_MOST_LINES:] = [f"… and {len(mistakes) - _MOST_LINES} more."]
    if mistakes:
        raise DataError("\n".join(mistakes))
    return marked


def _marked(found: Found, choice: Choice) -> _Marked:
    size_hw = _size_of(found.path)
    _refuse_other_size(found.picture, found.path, size_hw)
    mask = np.zeros(size_hw, np.bool_)
    counts: Counter[str] = Counter()
    for region in found.picture.regions:
        if choice.classes and not set(choice.classes).intersection(region.labels):
            counts["other"] += 1
            continue
        try:
            drawn = draw(region.shape, size_hw)
        except DataError as error:
            raise DataError(f"{found.below}: {region.where}: {error}") from error
        if np.count_nonzero(drawn.mask) < choice.min_area:
            counts["small"] += 1
            continue
        mask |= drawn.mask
        counts["regions"] += 1
        counts["clipped"] += drawn.clipped
    return _Marked(mask, **counts)


def _size_of(path: Path) -> tuple[int, int]:
    """Height and width of a picture that training can read. Raises PictureError, also where EXIF would turn it."""
    pixels = read_upright(path)
    return int(pixels.shape[0]), int(pixels.shape[1])


def _refuse_other_size(picture: AnnotatedPicture, path: Path, size_hw: tuple[int, int]) -> None:
    if picture.size_hw is not None and picture.size_hw != size_hw:
        raise DataError(
            f"{path}: {size_hw[1]} × {size_hw[0]} (width × height), but {picture.size_hw[1]} × {picture.size_hw[0]} in"
            " the export. Give the pictures that were annotated."
        )


def _write(folder: Path, found: Found, mask: BoolMask, link: bool) -> None:
    picture = folder / IMAGES / found.below
    picture.parent.mkdir(parents=True, exist_ok=True)
    _place(found.path.resolve(), picture, link)
    if mask.any():
        mask_path = folder / MASKS / f"{found.name}.png"
        mask_path.parent.mkdir(parents=True, exist_ok=True)
        mask_path.write_bytes(cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes())


def _place(picture: Path, at: Path, link: bool) -> None:
    if link:
        try:
            os.link(picture, at)
            return
        except OSError:  # another disk, or one without links
            pass
    shutil.copyfile(picture, at)


def _copies(taken: Sequence[Found]) -> list[int]:
    """For each picture that is there several times, altered: how many times."""
    counts = Counter(found.picture.part for found in taken if found.picture.part)
    return [count for count in counts.values() if count > 1]


def _write_parts(path: Path, taken: Sequence[Found], *, each: bool) -> None:
    """each: a picture that is no copy of another is a part of its own; else the part that its folder says."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("name", "part"))
    for found in taken:
        writer.writerow((found.name, found.picture.part or (found.name if each else default_part(found.name))))
    path.write_text(text.getvalue(), encoding="utf-8")


def _report(out: Path, export: Export, located: Located, marked: Sequence[_Marked], choice: Choice) -> ImportReport:
    defective = sum(one.regions > 0 for one in marked)
    notes = [*export.notes, *_taken_notes(marked, choice), *_left_notes(located)]
    if not defective:
        notes.append("no picture has a region, so all count as good: was the export made before the annotation?")
    copies = _copies([found for found in located.found if found.picture.left_out is None])
    if copies:
        notes.append(
            f"{sum(copies)} pictures are altered copies of {len(copies)}: in parts.csv the copies of one are one part"
        )
    folders = {found.below.parts[0] for found in located.found if len(found.below.parts) > 1}
    if folders and not choice.parts and not copies:
        notes.append(
            f"pictures of one sub-folder count as one part ({len(folders)} sub-folders): with --parts, parts.csv makes"
            " each picture a part of its own"
        )
    return ImportReport(out, len(marked) - defective, defective, sum(one.regions for one in marked), tuple(notes))


def _taken_notes(marked: Sequence[_Marked], choice: Choice) -> list[str]:
    clipped, small, other = (sum(getattr(one, key) for one in marked) for key in ("clipped", "small", "other"))
    lines = {
        f"{clipped} regions reach beyond their picture and were clipped": clipped,
        f"{small} regions are smaller than {choice.min_area} pixels and mark nothing": small,
        f"{other} regions are of classes not asked for and mark nothing": other,
    }
    emptied = sum(one.emptied for one in marked)
    lines[f"{emptied} pictures count as good because none of their regions was taken"] = emptied
    return [line for line, count in lines.items() if count]


def _left_notes(located: Located) -> list[str]:
    undecided = Counter(found.picture.left_out for found in located.found if found.picture.left_out)
    notes = [f"{count} pictures left out: {reason}" for reason, count in undecided.items()]
    if located.unlisted:
        first = located.unlisted[0]
        notes.append(f"{len(located.unlisted)} pictures are not in the export and were not taken, first {first}")
    return notes
