"""Pictures: one reader, one resizer, for training and for the line alike. Knows no data set and no camera."""

from __future__ import annotations

import struct
import zlib
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from segdec_edge.errors import PictureError
from segdec_edge.tiff import other_pages
from segdec_edge.types import Pixels
from segdec_edge.view import WHOLE, View

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MIN_CONTRAST = 0.5
"""Grey levels, standard deviation: below it a picture shows nothing to judge. A real sensor's noise alone is above."""

SIZE_TOLERANCE = 1.1

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_JPEG_PIXELS_A_BYTE = 512
"""A block of 8 × 8 pixels takes one bit at least, for its mean."""

# OpenCV also tells each refusal on stderr, across the station's live table; PictureError tells it once. The function's
# place changed in OpenCV 5.
_set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
_set_log_level(0)


def read_picture(path: Path) -> Pixels:
    """Read a picture as it lies on disk: (H, W) grey or (H, W, 3) BGR, uint8.

    16 bits a channel: the full range is scaled to 8 bits (value / 257, rounded). An alpha channel is dropped where it
    is opaque everywhere, else refused. EXIF rotation is not applied, so that masks drawn on the raw pixels fit;
    a TIFF's own orientation is, as every reader does it.
    Raises PictureError on a missing, truncated or otherwise unusable file, and on a TIFF of several pages.
    """
    return to_eight_bit(decode(read_bytes(path), str(path)), str(path))


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PictureError(f"{path}: no such picture. Check the path, or remove it from the list.") from None
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror}). Check the file and its permissions.") from error
    except ValueError as error:
        raise PictureError(f"{str(path)!a}: no file can have this name ({error}). Correct the list.") from error


def decode(data: bytes, source: str) -> NDArray[np.generic]:
    """Decode a picture file's bytes without any conversion. source: names it in a message.

    Raises PictureError, also on a TIFF of several pages, of which one would be read.
    """
    if _is_truncated(data):
        raise PictureError(f"{source}: the file ends early ({len(data)} bytes), wanted a whole picture. Copy it again.")
    if data.startswith(_PNG_START) and not _is_whole_png(data):
        raise PictureError(f"{source}: a damaged PNG (a checksum is wrong), wanted a whole picture. Copy it again.")
    if others := other_pages(data):
        raise PictureError(f"{source}: {1 + others} pages, wanted one: which is meant? Save each as a file of its own.")
    pixels = _decoded(data, source) if data else None
    if pixels is None:
        raise PictureError(
            f"{source}: not a readable picture ({len(data)} bytes), wanted a whole {', '.join(sorted(SUFFIXES))}."
            " Copy it again."
        )
    return pixels


def to_eight_bit(pixels: NDArray[np.generic], source: str) -> Pixels:
    """Bring decoded pixels to (H, W) or (H, W, 3) uint8 by read_picture's rule. Raises PictureError."""
    opaque = grey_or_colour(pixels, source)
    if opaque.dtype == np.uint16:
        opaque = np.round(opaque.astype(np.float32) / 257.0).astype(np.uint8)
    return opaque.astype(np.uint8, copy=False)


def grey_or_colour(pixels: NDArray[np.generic], source: str) -> NDArray[np.uint8 | np.uint16]:
    """Decoded pixels as (H, W) or (H, W, 3), 8 or 16 bits a channel, without an opaque alpha channel.

    Raises PictureError on other pixels, and where they are transparent anywhere.
    """
    if pixels.dtype not in (np.uint8, np.uint16):
        raise PictureError(f"{source}: pixels of type {pixels.dtype}, wanted 8 or 16 bits a channel. Convert it first.")
    known = pixels.astype(pixels.dtype.type, copy=False)
    match known.shape:
        case (_, _) | (_, _, 3):
            return known
        case (_, _, 1):
            return np.ascontiguousarray(known[:, :, 0])
        case (_, _, 4) if int(known[:, :, 3].min()) == np.iinfo(known.dtype).max:
            return np.ascontiguousarray(known[:, :, :3])
        case (_, _, 4):
            raise PictureError(
                f"{source}: parts of it are transparent, wanted an opaque picture. Save it without alpha."
            )
    raise PictureError(f"{source}: shape {known.shape}, wanted (H, W) or (H, W, 3). Save it as grey or colour.")


def prepare(pixels: Pixels, size_hw: tuple[int, int], channels: int, view: View = WHOLE) -> Pixels:
    """Make the network's input from any picture: (H, W, C) uint8, contiguous, grey (1) or BGR (3), bilinear resize.

    pixels (h, w) or (h, w, 3) BGR; view: the region to look at, and how to turn it. This is all that happens outside
    the graph; scaling and layout are its first layers. Raises PictureError where the region sticks out.
    """
    pixels = view.apply(pixels)
    if channels == 1 and pixels.ndim == 3:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), np.uint8)
    elif channels == 3 and pixels.ndim == 2:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), np.uint8)
    height, width = size_hw
    if pixels.shape[:2] != (height, width):
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.ascontiguousarray(pixels.reshape(height, width, channels))


def pixels_digest(prepared: Pixels) -> str:
    """Short content hash of a prepared picture (H, W, C), 16 hexadecimal digits.

    The same pixels are the same picture, whatever their name.
    """
    return sha256(prepared.data).hexdigest()[:16]


