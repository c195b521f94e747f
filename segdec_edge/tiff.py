"""TIFF's directories, of which a TIFF file and an Exif block are built. Decodes no picture.

Source: TIFF 6.0, sections 2 and 8; BigTIFF.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_ORDERS = {b"II": "<", b"MM": ">"}
_NUMBERS = {3: "H", 4: "I"}
_MOST_TAGS = 1 << 16
_IMAGE_WIDTH = 256
_NEW_SUBFILE_TYPE, _REDUCED, _TRANSPARENCY = 254, 1, 4


@dataclass(frozen=True)
class _Form:
    """Where the first directory's place stands, and struct's letters for a place and for a directory's length."""

    first: int
    offset: str
    count: str


_FORMS = {42: _Form(4, "I", "H"), 43: _Form(8, "Q", "Q")}


def directories(data: bytes) -> Iterator[Mapping[int, int]]:
    """Of each directory in turn the tags that hold whole numbers, each with the first of them where it is in the entry.

    Nothing for what is no TIFF structure. Of a cut directory what stands before the cut; it is the last one, and so is
    one that leads back to one before.
    """
    order, version = _ORDERS.get(data[:2], ""), data[2:4]
    if not order or len(version) < 2:
        return
    form = _FORMS.get(*struct.unpack(f"{order}H", version))
    if form is None:
        return
    seen = {0}
    at = _number(f"{order}{form.offset}", data, form.first)
    while at not in seen:
        seen.add(at)
        tags, at = _directory(data, at, order, form)
        yield tags


def other_pages(data: bytes) -> int:
    """How many pictures a TIFF holds besides its first; smaller copies and transparency masks do not count."""
    pictures = [tags for tags in directories(data) if _IMAGE_WIDTH in tags]
    return sum(not tags.get(_NEW_SUBFILE_TYPE, 0) & (_REDUCED | _TRANSPARENCY) for tags in pictures[1:])


def _directory(data: bytes, at: int, order: str, form: _Form) -> tuple[dict[int, int], int]:
    """Its tags, and where the next one begins: 0 where none follows."""
    first, entry = at + struct.calcsize(f"={form.count}"), f"{order}HH{form.offset}"
    size = struct.calcsize(entry) + struct.calcsize(f"={form.offset}")
    count = _number(f"{order}{form.count}", data, at)
    end = first + size * min(count, _MOST_TAGS)
    tags: dict[int, int] = {}
    for place in range(first, min(end, len(data) - size + 1), size):
        tag, kind, values = struct.unpack_from(entry, data, place)
        if kind in _NUMBERS and values:
            tags[tag] = _number(f"{order}{_NUMBERS[kind]}", data, place + struct.calcsize(entry))
    return tags, _number(f"{order}{form.offset}", data, end) if count <= _MOST_TAGS else 0


def _number(form: str, data: bytes, at: int) -> int:
    """The number there; 0 behind the end."""
    return int(struct.unpack_from(form, data, at)[0]) if at + struct.calcsize(form) <= len(data) else 0
