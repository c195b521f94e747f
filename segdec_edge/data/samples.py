"""What a data set is: samples that can be read one by one. Knows no layout on disk and no split."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from segdec_edge.data.exif import refuse_turned
from segdec_edge.data.words import take_apart
from segdec_edge.errors import DataError, MaskError
from segdec_edge.pictures import decode, grey_or_colour, read_bytes, read_picture, to_eight_bit
from segdec_edge.types import BoolMask, Pixels

_NOISE_REACH = 8
"""Pixels: JPEG's noise about an edge stays in its block of 8 × 8; at qualities 5 to 95 it reached 7."""
_DRAWN = 12
"""Pixels of one value in one region: MagneticTile's masks hold specks far from their defects, 7 at most."""


class Sample(Protocol):
    """One picture of one part.

    name: unique in its data set and stable between runs; part: the physical part it shows (a split never divides one);
    positive: defective; has_mask: False for a defective picture nobody annotated.
    """

    @property
    def name(self) -> str: ...

    @property
    def part(self) -> str: ...

    @property
    def positive(self) -> bool: ...

    @property
    def has_mask(self) -> bool: ...

    @property
    def path(self) -> Path | None:
        """Where the picture lies, None where it is generated."""
        ...

    @property
    def sources(self) -> tuple[Path | str, ...]:
        """What picture and mask are read from: files, or what a list says of them; nothing where they are made."""
        ...

    def read(self) -> Pixels:
        """The picture, (H, W) or (H, W, 3) BGR uint8. Raises PictureError, also where EXIF turns one with a mask."""
        ...

    def read_mask(self) -> BoolMask | None:
        """The mask as annotated, (H, W) of the picture's size; None for a good part or where has_mask is False.

        Raises MaskError.
        """
        ...


@dataclass(frozen=True)
class FileSample:
    """A sample on disk; mask_path is None for good parts and for defective ones without annotation."""

    name: str
    part: str
    positive: bool
    path: Path
    mask_path: Path | None = None

    @property
    def has_mask(self) -> bool:
        return self.mask_path is not None or not self.positive

    @property
    def sources(self) -> tuple[Path | str, ...]:
        return (self.path,) if self.mask_path is None else (self.path, self.mask_path)

    def read(self) -> Pixels:
        return read_picture(self.path) if self.mask_path is None else read_upright(self.path)

    def read_mask(self) -> BoolMask | None:
        return None if self.mask_path is None or not self.positive else read_mask(self.mask_path)


@dataclass(frozen=True)
class UnmaskedSample:
    """A defective sample whose annotation is not to be used: only that it is defective is known."""

    sample: Sample

    @property
    def name(self) -> str:
        return self.sample.name

    @property
    def part(self) -> str:
        return self.sample.part

    @property
    def positive(self) -> bool:
        return True

    @property
    def has_mask(self) -> bool:
        return False

    @property
    def path(self) -> Path | None:
        return self.sample.path

    @property
    def sources(self) -> tuple[Path | str, ...]:
        return self.sample.sources

    def read(self) -> Pixels:
        return self.sample.read()

    def read_mask(self) -> BoolMask | None:
        return None


def with_masks(samples: Sequence[Sample], count: int | None, seed: int) -> tuple[Sample, ...]:
    """The same samples, of which only `count` defective ones keep their mask (None: all), for mixed supervision.

    Which ones depends on seed and names alone, and a smaller count keeps a subset of a larger one's.
    Raises DataError where fewer have one.
    """
    if count is None:
        return tuple(samples)
    annotated = sorted(sample.name for sample in samples if sample.positive and sample.has_mask)
    if count > len(annotated):
        raise DataError(f"masks = {count}, but {len(annotated)} defective training pictures have one. Lower masks.")
    order = np.random.default_rng([seed, 2]).permutation(annotated).tolist()
    return without_masks(samples, set(order[count:]))


def without_masks(samples: Iterable[Sample], names: Collection[str]) -> tuple[Sample, ...]:
    """The same samples; defective ones of these names keep no mask."""
    return tuple(UnmaskedSample(one) if one.positive and one.name in names else one for one in samples)


def withheld_in(samples: Iterable[Sample]) -> tuple[str, ...]:
    """Names of those whose mask was taken from them."""
    return tuple(one.name for one in samples if isinstance(one, UnmaskedSample))