def refuse_flat(prepared: Pixels, source: str) -> Pixels:
    """Give back a prepared picture (H, W, C) that shows something; a covered lens or a blown-out frame shows nothing.

    A network scores such a picture like any good part. Raises PictureError where no channel's standard deviation
    reaches MIN_CONTRAST.
    """
    contrast = contrast_of(prepared)
    if contrast < MIN_CONTRAST:
        raise PictureError(
            f"{source}: a picture without contrast (standard deviation {contrast:.2g} grey levels), wanted at least"
            f" {MIN_CONTRAST}. Check light, exposure and lens cap."
        )
    return prepared


def refuse_other_size(
    pixels: Pixels,
    source_hw: tuple[tuple[int, int], tuple[int, int]] | None,
    source: str,
    view: View = WHOLE,
) -> Pixels:
    """Give back a picture (h, w[, 3]) of which the view sees sides within 10 % of those trained on; None: any size.

    A crop or a strip would be stretched to the network's input, and its defects would no longer look like any.
    Raises PictureError.
    """
    if source_hw is None:
        return pixels
    low, high = source_hw
    seen_hw = view.size_in((pixels.shape[0], pixels.shape[1]))
    for side, smallest, largest in zip(seen_hw, low, high, strict=True):
        if not smallest / SIZE_TOLERANCE <= side <= largest * SIZE_TOLERANCE:
            trained = f"{low[0]}x{low[1]}" + ("" if low == high else f" to {high[0]}x{high[1]}")
            raise PictureError(
                f"{source}: a picture of {seen_hw[0]}x{seen_hw[1]} (HxW), trained on {trained}, wanted sides"
                " within 10 %. Check the camera's region and binning, or train on such pictures."
            )
    return pixels


def contrast_of(prepared: Pixels) -> float:
    """The largest standard deviation of any channel of a picture (H, W, C), in grey levels."""
    # One by one: 73 µs for 512 × 512 × 3, where OpenCV takes 215 µs for all at once.
    channels = [prepared] if prepared.shape[2] == 1 else cv2.split(prepared)
    return max(float(cv2.meanStdDev(channel)[1][0, 0]) for channel in channels)


def light_of(prepared: Pixels) -> tuple[float, float]:
    """Brightness and contrast of a picture (H, W, C): mean and standard deviation of all its values, in grey levels."""
    mean, deviation = cv2.meanStdDev(prepared.reshape(-1, 1))
    return float(mean[0, 0]), float(deviation[0, 0])


def overlay(pixels: Pixels, heatmap: NDArray[np.float32], opacity: float = 0.45) -> Pixels:
    """Lay a heatmap (h, w) in [0, 1] over a picture, as (H, W, 3) BGR; where it is 0 the picture shows unchanged."""
    colour = pixels if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    small = np.clip(np.nan_to_num(heatmap.astype(np.float32)), 0.0, 1.0)
    heat = cv2.resize(small, (colour.shape[1], colour.shape[0]), interpolation=cv2.INTER_LINEAR)
    tint = cv2.applyColorMap(cv2.convertScaleAbs(heat, alpha=255), cv2.COLORMAP_INFERNO)
    alpha = opacity * np.sqrt(heat)
    return np.asarray(cv2.blendLinear(colour, tint, 1 - alpha, alpha), dtype=np.uint8)


def _decoded(data: bytes, source: str) -> NDArray[np.generic] | None:
    if data.startswith(_JPEG_START) and (pixels := _decoded_jpeg(data, source)) is not None:
        return pixels
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # a damaged header that asks for more than 2^30 pixels, or 2^20 in a row
        return None


def _decoded_jpeg(data: bytes, source: str) -> NDArray[np.uint8] | None:
    """As OpenCV decodes it, to the bit, but a JPEG damaged inside is refused, where OpenCV fills in grey.

    None for other colours than grey, YCbCr and RGB: OpenCV knows more of them. Raises PictureError.
    """
    try:
        height, width, colours = simplejpeg.decode_jpeg_header(data)[:3]
        if height * width > _JPEG_PIXELS_A_BYTE * len(data):  # one wrong bit in a header of 2 kB: 48 s and 4 GB
            raise PictureError(
                f"{source}: a damaged JPEG (it says {height}x{width} in {len(data)} bytes), wanted a whole picture."
                " Copy it again."
            )
        if colours not in ("Gray", "YCbCr", "RGB"):
            return None
        if colours == "Gray":
            return np.asarray(simplejpeg.decode_jpeg(data, colorspace="GRAY")[:, :, 0], np.uint8)
        return np.asarray(simplejpeg.decode_jpeg(data, colorspace="BGR"), np.uint8)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise PictureError(f"{source}: a damaged JPEG ({reason}), wanted a whole picture. Copy it again.") from error


def _is_truncated(data: bytes) -> bool:
    # OpenCV up to 4.10 fills the missing rows of a cut JPEG with grey, or with the picture decoded before it, and only
    # warns on stderr: such a part must not pass as OK. PNG, BMP, TIFF and WebP are refused by their decoders when cut.
    if data.startswith(_JPEG_START):
        return data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN)
    if data.startswith(_PNG_START):
        return not data.endswith(_PNG_END) and _PNG_END not in data  # a search through 100 kB takes 0.03 ms
    return False


def _is_whole_png(data: bytes) -> bool:
    """Whether every chunk has its checksum. libpng looks too, but also tells it on stderr, and forgives some chunks."""
    at, content = len(_PNG_START), memoryview(data)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data) or zlib.crc32(content[at + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            return False
        if kind == b"IEND":
            return True
        at = end + 4
    return False
