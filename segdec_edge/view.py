"""Which part of a camera's picture the network sees, and which way up; and the way back. Knows no network and no rule.

Coordinates here are continuous (x, y): the pixel or cell in column i covers i to i + 1. A picture is cropped, then
turned; the resize that follows is linear in these coordinates, so the way back is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segdec_edge.errors import ConfigError, PictureError
from segdec_edge.types import Pixels

Points = NDArray[np.float64]
"""(n, 2), x and y."""
SizeHW = tuple[int, int]

_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class View:
    """region_xywh: left, top, width and height in pixels of the whole picture, None for all of it; rotation: degrees
    clockwise that the region is turned by before the network sees it (0, 90, 180, 270). Raises ConfigError.
    """

    region_xywh: tuple[int, int, int, int] | None = None
    rotation: int = 0

    def __post_init__(self) -> None:
        if self.rotation not in (0, *_TURNS):
            raise ConfigError(f"rotation is {self.rotation}, wanted 0, 90, 180 or 270. Change it.")
        if self.region_xywh is not None and (min(self.region_xywh[:2]) < 0 or min(self.region_xywh[2:]) < 1):
            raise ConfigError(
                f"region is {list(self.region_xywh)}, wanted [x, y, width, height] with x, y >= 0 and sides >= 1."
                " Change it."
            )

    def region_in(self, picture_hw: SizeHW) -> tuple[int, int, int, int]:
        """(x, y, w, h) of what is seen of a picture of this size. Raises PictureError where it sticks out."""
        height, width = picture_hw
        if self.region_xywh is None:
            return 0, 0, width, height
        x, y, w, h = self.region_xywh
        if x + w > width or y + h > height:
            raise PictureError(
                f"the region {list(self.region_xywh)} sticks out of a picture of {height}x{width} (HxW), wanted it"
                " inside. Correct view.region, or the camera's own region and binning."
            )
        return x, y, w, h

    def size_in(self, picture_hw: SizeHW) -> SizeHW:
        """(height, width) of what is seen of a picture of this size, after turning. Raises PictureError."""
        _, _, w, h = self.region_in(picture_hw)
        return (h, w) if self.rotation in (0, 180) else (w, h)

    def apply(self, pixels: Pixels) -> Pixels:
        """Crop and turn (H, W) or (H, W, 3). A crop is no copy. Raises PictureError."""
        height, width = pixels.shape[:2]
        if self.region_xywh is not None:
            x, y, w, h = self.region_in((height, width))
            pixels = pixels[y : y + h, x : x + w]
        return pixels if self.rotation == 0 else np.asarray(cv2.rotate(pixels, _TURNS[self.rotation]), pixels.dtype)

    def to_picture(self, points_xy: Points, heatmap_hw: SizeHW, picture_hw: SizeHW) -> Points:
        """Points of the heat map (n, 2), in cells, as points of the whole picture (n, 2), in pixels."""
        x, y, w, h = self.region_in(picture_hw)
        seen_h, seen_w = self.size_in(picture_hw)
        u = points_xy[:, 0] * (seen_w / heatmap_hw[1])
        v = points_xy[:, 1] * (seen_h / heatmap_hw[0])
        match self.rotation:
            case 90:
                u, v = v, h - u
            case 180:
                u, v = w - u, h - v
            case 270:
                u, v = w - v, u
        return np.stack([u + x, v + y], axis=1)

    def to_heatmap(self, points_xy: Points, heatmap_hw: SizeHW, picture_hw: SizeHW) -> Points:
        """Points of the whole picture (n, 2), in pixels, as points of the heat map (n, 2), in cells."""
        x, y, w, h = self.region_in(picture_hw)
        seen_h, seen_w = self.size_in(picture_hw)
        u, v = points_xy[:, 0] - x, points_xy[:, 1] - y
        match self.rotation:
            case 90:
                u, v = h - v, u
            case 180:
                u, v = w - u, h - v
            case 270:
                u, v = v, w - u
        return np.stack([u * (heatmap_hw[1] / seen_w), v * (heatmap_hw[0] / seen_h)], axis=1)

    def over_picture(self, heatmap: NDArray[np.float32], picture_hw: SizeHW) -> NDArray[np.float32]:
        """The heat map (h, w) laid out over the whole picture, at about its own resolution; 0 where nothing was seen.

        For people to look at: cells are blended where they do not fall together. The same array for a whole view.
        """
        if self == WHOLE:
            return heatmap
        heatmap_hw = (heatmap.shape[0], heatmap.shape[1])
        height, width = picture_hw
        seen_h, seen_w = self.size_in(picture_hw)
        cell_h, cell_w = seen_h / heatmap_hw[0], seen_w / heatmap_hw[1]
        if self.rotation in (90, 270):
            cell_h, cell_w = cell_w, cell_h
        rows, columns = max(1, round(height / cell_h)), max(1, round(width / cell_w))
        # OpenCV counts from pixel centres: three of them fix the affine way from this canvas to the heat map.
        centres = np.array([[0.5, 0.5], [1.5, 0.5], [0.5, 1.5]])
        origin, right, down = self.to_heatmap(centres * [width / columns, height / rows], heatmap_hw, picture_hw) - 0.5
        back = np.stack([right - origin, down - origin, origin], axis=1)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        laid = cv2.warpAffine(heatmap, back, (columns, rows), flags=flags, borderMode=cv2.BORDER_CONSTANT)
        return np.asarray(laid, np.float32)


WHOLE = View()
"""The whole picture as it comes."""
