"""Connected hot areas of a heat map, and where they lie in the whole picture. Knows no threshold on a score."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segdec_edge.errors import PictureError
from segdec_edge.types import BoolMask, Region
from segdec_edge.view import SizeHW, View

HeatMap = NDArray[np.float32]
MAX_REGIONS = 16
MAX_POINTS = 64


@dataclass(frozen=True, eq=False)
class Grid:
    """How a heat map's cells lie in the whole picture.

    ignored (h, w): True for cells whose heat does not count, None where all do. cell_area_px: of one cell, in pixels
    of the whole picture.
    """

    view: View
    picture_hw: SizeHW
    heatmap_hw: SizeHW
    ignored: BoolMask | None = None

    @property
    def cell_area_px(self) -> float:
        seen_h, seen_w = self.view.size_in(self.picture_hw)
        return (seen_h * seen_w) / (self.heatmap_hw[0] * self.heatmap_hw[1])


def grid_of(view: View, picture_hw: SizeHW, heatmap_hw: SizeHW, ignore: BoolMask | None = None) -> Grid:
    """The grid for pictures of one size. ignore (H, W): True where heat does not count, in pixels of the whole picture.

    A cell is ignored only where the mask covers all of it: what is half covered counts. Raises PictureError where the
    region sticks out, the mask has another size than the picture, or it covers all that is seen.
    """
    view.region_in(picture_hw)
    if ignore is None:
        return Grid(view, picture_hw, heatmap_hw)
    if ignore.shape != picture_hw:
        raise PictureError(
            f"the ignore mask is {ignore.shape[0]}x{ignore.shape[1]} (HxW), the picture"
            f" {picture_hw[0]}x{picture_hw[1]}, wanted the same. Draw the mask on a picture of this camera."
        )
    seen = view.apply(ignore.astype(np.uint8)) > 0
    rows = np.stack([seen[low:high].all(axis=0) for low, high in _spans(seen.shape[0], heatmap_hw[0])])
    cells = np.stack([rows[:, low:high].all(axis=1) for low, high in _spans(seen.shape[1], heatmap_hw[1])], axis=1)
    if cells.all():
        raise PictureError(
            "the ignore mask covers all that the network sees, wanted a part of it. White is ignored, black counts."
        )
    return Grid(view, picture_hw, heatmap_hw, cells if cells.any() else None)


def largest_area_px(heatmap: HeatMap, level: float, grid: Grid) -> float:
    """The area of the largest connected part of (h, w) at or above level, in pixels of the whole picture; 0 for none.

    Cells that touch at a corner are connected. A part that reaches under the ignore mask stays one, and what lies
    outside the mask counts.
    """
    cells, _, _ = _components(heatmap, level, grid)
    return float(cells.max(initial=0)) * grid.cell_area_px


def regions_of(heatmap: HeatMap, level: float, grid: Grid, limit: int = MAX_REGIONS) -> tuple[Region, ...]:
    """The connected parts of (h, w) at or above level, the largest first, at most `limit`.

    Boxes and outlines follow the cells' edges, rounded outwards for boxes; holes are not drawn. An outline of more than
    MAX_POINTS is simplified. area_px leaves out what is ignored.
    """
    cells, labels, boxes = _components(heatmap, level, grid)
    largest = np.argsort(-cells, kind="stable")[:limit]
    return tuple(_region(heatmap, labels, int(one), boxes[one], int(cells[one]), grid) for one in largest if cells[one])


def _components(
    heatmap: HeatMap, level: float, grid: Grid
) -> tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]:
    """Counted cells of each component (0 for the background), the label of each cell, and each one's (x, y, w, h)."""
    hot = (heatmap >= level).view(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(hot, connectivity=8)
    counted = labels.ravel() if grid.ignored is None else labels[~grid.ignored]
    cells = np.bincount(counted, minlength=count)
    cells[0] = 0
    return cells, np.asarray(labels, np.int32), np.asarray(stats[:, :4], np.int32)


def _region(
    heatmap: HeatMap, labels: NDArray[np.int32], label: int, box: NDArray[np.int32], cells: int, grid: Grid
) -> Region:
    x, y, w, h = (int(value) for value in box)
    inside = labels[y : y + h, x : x + w] == label
    corners = np.array([[x, y], [x + w, y + h]], np.float64)
    return Region(
        box_xywh=_box(grid.view.to_picture(corners, grid.heatmap_hw, grid.picture_hw), grid.picture_hw),
        polygon_xy=_polygon(_outline(inside) + corners[0], grid),
        area_px=cells * grid.cell_area_px,
        peak=float(heatmap[y : y + h, x : x + w][inside].max()),
    )


def _box(corners_xy: NDArray[np.float64], picture_hw: SizeHW) -> tuple[int, int, int, int]:
    # A hundred-millionth of a pixel: a cell's edge on a whole pixel must not be rounded past it.
    left, top = np.floor(corners_xy.min(axis=0) + 1e-8).astype(int)
    right, bottom = np.minimum(np.ceil(corners_xy.max(axis=0) - 1e-8).astype(int), [picture_hw[1], picture_hw[0]])
    return int(left), int(top), int(right - left), int(bottom - top)


def _outline(inside: BoolMask) -> NDArray[np.float64]:
    """The outer edge of a component (h, w) along the edges of its cells, (n, 2) in cells."""
    # Contours run through pixels. With every cell two pixels wide, pixels 2i and 2i + 1 are its edges i and i + 1.
    doubled = inside.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    edges = (np.asarray(contours[0], np.int32).reshape(-1, 2) + 1) // 2
    kept = (np.diff(edges, axis=0, prepend=edges[-1:]) != 0).any(axis=1)
    return np.asarray(edges[kept], np.float64)


def _polygon(outline_xy: NDArray[np.float64], grid: Grid) -> tuple[tuple[int, int], ...]:
    tolerance = 0.5
    while len(outline_xy) > MAX_POINTS:
        simpler = cv2.approxPolyDP(outline_xy.astype(np.float32).reshape(-1, 1, 2), tolerance, closed=True)
        outline_xy, tolerance = np.asarray(simpler, np.float64).reshape(-1, 2), 2 * tolerance
    points = np.rint(grid.view.to_picture(outline_xy, grid.heatmap_hw, grid.picture_hw)).astype(int)
    return tuple((int(x), int(y)) for x, y in points)


def _spans(pixels: int, cells: int) -> list[tuple[int, int]]:
    """The pixels that each cell touches, half-open."""
    return [(index * pixels // cells, -(-(index + 1) * pixels // cells)) for index in range(cells)]
