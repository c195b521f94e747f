"""Rough masks into what the segmentation loss compares with. Knows no picture and no network."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from segdec_edge.errors import MaskError
from segdec_edge.types import BoolMask, Weights

Per = Literal["region", "image"]
_EIGHT_CONNECTED = np.ones((3, 3), np.int8)


def region_boxes(mask: BoolMask) -> BoolMask:
    """Replace each 8-connected region by its smallest rotated rectangle, as annotators draw it. (H, W) → (H, W).

    Source: Božič et al. 2020, IV-D: "rotated bounding-box annotation". Raises MaskError on an empty shape.
    """
    _check(mask)
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    boxes = mask.astype(np.uint8)
    for region in range(1, count):
        rows, columns = np.nonzero(labels == region)
        corners = cv2.boxPoints(cv2.minAreaRect(np.stack([columns, rows], axis=1).astype(np.float32)))
        cv2.fillPoly(boxes, [np.round(corners).astype(np.int32)], 1)
    return boxes > 0


def dilate(mask: BoolMask, size: int) -> BoolMask:
    """Grow a mask by a size × size square of ones, centred; size 1 leaves it. Raises MaskError on a size below 1."""
    _check(mask)
    if size < 1:
        raise MaskError(f"dilation of {size} pixels, wanted 1 (none) or more. Change dilate.")
    return cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8)) > 0


def resize_mask(mask: BoolMask, size_hw: tuple[int, int]) -> BoolMask:
    """Resize a mask bilinearly; a pixel that a defect touches is defective. A defect never vanishes by shrinking."""
    _check(mask)
    height, width = size_hw
    if mask.shape == size_hw:
        return mask
    # Bilinear sampling steps over thin defects where a side shrinks by more than two.
    steps_over = mask.shape[0] > 2 * height or mask.shape[1] > 2 * width
    how = cv2.INTER_AREA if steps_over else cv2.INTER_LINEAR
    resized = cv2.resize(mask.astype(np.float32), (width, height), interpolation=how) > 0
    return np.asarray(resized, dtype=np.bool_)


def distance_weights(mask: BoolMask, p: float, w_pos: float, per: Per = "region") -> Weights:
    """Weight of each pixel in the segmentation loss, (H, W) float32.

    1 outside a defect; inside, w_pos · (d / d_max)^p, d the Euclidean distance in pixels to the nearest background
    pixel (the border of the picture is not background). d_max is the largest d in that 8-connected region
    (per="region": the paper's text, and the authors' code since August 2021) or in the picture (per="image": the
    release behind the published numbers). A mask without any background weighs w_pos throughout.
    Raises MaskError on an empty shape. Source: Božič et al. 2020, eq. 3 and 4.
    """
    mask = np.asarray(mask) > 0
    _check(mask)
    if per not in ("region", "image"):
        raise MaskError(f"per is {per!r}, wanted 'region' or 'image'.")
    weights = np.ones(mask.shape, np.float64)
    if mask.all():
        return np.full(mask.shape, w_pos, np.float32)
    distance = ndimage.distance_transform_edt(mask)
    labels, count = ndimage.label(mask, structure=_EIGHT_CONNECTED) if per == "region" else (mask.astype(np.int32), 1)
    if not mask.any():
        return weights.astype(np.float32)
    largest = np.asarray(ndimage.maximum(distance, labels, index=np.arange(1, count + 1)))
    weights[mask] = w_pos * (distance[mask] / largest[labels[mask] - 1]) ** p
    return weights.astype(np.float32)


def reduce_to_eighth(array: ArrayLike) -> NDArray[np.float32]:
    """Reduce (H, W) to (H/8, W/8): reflection pad 8, mean over 17×17, stride 8. float32.

    Raises MaskError where a side does not divide by 8 or is too short to reflect. Source: the authors' implementation.
    """
    values = np.asarray(array, dtype=np.float64)
    if values.ndim != 2 or any(side % 8 or side < 16 for side in values.shape):
        raise MaskError(f"array of shape {values.shape}, wanted (H, W), both dividing by 8 and at least 16.")
    padded = np.pad(values, 8, mode="reflect")
    # Rows first, then columns: the same mean with 2 × 17 additions a value, exact where values are small integers.
    rows = np.lib.stride_tricks.sliding_window_view(padded, 17, axis=0)[::8].sum(axis=-1)
    windows = np.lib.stride_tricks.sliding_window_view(rows, 17, axis=1)[:, ::8].sum(axis=-1)
    return np.asarray(windows / 289.0, dtype=np.float32)


def _check(mask: NDArray[np.generic]) -> None:
    if mask.ndim != 2 or 0 in mask.shape:
        raise MaskError(f"mask of shape {mask.shape}, wanted (H, W) with at least one pixel.")
