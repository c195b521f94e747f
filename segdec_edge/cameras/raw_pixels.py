"""A device's raw picture to (H, W) grey or (H, W, 3) BGR, uint8. Knows no device.

Rule for more than 8 bits: the highest 8 are kept (Mono10 >> 2, Mono12 >> 4, Mono16 >> 8), so that black stays black and
full scale stays 255. Bayer patterns are interpolated bilinearly.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from segdec_edge.types import Pixels

SURPLUS_BITS = {"Mono10": 2, "Mono12": 4, "Mono16": 8}

# OpenCV names a pattern by its second row and column, GenICam by its first: RG there is BG here.
_BAYER = {
    "BayerRG8": cv2.COLOR_BayerBG2BGR,
    "BayerGR8": cv2.COLOR_BayerGB2BGR,
    "BayerGB8": cv2.COLOR_BayerGR2BGR,
    "BayerBG8": cv2.COLOR_BayerRG2BGR,
}


def bytes_needed(pixel_format: str, height: int, width: int) -> int:
    """Size of a picture's pixels as the device sends them, without padding."""
    return height * width * (2 if pixel_format in SURPLUS_BITS else 3 if pixel_format in ("RGB8", "BGR8") else 1)


def to_pixels(raw: NDArray[np.uint8], pixel_format: str, height: int, width: int) -> Pixels:
    """A picture of its own memory from at least bytes_needed() raw bytes (N,), rows one after the other."""
    raw = raw[: bytes_needed(pixel_format, height, width)]
    if (surplus := SURPLUS_BITS.get(pixel_format)) is not None:
        values = np.right_shift(raw.view("<u2").reshape(height, width), surplus)
        return np.asarray(np.minimum(values, 255), np.uint8)
    if (pattern := _BAYER.get(pixel_format)) is not None:
        return np.asarray(cv2.cvtColor(raw.reshape(height, width), pattern), np.uint8)
    if pixel_format in ("RGB8", "BGR8"):
        colour = raw.reshape(height, width, 3)
        return np.array(colour[:, :, ::-1] if pixel_format == "RGB8" else colour, order="C")
    return np.array(raw.reshape(height, width))