@dataclass(frozen=True)
class Dataset:
    """spec: the string that names it; samples sorted by name, names unique. Raises DataError on doubles or none.

    published_test: names of the pictures that the data set's authors keep for the test, where its folders say so.
    notes: what a reader of results must know about it, one line each; left_out: pictures there that it does not use.
    findings: what is wrong with its files, one line each; only a data set opened to be checked may have any.
    """

    spec: str
    samples: tuple[Sample, ...]
    published_test: frozenset[str] | None = None
    notes: tuple[str, ...] = ()
    left_out: frozenset[Path] = frozenset()
    findings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.samples:
            raise DataError(f"{self.spec}: no pictures there. Check the path and the layout (README, Your own parts).")
        names = [sample.name for sample in self.samples]
        if len(set(names)) < len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{self.spec}: two pictures are named {double}, wanted unique names. Rename one.")

    @property
    def root(self) -> Path:
        """The folder that the spec names. Raises DataError for a data set that is not on disk."""
        words = take_apart(self.spec)
        if words.path is None:
            raise DataError(f"{self.spec}: is generated, wanted a data set on disk for this. Use another one.")
        return words.path

    def named(self, names: tuple[str, ...]) -> tuple[Sample, ...]:
        """The samples of these names, in this order. Raises DataError naming the first that is not there."""
        by_name = {sample.name: sample for sample in self.samples}
        missing = [name for name in names if name not in by_name]
        if missing:
            raise DataError(
                f"{self.spec}: {len(missing)} pictures of the split are not there, first {missing[0]}."
                " Is it the data set that the split was made for?"
            )
        return tuple(by_name[name] for name in names)


def read_upright(path: Path) -> Pixels:
    """As read_picture, for a picture with a mask: where EXIF turns it, its mask would not fit. Raises PictureError."""
    return to_eight_bit(decode(refuse_turned(read_bytes(path), str(path)), str(path)), str(path))


def read_mask(path: Path) -> BoolMask:
    """Read a mask file: (H, W), True where any channel is above 127 of 255, or non-zero where no value is above 127.

    The second rule serves masks written as 0/1 or class numbers; soft edges of 0/255 masks fall under the first.
    With 16 bits a channel the half is 32767. Raises MaskError, also on class numbers of which some are above the half:
    the others would be lost; and on a TIFF of several pages, of which one would be read.
    """
    try:
        pixels = grey_or_colour(decode(read_bytes(path), str(path)), str(path))
    except DataError as error:
        raise MaskError(f"mask {error}") from error
    top = pixels.max(axis=2) if pixels.ndim == 3 else pixels
    half = int(np.iinfo(top.dtype).max) // 2
    bright: BoolMask = top > half
    if not bright.any():
        return top > 0
    dim = (top > 0) & ~bright
    lost = _lost_region(top, dim, bright) if dim.any() else None
    if lost is not None:
        row, column = lost
        raise MaskError(
            f"mask {path}: value {top[row, column]} at row {row}, column {column}, far from any above {half}, wanted"
            f" one value for all defects: only those above {half} count here. Save the mask with 0 and 255."
        )
    return bright


def _lost_region(top: NDArray[np.uint8 | np.uint16], dim: BoolMask, bright: BoolMask) -> tuple[int, int] | None:
    """The first pixel, row and column, of a region of dim pixels that touches no bright one and is drawn, no noise:
    farther than a lossy format's reaches, and of one value."""
    labels = cv2.connectedComponents((dim | bright).astype(np.uint8), connectivity=8)[1]
    touched = np.zeros(int(labels.max()) + 1, np.bool_)
    touched[0] = True
    touched[labels[bright]] = True
    if touched.all():
        return None
    reach = np.ones((2 * _NOISE_REACH + 1,) * 2, np.uint8)
    near = cv2.dilate(bright.astype(np.uint8), reach) > 0
    rows, columns = np.nonzero(~touched[labels] & ~near)
    keys = labels[rows, columns].astype(np.int64) * 65536 + top[rows, columns]
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    drawn = first[counts >= _DRAWN]
    return (int(rows[drawn.min()]), int(columns[drawn.min()])) if drawn.size else None
