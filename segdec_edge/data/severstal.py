"""Severstal steel as the method's authors use it: class 3 against defect-free pictures. Knows no split.

train_images/ID.jpg, and train.csv with a line for each picture and class that it shows: ImageId,ClassId,EncodedPixels,
or in the older form ImageId_ClassId,EncodedPixels with an empty second column where the picture has no such defect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segdec_edge.data.folder import picture_files
from segdec_edge.data.samples import Dataset, read_upright
from segdec_edge.data.tables import csv_rows, shown
from segdec_edge.errors import DataError, MaskError
from segdec_edge.pictures import read_picture
from segdec_edge.types import BoolMask, Pixels

SIZE_HW = (256, 1600)
PICTURES, LABELS = "train_images", "train.csv"
_CLASSES = ("1", "2", "3", "4")
_USED = "3"
_HEADER, _OLD_HEADER = ["ImageId", "ClassId", "EncodedPixels"], ["ImageId_ClassId", "EncodedPixels"]


@dataclass(frozen=True)
class SteelSample:
    """A picture and its defect as run lengths, decoded when asked for; "" for a defect-free one."""

    name: str
    path: Path
    runs: str

    @property
    def part(self) -> str:
        return self.name

    @property
    def positive(self) -> bool:
        return bool(self.runs)

    @property
    def has_mask(self) -> bool:
        return True

    @property
    def sources(self) -> tuple[Path | str, ...]:
        return (self.path, self.runs)

    def read(self) -> Pixels:
        return read_upright(self.path) if self.positive else read_picture(self.path)

    def read_mask(self) -> BoolMask | None:
        return decode_runs(self.runs, SIZE_HW, self.name) if self.positive else None


def severstal_dataset(spec: str, root: Path) -> Dataset:
    """Defect-free pictures, and those with a defect of class 3 and of no other class; the others are counted in notes.

    Run lengths are judged when a mask is read. Raises DataError on a missing folder or list, a line that does not fit,
    and a line whose picture is not there. Source: Božič et al. 2020, IV-E.
    """
    pictures = {path.name: path for path in picture_files(root / PICTURES) if path.parent == root / PICTURES}
    if not pictures:
        raise DataError(f"{root / PICTURES}: no pictures there. Give the folder that holds {PICTURES} and {LABELS}.")
    found = _read_labels(root / LABELS, pictures)
    missing = sorted(found.keys() - pictures.keys())
    if missing:
        raise DataError(
            f"{root / LABELS}: {len(missing)} ids have no picture, first {missing[0]}. Unpack {PICTURES} again."
        )
    others = {name for name, runs in found.items() if runs.keys() - {_USED}}
    samples = [
        SteelSample(path.stem, path, found.get(name, {}).get(_USED, ""))
        for name, path in pictures.items()
        if name not in others
    ]
    note = f"{len(others)} pictures with a defect of another class than {_USED} are left out, as in the paper"
    return Dataset(
        spec,
        tuple(sorted(samples, key=lambda sample: sample.name)),
        notes=(note,) if others else (),
        left_out=frozenset(pictures[name] for name in others),
    )


def decode_runs(runs: str, size_hw: tuple[int, int], source: str) -> BoolMask:
    """'start length start length …' → mask (H, W); starts count from 1, down the columns first.

    Raises MaskError on an odd count, on anything but whole numbers from 1, and on runs that overlap or leave the mask.
    """
    pixels = size_hw[0] * size_hw[1]
    starts, lengths = _pairs(runs, source)
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], (starts + lengths)[order]
    if ends.max() > pixels + 1:
        raise MaskError(f"{source}: a run ends at pixel {ends.max() - 1}, the picture has {pixels}. Correct {LABELS}.")
    if (starts[1:] < ends[:-1]).any():
        at = int(starts[1:][starts[1:] < ends[:-1]][0])
        raise MaskError(f"{source}: runs overlap at pixel {at}, wanted each pixel once. Correct {LABELS}.")
    flat = np.zeros(pixels, bool)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        flat[start - 1 : end - 1] = True
    return np.ascontiguousarray(flat.reshape(size_hw[1], size_hw[0]).T)


def _pairs(runs: str, source: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    words = runs.split()
    wrong = next((word for word in words if not re.fullmatch("0*[1-9][0-9]{0,8}", word)), None)
    if wrong is not None:
        raise MaskError(f"{source}: run length {wrong!r}, wanted whole numbers from 1. Correct {LABELS}.")
    if not words or len(words) % 2:
        raise MaskError(f"{source}: {len(words)} run lengths, wanted pairs of start and length. Correct {LABELS}.")
    values = np.array(words, np.int64)
    return values[::2], values[1::2]


def _read_labels(path: Path, pictures: Iterable[str]) -> dict[str, dict[str, str]]:
    """Picture file name → class → run lengths. Raises DataError.

    The older form has a line for each class of each picture: one that lacks some was cut, and would be defect-free.
    """
    found: dict[str, dict[str, str]] = {}
    told: dict[str, set[str]] = {picture: set() for picture in pictures}
    old, rows = _rows(path)
    for number, (picture, kind, runs) in rows:
        if kind not in _CLASSES:
            raise DataError(f"{path}, line {number}: class {kind!r}, wanted {', '.join(_CLASSES)}. Correct that line.")
        told.setdefault(picture, set()).add(kind)
        if not runs:
            continue
        if kind in found.setdefault(picture, {}):
            raise DataError(f"{path}, line {number}: {picture} has class {kind} above already. Keep one line of them.")
        found[picture][kind] = runs
    cut = sorted(picture for picture, kinds in told.items() if old and len(kinds) < len(_CLASSES))
    if cut:
        raise DataError(
            f"{path}: {len(cut)} pictures have fewer lines than the {len(_CLASSES)} of this form, one a class, first"
            f" {cut[0]}. Was the file cut? Save the original again."
        )
    return found


def _rows(path: Path) -> tuple[bool, Iterator[tuple[int, tuple[str, str, str]]]]:
    """Whether it is the older form; then line number, and picture, class and run lengths. Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). It comes with the pictures: put it there.") from error
    rows = csv_rows(lines, path)
    _, header = next(rows, (1, []))
    if header not in (_HEADER, _OLD_HEADER):
        wanted = f"{','.join(_HEADER)} or {','.join(_OLD_HEADER)}"
        raise DataError(f"{path}: the first line is {shown(header)}, wanted {wanted}. Save the original again.")
    return header == _OLD_HEADER, _cells(path, header, rows)


def _cells(
    path: Path, header: Sequence[str], rows: Iterable[tuple[int, list[str]]]
) -> Iterator[tuple[int, tuple[str, str, str]]]:
    for number, row in rows:
        if len(row) not in (0, len(header)):
            wanted = f"wanted {len(header)} columns as in the first line"
            raise DataError(f"{path}, line {number}: {shown(row)}, {wanted}. Correct that line.")
        if row:
            picture, kind = row[:2] if header == _HEADER else row[0].rpartition("_")[::2]
            yield number, (picture.strip(), kind.strip(), row[-1].strip())
