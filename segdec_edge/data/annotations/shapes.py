"""What an annotator drew, and the one place where it becomes a mask. Knows no export format and no class filter.

Coordinates are those of all four tools: x to the right and y down in pixels, the first pixel covers 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from segdec_edge.data.annotations.runs import alternating, brush_alpha, coco_counts
from segdec_edge.errors import MaskError
from segdec_edge.pictures import decode, grey_or_colour, read_bytes
from segdec_edge.types import BoolMask

_FARTHEST = 1e6
_BEYOND = 0.5
"""Pixels: no pixel's centre lies nearer to the border, so a corner this far outside loses nothing when clipped."""
_ELLIPSE_CORNERS = 72


@dataclass(frozen=True)
class Polygon:
    """Closed; points (x, y) in pixels. Boxes, rotated ones and ellipses are polygons too."""

    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class CocoRuns:
    """Run lengths down the columns of the whole picture, as numbers or in COCO's compressed string."""

    counts: str | tuple[int, ...]
    size_hw: tuple[int, int]


@dataclass(frozen=True)
class CvatRuns:
    """Run lengths along the rows of a rectangle, whose first pixel is left, top."""

    counts: tuple[int, ...]
    left: int
    top: int
    size_hw: tuple[int, int]


@dataclass(frozen=True)
class BrushRuns:
    """Label Studio's brush, over the whole picture."""

    code: bytes


@dataclass(frozen=True)
class Crop:
    """An encoded picture of that size, non-zero where defective, whose first pixel is left, top."""

    data: bytes
    left: int
    top: int
    size_hw: tuple[int, int]


@dataclass(frozen=True)
class MaskFile:
    """A mask of the picture's size; a pixel is defective where it has this value (in BGR), or any but 0 for None."""

    path: Path
    value: tuple[int, ...] | None = None


Shape: TypeAlias = Polygon | CocoRuns | CvatRuns | BrushRuns | Crop | MaskFile


@dataclass(frozen=True)
class Region:
    """One shape with the classes an annotator gave it; where names it in messages, as `annotation 17`."""

    shape: Shape
    labels: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class AnnotatedPicture:
    """A picture that an export lists; without regions it is a good part.

    name: its path as the export has it; size_hw: as the export has it, None where it does not say; left_out: why the
    export does not decide whether it is good, None where it does; file: its own file, where each picture has one;
    part: the physical part it shows, where the export says so.
    """

    name: str
    size_hw: tuple[int, int] | None
    regions: tuple[Region, ...]
    left_out: str | None = None
    file: Path | None = None
    part: str | None = None


@dataclass(frozen=True)
class Export:
    """All that was exported. classes: those declared or used; bare_names: pictures are named without suffix;
    own_paths: each picture's path begins in its own way, as uploads, addresses and other machines' folders do."""

    pictures: tuple[AnnotatedPicture, ...]
    classes: frozenset[str]
    notes: tuple[str, ...] = ()
    bare_names: bool = False
    own_paths: bool = False


@dataclass(frozen=True)
class Drawn:
    """mask (H, W), at least one pixel set; clipped: the shape reached beyond the picture."""

    mask: BoolMask
    clipped: bool


def box(left: float, top: float, width: float, height: float, degrees: float = 0.0) -> Polygon:
    """A rectangle, rotated clockwise as seen on the screen about its centre."""
    return turned_box(left, top, width, height, degrees, (left + width / 2, top + height / 2))


def turned_box(
    left: float, top: float, width: float, height: float, degrees: float, about: tuple[float, float]
) -> Polygon:
    """A rectangle, rotated clockwise as seen on the screen about a point."""
    corners = [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]
    return Polygon(_turned(corners, degrees, about))


def ellipse(centre: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0) -> Polygon:
    """An ellipse of radii along x and y, rotated clockwise as seen on the screen about its centre."""
    angles = [2 * math.pi * index / _ELLIPSE_CORNERS for index in range(_ELLIPSE_CORNERS)]
    corners = [(centre[0] + radii[0] * math.cos(angle), centre[1] + radii[1] * math.sin(angle)) for angle in angles]
    return Polygon(_turned(corners, degrees, centre))


def draw(shape: Shape, size_hw: tuple[int, int]) -> Drawn:
    """Turn a shape into a mask of a picture.

    A pixel belongs to a polygon where its centre does (even-odd rule). A polygon too thin to hold any centre marks the
    pixels that its outline touches, so that no defect vanishes.
    Raises MaskError where the shape lies outside the picture, marks nothing or is broken.
    """
    match shape:
        case Polygon():
            return _draw_polygon(shape, size_hw)
        case CocoRuns():
            mask = _from_coco(shape, size_hw)
        case CvatRuns():
            mask = _from_cvat(shape, size_hw)
        case BrushRuns():
            mask = brush_alpha(shape.code, size_hw) > 0
        case Crop():
            mask = _from_crop(shape, size_hw)
        case MaskFile():
            mask = _from_file(shape, size_hw)
    if not mask.any():
        raise MaskError("its mask marks no pixel. Delete it in the annotation tool, or draw it again.")
    return Drawn(mask, clipped=False)


def _turned(
    corners: Sequence[tuple[float, float]], degrees: float, about: tuple[float, float]
) -> tuple[tuple[float, float], ...]:
    if not degrees:
        return tuple(corners)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    offsets = [(x - about[0], y - about[1]) for x, y in corners]
    return tuple((about[0] + cosine * x - sine * y, about[1] + sine * x + cosine * y) for x, y in offsets)


