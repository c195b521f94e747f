"""TIFF's directories, in both byte orders and sizes: which pages are pictures of their own, and what damage does."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.errors import PictureError
from segdec_edge.pictures import read_picture
from segdec_edge.tiff import directories, other_pages

FULL, REDUCED, PAGE, TRANSPARENCY = 0, 1, 2, 4
OLD_FULL, OLD_REDUCED = -1, -2
"""By TIFF's old SubfileType."""

SIDE = 12
FORMS = [("<", False), (">", False), ("<", True), (">", True)]


def tiff(kinds: Sequence[int], order: str = "<", big: bool = False) -> bytes:
    """A readable TIFF with a grey square for each kind, its grey 50 · (number + 1)."""
    place, count, entry_size = ("Q", "Q", 20) if big else ("I", "H", 12)
    mark = b"II" if order == "<" else b"MM"
    data = mark + struct.pack(f"{order}H", 43 if big else 42)
    data += struct.pack(f"{order}HHQ", 8, 0, 16) if big else struct.pack(f"{order}I", 8)
    for number, kind in enumerate(kinds):
        fields = [
            (254, kind) if kind >= 0 else (255, -kind),
            (256, SIDE),
            (257, SIDE),
            (258, 8),
            (259, 1),
            (262, 1),
            (273, 0),
            (277, 1),
            (278, SIDE),
        ]
        fields.append((279, SIDE * SIDE))
        pixels_at = len(data) + struct.calcsize(f"={count}{place}") + entry_size * len(fields)
        data += struct.pack(f"{order}{count}", len(fields))
        for tag, value in fields:
            entry = struct.pack(f"{order}HH{place}I", tag, 4, 1, pixels_at if tag == 273 else value)
            data += entry.ljust(entry_size, b"\0")
        after = pixels_at + SIDE * SIDE
        data += struct.pack(f"{order}{place}", after if number + 1 < len(kinds) else 0)
        data += bytes([50 * (number + 1)]) * (SIDE * SIDE)
    return data


@pytest.mark.parametrize(("order", "big"), FORMS)
@pytest.mark.parametrize(
    ("kinds", "others"),
    [
        ([FULL], 0),
        ([PAGE], 0),
        ([FULL, FULL], 1),
        ([PAGE, PAGE, PAGE], 2),
        ([FULL, REDUCED], 0),
        ([FULL, TRANSPARENCY], 0),
        ([FULL, REDUCED | TRANSPARENCY, FULL], 1),
        ([REDUCED, FULL], 1),
        ([FULL, OLD_REDUCED], 0),
        ([OLD_FULL, OLD_FULL], 1),
    ],
)
def test_pages_that_are_pictures_are_counted(kinds: Sequence[int], others: int, order: str, big: bool) -> None:
    assert other_pages(tiff(kinds, order, big)) == others


@pytest.mark.parametrize(("order", "big"), FORMS)
def test_one_page_with_a_smaller_copy_is_read(tmp_path: Path, order: str, big: bool) -> None:
    path = tmp_path / "one.tif"
    path.write_bytes(tiff([FULL, REDUCED], order, big))
    assert np.array_equal(read_picture(path), np.full((SIDE, SIDE), 50, np.uint8))


def test_several_pages_are_refused_and_one_is_not(tmp_path: Path) -> None:
    pages = [np.full((SIDE, SIDE), value, np.uint8) for value in (10, 20, 30)]
    path = tmp_path / "stack.tiff"
    assert cv2.imwritemulti(str(path), pages)
    with pytest.raises(PictureError, match=r"stack.tiff: 3 pages, wanted one: which is meant\? Save each as a file"):
        read_picture(path)
    assert cv2.imwritemulti(str(path), pages[:1])
    assert np.array_equal(read_picture(path), pages[0])


@pytest.mark.parametrize(("order", "big"), FORMS)
def test_directories_that_lead_in_a_circle_end(order: str, big: bool) -> None:
    data = bytearray(tiff([FULL, FULL], order, big))
    form, first = (f"{order}Q", 16) if big else (f"{order}I", 8)
    last = len(data) - SIDE * SIDE - struct.calcsize(form)
    struct.pack_into(form, data, last, first)
    assert len(list(directories(bytes(data)))) == 2


@pytest.mark.parametrize(("order", "big"), FORMS)
def test_a_next_page_that_lies_nowhere_is_no_page(order: str, big: bool) -> None:
    data = bytearray(tiff([FULL], order, big))
    form = f"{order}Q" if big else f"{order}I"
    struct.pack_into(form, data, len(data) - SIDE * SIDE - struct.calcsize(form), len(data) + 100)
    assert other_pages(bytes(data)) == 0


@pytest.mark.parametrize(("order", "big"), FORMS)
def test_every_cut_gives_no_more_than_the_whole(order: str, big: bool) -> None:
    data = tiff([FULL, FULL], order, big)
    whole = [dict(tags) for tags in directories(data)]
    for length in range(len(data)):
        for cut, tags in zip(directories(data[:length]), whole, strict=False):
            assert cut.items() <= tags.items()
        assert other_pages(data[:length]) <= 1


@pytest.mark.parametrize("kind", [1, 3, 4, 8, 9, 12])
def test_a_page_counts_whatever_type_its_width_has(kind: int) -> None:
    data = bytearray(tiff([FULL, FULL]))
    width = struct.pack("<HH", 256, 4)
    second = data.rindex(width)
    struct.pack_into("<H", data, second + 2, kind)
    assert other_pages(bytes(data)) == 1


@pytest.mark.parametrize("data", [
    b"II*\0\x08\0\0\0" + b"\xff" * 1_000_000,
    b"II*\0\x08\0\0\0" + b"".join(struct.pack("<HI", 0, at) for at in range(14, 2_000_000, 6)),
    b"II*\0\x08\0\0\0" + b"".join(struct.pack("<I", at) for at in range(12, 2_000_000, 4)),
    b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + b"\xff" * 1_000_000,
], ids=["one huge", "empty ones", "overlapping", "huge in BigTIFF"])  # fmt: skip
def test_no_more_is_read_than_a_file_of_that_length_holds(data: bytes) -> None:
    entries = sum(max(1, len(tags)) for tags in directories(data))
    assert entries <= len(data) // 12


@pytest.mark.parametrize("data", [b"", b"II", b"II*", b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"XX*\0" + bytes(40)])
def test_what_is_no_tiff_has_no_directories(data: bytes) -> None:
    assert [tags for tags in directories(data) if tags] == []
    assert other_pages(data) == 0
