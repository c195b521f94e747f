"""The small pictures of the report: a part, and the same part under its heat map with the annotated defect outlined.

Knows no page. Every picture fits a byte limit, so that the report stays small whatever the parts look like.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segdec_edge.data.samples import Sample
from segdec_edge.errors import MaskError, PictureError
from segdec_edge.evaluation.scoring import ScoredSample
from segdec_edge.pictures import overlay
from segdec_edge.types import BoolMask, Pixels

LONG_SIDE = 512
_SMALL_SIDE = 64
_QUALITIES = (88, 75, 60, 45)
_CASING, _OUTLINE = (0, 0, 0), (255, 255, 0)  # BGR: black under cyan, a hue the heat map does not have


@dataclass(frozen=True)
class Panels:
    """Two JPEG data URIs and the size_hw in pixels both are shown at; outlined: the second shows the annotated defect.

    note says what could not be shown, empty where all is there.
    """

    picture_uri: str
    overlay_uri: str
    size_hw: tuple[int, int]
    outlined: bool
    note: str


def make_panels(sample: Sample, one: ScoredSample, limit_bytes: int) -> Panels | None:
    """Draw one part, each JPEG as jpeg_uri limits it. None where the picture cannot be read any more."""
    try:
        full = sample.read()
    except PictureError:
        return None
    mask, note = _mask_of(sample, full)
    small = shrink(full, LONG_SIDE)
    heat = small if one.heatmap is None else overlay(small, one.heatmap)
    heat = heat if mask is None else outline(heat, mask)
    size_hw, outlined = (small.shape[0], small.shape[1]), mask is not None and bool(mask.any())
    return Panels(jpeg_uri(small, limit_bytes), jpeg_uri(heat, limit_bytes), size_hw, outlined, note)


def outline(pixels: Pixels, mask: BoolMask) -> Pixels:
    """Draw the mask's border (cyan on black) over a picture (h, w, 3) of any size; mask (H, W) of the same view."""
    colour = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels.copy()
    scale = np.array([colour.shape[1] / mask.shape[1], colour.shape[0] / mask.shape[0]])
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    # Contours come from the full mask and are scaled as points: a thin defect would vanish from a resized mask.
    scaled = [np.round((contour + 0.5) * scale - 0.5).astype(np.int32) for contour in contours]
    for tint, thickness in ((_CASING, 3), (_OUTLINE, 1)):
        cv2.polylines(colour, scaled, True, tint, thickness)  # LINE_AA would dim a line of one pixel
    return np.asarray(colour, np.uint8)


def shrink(pixels: Pixels, long_side: int) -> Pixels:
    """Shrink a picture so that its longer side is at most long_side pixels; a smaller one is left alone."""
    height, width = pixels.shape[:2]
    scale = long_side / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def jpeg_uri(pixels: Pixels, limit_bytes: int) -> str:
    """A JPEG data URI; quality, then size, go down until it fits limit_bytes or the longer side is 64 pixels."""
    while True:
        for quality in _QUALITIES:
            data = _jpeg(pixels, quality)
            if len(data) <= limit_bytes:
                return _uri(data)
        if max(pixels.shape[:2]) <= _SMALL_SIDE:
            return _uri(data)
        share = min(0.9, math.sqrt(limit_bytes / len(data)))  # a JPEG's size goes about with its area
        pixels = shrink(pixels, max(_SMALL_SIDE, int(max(pixels.shape[:2]) * share)))


def _mask_of(sample: Sample, pixels: Pixels) -> tuple[BoolMask | None, str]:
    if not sample.has_mask:
        return None, "no mask annotated"
    try:
        mask = sample.read_mask()
    except MaskError:
        return None, "its mask cannot be read"
    if mask is not None and mask.shape != pixels.shape[:2]:
        return None, "its mask is of another size"
    return mask, ""


def _jpeg(pixels: Pixels, quality: int) -> NDArray[np.uint8]:
    full_chroma = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444  # else a cyan line one pixel wide turns grey
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full_chroma]
    _, data = cv2.imencode(".jpg", pixels, [*options, cv2.IMWRITE_JPEG_OPTIMIZE, 1])
    return np.asarray(data, np.uint8)


def _uri(data: NDArray[np.uint8]) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
