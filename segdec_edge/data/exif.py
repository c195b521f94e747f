"""Does EXIF turn a picture? From its file's header, nothing is decoded. Knows no data set.

Annotation tools draw on the turned picture, training and cameras see the stored one: such a mask lies elsewhere.
TIFF is not asked: its orientation is part of the format, and every reader, ours too, applies it.
Source: Exif 2.32, 4.5; PNG (third edition), eXIf; WebP container specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from segdec_edge.errors import PictureError
from segdec_edge.tiff import directories

UPRIGHT = 1
_ORIENTATION = 0x0112
_JPEG, _PNG, _WEBP = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"WEBP"
_JPEG_EXIF, _JPEG_SCAN = b"Exif\0\0", 0xDA


def refuse_turned(data: bytes, source: str) -> bytes:
    """Give back a picture file's bytes. Raises PictureError where EXIF turns or mirrors it."""
    if (found := orientation(data)) != UPRIGHT:
        raise PictureError(
            f"{source}: its EXIF data turns it (orientation {found}), so annotation tools show it otherwise than a"
            f" camera delivers it, wanted orientation {UPRIGHT}. Save it upright without EXIF, and annotate that file."
        )
    return data


def orientation(data: bytes) -> int:
    """1 upright to 8, as a JPEG, PNG or WebP says it; 1 where it says nothing, or nothing that can be read."""
    for block in _exif_blocks(data):
        for tags in directories(block):
            value = tags.get(_ORIENTATION, UPRIGHT)
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT


def _exif_blocks(data: bytes) -> Iterator[bytes]:
    if b"Exif" not in data and b"eXIf" not in data and b"EXIF" not in data:
        return
    if data.startswith(_JPEG):
        yield from _in_jpeg(data)
    elif data.startswith(_PNG):
        yield from (data[at : at + length] for kind, at, length in _chunks(data, 8, ">I4s", 4) if kind == b"eXIf")
    elif data[8:12] == _WEBP:
        for kind, at, length in _chunks(data, 12, "<4sI", 0):
            if kind == b"EXIF":
                yield data[at : at + length].removeprefix(_JPEG_EXIF)


def _in_jpeg(data: bytes) -> Iterator[bytes]:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _JPEG_SCAN:
        if data[at + 1] == 0xFF:  # fill bytes may stand before a marker
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xE1 and data.startswith(_JPEG_EXIF, at + 4):
            yield data[at + 4 + len(_JPEG_EXIF) : at + 2 + length]
        at += 2 + max(2, length)


def _chunks(data: bytes, at: int, form: str, checksum: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, place and length of each chunk's content; WebP's are padded to an even length."""
    while at + 8 <= len(data):
        first, second = struct.unpack_from(form, data, at)
        kind, length = (second, first) if checksum else (first, second)
        yield kind, at + 8, length
        at += 8 + length + (checksum or length % 2)