def _draw_polygon(polygon: Polygon, size_hw: tuple[int, int]) -> Drawn:
    if len(polygon.points) < 3:
        raise MaskError(f"polygon of {len(polygon.points)} points, wanted at least 3. Delete it or draw it again.")
    points = np.asarray(polygon.points, np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    if not (np.isfinite(points).all() and np.abs(points).max() <= _FARTHEST):
        raise MaskError(f"coordinates from {low.tolist()} to {high.tolist()}, wanted pixels. Export it again.")
    if (low == high).all():
        raise MaskError(f"all its points are {low.tolist()}: no area. Delete it in the annotation tool.")
    mask = _filled(points, size_hw)
    if not mask.any():
        mask = _touched(points, size_hw)
    height, width = size_hw
    if not mask.any():
        raise MaskError(
            f"x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g} is outside the picture of {width} × {height}"
            " (width × height). Is it the picture that was annotated?"
        )
    outside = bool((low < -_BEYOND).any() or high[0] > width + _BEYOND or high[1] > height + _BEYOND)
    return Drawn(mask, clipped=outside)


def _filled(points: NDArray[np.float64], size_hw: tuple[int, int]) -> BoolMask:
    # Not cv2.fillPoly, which also sets every pixel the outline touches: a box of 20 pixels comes out 21 wide.
    mask = np.zeros(size_hw, np.bool_)
    first = max(0, math.ceil(points[:, 1].min() - 0.5))
    last = min(size_hw[0], math.floor(points[:, 1].max() - 0.5) + 1)
    if first >= last:
        return mask
    centres = np.arange(first, last) + 0.5
    toggles = np.zeros((last - first, size_hw[1] + 1), np.int32)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        rows = np.nonzero((y0 <= centres) != (y1 <= centres))[0]
        if rows.size:
            crossings = x0 + (centres[rows] - y0) * (x1 - x0) / (y1 - y0)
            toggles[rows, np.clip(np.ceil(crossings - 0.5), 0, size_hw[1]).astype(np.int64)] += 1
    mask[first:last] = np.cumsum(toggles, axis=1)[:, :-1] % 2 == 1
    return mask


def _touched(points: NDArray[np.float64], size_hw: tuple[int, int]) -> BoolMask:
    canvas = np.zeros(size_hw, np.uint8)
    cv2.polylines(canvas, [np.floor(points).astype(np.int32)], isClosed=True, color=1)
    return canvas > 0


def _from_coco(runs: CocoRuns, size_hw: tuple[int, int]) -> BoolMask:
    _same_size(runs.size_hw, size_hw, "run lengths")
    counts = coco_counts(runs.counts) if isinstance(runs.counts, str) else runs.counts
    height, width = size_hw
    return np.ascontiguousarray(alternating(counts, height * width).reshape(width, height).T)


def _from_cvat(runs: CvatRuns, size_hw: tuple[int, int]) -> BoolMask:
    height, width = runs.size_hw
    place = _place(runs.left, runs.top, runs.size_hw, size_hw)  # before the runs: they may claim any size
    mask = np.zeros(size_hw, np.bool_)
    mask[place] = alternating(runs.counts, height * width).reshape(height, width)
    return mask


def _from_crop(crop: Crop, size_hw: tuple[int, int]) -> BoolMask:
    marked = _marked(decode(crop.data, "its mask"), None, "its mask")
    height, width = marked.shape
    if (height, width) != crop.size_hw:
        raise MaskError(
            f"its mask is {width} × {height} (width × height), its points span {crop.size_hw[1]} × {crop.size_hw[0]}."
            " Draw it again."
        )
    mask = np.zeros(size_hw, np.bool_)
    mask[_place(crop.left, crop.top, (height, width), size_hw)] = marked
    return mask


def _from_file(file: MaskFile, size_hw: tuple[int, int]) -> BoolMask:
    marked = _marked(decode(read_bytes(file.path), str(file.path)), file.value, str(file.path))
    height, width = marked.shape
    _same_size((height, width), size_hw, str(file.path))
    return marked


def _marked(pixels: NDArray[np.generic], value: tuple[int, ...] | None, source: str) -> BoolMask:
    if value is None:
        return np.asarray((np.atleast_3d(grey_or_colour(pixels, source)) != 0).any(axis=2), np.bool_)
    return np.asarray(np.equal(np.atleast_3d(pixels), np.asarray(value)).all(axis=2), np.bool_)


def _place(left: int, top: int, inner_hw: tuple[int, int], size_hw: tuple[int, int]) -> tuple[slice, slice]:
    bottom, right = top + inner_hw[0], left + inner_hw[1]
    if min(left, top, *inner_hw) < 0 or bottom > size_hw[0] or right > size_hw[1]:
        raise MaskError(
            f"mask at x {left} to {right}, y {top} to {bottom} is outside the picture of {size_hw[1]} × {size_hw[0]}"
            " (width × height). Is it the picture that was annotated?"
        )
    return slice(top, bottom), slice(left, right)


def _same_size(got: tuple[int, int], wanted: tuple[int, int], what: str) -> None:
    if got != wanted:
        raise MaskError(
            f"{what}: {got[1]} × {got[0]} (width × height), wanted {wanted[1]} × {wanted[0]}, as the picture."
            " Is it the picture that was annotated?"
        )
