"""TIFF's directories, of which a TIFF file and an Exif block are built. Decodes no picture.

Source: TIFF 6.0, sections 2 and 8; BigTIFF.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_ORDERS = {b"II": "<", b"MM": ">"}
_NUMBERS = {1: "B", 3: "H", 4: "I", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_IMAGE_WIDTH, _NEW_SUBFILE_TYPE, _SUBFILE_TYPE = 256, 254, 255
_REDUCED, _TRANSPARENCY, _OLD_REDUCED = 1, 4, 2


@dataclass(frozen=True)
class _Form:
    """Where the first directory's place stands, and struct's letters for a place and for a directory's length."""

    first: int
    place: str
    count: str


_FORMS = {42: _Form(4, "I", "H"), 43: _Form(8, "Q", "Q")}


def directories(data: bytes) -> Iterator[Mapping[int, int]]:
    """The tags of each directory in turn, with the number that stands in the entry; 0 where none does.

    Nothing for what is no TIFF structure. Of a cut directory what stands before the cut; it is the last one, and so is
    one that leads back to one before, or where there were more entries than a file of this length holds.
    """
    order, version = _ORDERS.get(data[:2], ""), data[2:4]
    if not order or len(version) < 2:
        return
    form = _FORMS.get(*struct.unpack(f"{order}H", version))
    if form is None:
        return
    seen, left = {0}, len(data) // _size(f"HH{form.place * 2}")
    at = _number(f"{order}{form.place}", data, form.first)
    while at not in seen and left > 0:
        seen.add(at)
        tags, count, at = _directory(data, at, order, form, left)
        left -= max(1, count)
        yield tags


def other_pages(data: bytes) -> int:
    """How many pictures a TIFF holds besides its first; smaller copies and transparency masks do not count."""
    pages = (tags for tags in directories(data) if _IMAGE_WIDTH in tags)
    next(pages, None)
    return sum(not _is_aside(tags) for tags in pages)


def _is_aside(tags: Mapping[int, int]) -> bool:
    return bool(tags.get(_NEW_SUBFILE_TYPE, 0) & (_REDUCED | _TRANSPARENCY)) or tags.get(_SUBFILE_TYPE) == _OLD_REDUCED


def _directory(data: bytes, at: int, order: str, form: _Form, most: int) -> tuple[dict[int, int], int, int]:
    """Its tags, how many entries it says it has, and where the next directory begins: 0 where none follows.

    With more entries than `most` so many are read, and nothing follows.
    """
    count = _number(f"{order}{form.count}", data, at)
    head = f"{order}HH{form.place}"
    size = _size(f"HH{form.place * 2}")
    first = at + _size(form.count)
    end = first + size * min(count, most)
    tags: dict[int, int] = {}
    for entry in range(first, min(end, len(data) - size + 1), size):
        tag, kind, values = struct.unpack_from(head, data, entry)
        letter = _NUMBERS.get(kind, "")
        stands_there = letter and 0 < values * _size(letter) <= _size(form.place)
        tags[tag] = _number(f"{order}{letter}", data, entry + struct.calcsize(head)) if stands_there else 0
    return tags, count, _number(f"{order}{form.place}", data, end) if count <= most else 0


def _size(letters: str) -> int:
    return struct.calcsize(f"={letters}")


def _number(form: str, data: bytes, at: int) -> int:
    """The number there; 0 behind the end."""
    return int(struct.unpack_from(form, data, at)[0]) if at + struct.calcsize(form) <= len(data) else 0
