"""Shapes become masks to the pixel; broken ones are refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.data.annotations.shapes import (
    BrushRuns,
    CocoRuns,
    Crop,
    CvatRuns,
    MaskFile,
    Polygon,
    Shape,
    box,
    draw,
    ellipse,
    turned_box,
)
from segdec_edge.errors import MaskError, PictureError
from tests.data.annotated import SIZE_HW, rectangle, three_regions, turned

COCO_TEXT = "f26b0000W11hN000000000000000000000j8J"
# fmt: off
BRUSH = (
    0, 0, 12, 0, 57, 27, 255, 2, 159, 0, 197, 255, 249, 60, 3, 23, 255, 228, 240, 12, 95, 255, 147, 192, 49, 127, 254,
    79, 0, 197, 255, 249, 60, 3, 23, 255, 228, 240, 12, 95, 255, 192, 78, 192, 45, 255, 231, 48, 11, 127, 249, 204, 2,
    223, 254, 115, 0, 183, 255, 156, 192, 45, 255, 231, 48, 11, 127, 252, 9, 140, 2, 63, 240,
)
# fmt: on


def refusal(shape: Shape, size_hw: tuple[int, int] = SIZE_HW) -> str:
    with pytest.raises(MaskError) as caught:
        draw(shape, size_hw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_box_between_pixel_borders_is_exact() -> None:
    drawn = draw(box(8, 5, 12, 7), SIZE_HW)
    assert np.array_equal(drawn.mask, rectangle(8, 5, 20, 12))
    assert not drawn.clipped


def test_a_box_over_the_whole_picture_is_not_clipped() -> None:
    drawn = draw(box(0, 0, 32, 24), SIZE_HW)
    assert drawn.mask.all()
    assert not drawn.clipped


@pytest.mark.parametrize("degrees", [0, 17, 45, 90, 133.5, 270, -20])
def test_a_turned_box_holds_the_pixels_whose_centre_it_holds(degrees: float) -> None:
    mask = draw(box(9.2, 8.7, 14.1, 6.3, degrees), SIZE_HW).mask
    assert np.array_equal(mask, turned((9.2 + 14.1 / 2, 8.7 + 6.3 / 2), 14.1, 6.3, degrees))


def test_a_box_turned_about_its_corner_keeps_the_corner() -> None:
    # Clockwise by 90 degrees about (16, 4): what lay to the right of the corner lies below it, to the left.
    mask = draw(turned_box(16, 4, 10, 3, 90, (16, 4)), SIZE_HW).mask
    assert np.array_equal(mask, rectangle(13, 4, 16, 14))


def test_a_hole_of_a_self_crossing_outline_stays_a_hole() -> None:
    around = ((2.0, 2.0), (30.0, 2.0), (30.0, 22.0), (2.0, 22.0), (2.0, 2.0))
    inner = ((8.0, 6.0), (8.0, 14.0), (20.0, 14.0), (20.0, 6.0), (8.0, 6.0))
    mask = draw(Polygon(around + inner), SIZE_HW).mask
    assert np.array_equal(mask, rectangle(2, 2, 30, 22) & ~rectangle(8, 6, 20, 14))


def test_an_ellipse_has_the_area_of_an_ellipse() -> None:
    mask = draw(ellipse((100, 80), (60, 30), 30), (160, 200)).mask
    assert mask.sum() == pytest.approx(np.pi * 60 * 30, rel=0.01)
    rows, columns = np.nonzero(mask)
    assert np.cov(columns, rows)[0, 1] > 0  # clockwise on the screen: the right end is lower


def test_a_scratch_between_pixel_centres_does_not_vanish() -> None:
    drawn = draw(box(10.6, 3.0, 0.3, 15.0), SIZE_HW)
    assert np.array_equal(drawn.mask.any(axis=0).nonzero()[0], [10])
    assert drawn.mask.sum() >= 15


@pytest.mark.parametrize("left", [-6.0, 26.0])
def test_a_shape_over_the_border_is_clipped_and_says_so(left: float) -> None:
    drawn = draw(box(left, 5, 12, 7), SIZE_HW)
    assert np.array_equal(drawn.mask, rectangle(max(0, int(left)), 5, min(32, int(left) + 12), 12))
    assert drawn.clipped


@pytest.mark.parametrize("left", [-0.4, 20.4])
def test_less_than_half_a_pixel_over_the_border_is_no_clipping(left: float) -> None:
    assert not draw(box(left, 5, 12, 7), SIZE_HW).clipped


def test_run_lengths_of_each_tool_give_the_mask_they_were_made_from() -> None:
    mask = three_regions()
    counts = tuple(int(number) for number in np.diff(np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=0))))
    first = int(mask.T.ravel().argmax())
    crop = (0, 84)
    assert np.array_equal(draw(CocoRuns(COCO_TEXT, SIZE_HW), SIZE_HW).mask, mask)
    assert np.array_equal(draw(CocoRuns((first, *counts), SIZE_HW), SIZE_HW).mask, mask)
    assert np.array_equal(draw(BrushRuns(bytes(BRUSH)), SIZE_HW).mask, mask)
    assert np.array_equal(draw(CvatRuns(crop, 8, 5, (7, 12)), SIZE_HW).mask, rectangle(8, 5, 20, 12))
    corner = draw(CvatRuns((1, 2, 3), 8, 5, (2, 3)), SIZE_HW).mask
    assert np.argwhere(corner).tolist() == [[5, 9], [5, 10]]


def test_a_brush_reads_the_fourth_channel_and_runs_of_single_values() -> None:
    # Made by label-studio-converter from 4 × (255, 7, 9, alpha), alpha 0, 255, 0, 255: no value repeats.
    values = [255, 7, 9, 0, 255, 7, 9, 255, 255, 7, 9, 0, 255, 7, 9, 255]
    literal = (
        f"{16:032b}" + "00111" + "0010001101111111" + "0" + "01" + f"{15:04b}" + "".join(map("{:08b}".format, values))
    )
    code = int(literal.ljust(-(-len(literal) // 8) * 8, "0"), 2).to_bytes(-(-len(literal) // 8), "big")
    assert draw(BrushRuns(code), (2, 2)).mask.tolist() == [[False, True], [False, True]]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (Polygon(((1.0, 1.0), (5.0, 5.0))), "polygon of 2 points, wanted at least 3"),
        (Polygon(()), "polygon of 0 points"),
        (box(5, 5, 0, 0), "no area"),
        (box(40, 5, 6, 6), "x 40 to 46, y 5 to 11 is outside the picture of 32 × 24"),
        (box(-9, 5, 6, 6), "is outside the picture"),
        (box(5, -9, 6, 6), "is outside the picture"),
        (box(5, 24, 6, 6), "is outside the picture"),
        (box(float("nan"), 5, 6, 6), "wanted pixels"),
        (box(1e12, 5, 6, 6), "wanted pixels"),
        (CocoRuns((700, 60), SIZE_HW), "sum to 760, wanted 768"),
        (CocoRuns((700, 100), SIZE_HW), "sum to 800, wanted 768"),
        (CocoRuns((800, -32), SIZE_HW), "a run length is -32"),
        (CocoRuns((), SIZE_HW), "sum to 0"),
        (CocoRuns((768,), SIZE_HW), "marks no pixel"),
        (CocoRuns((700, 68), (32, 24)), "24 × 32 (width × height), wanted 32 × 24"),
        (CocoRuns(COCO_TEXT[:-1], SIZE_HW), "run lengths"),
        (CocoRuns(COCO_TEXT + "o", SIZE_HW), "end in the middle of a number"),
        (CocoRuns("f2 6b", SIZE_HW), "hold the character ' '"),
        (CvatRuns((0, 10), 8, 5, (7, 12)), "sum to 10, wanted 84"),
        (CvatRuns((0, 84), 25, 5, (7, 12)), "outside the picture"),
        (CvatRuns((0, 84), -1, 5, (7, 12)), "x -1 to 11, y 5 to 12 is outside the picture"),
        (CvatRuns((0, 84), 8, -1, (7, 12)), "outside the picture"),
        (CvatRuns((0, 10**12), 0, 0, (10**6, 10**6)), "outside the picture"),
        (BrushRuns(bytes(BRUSH[:-9])), "brush ends early"),
        (BrushRuns(b""), "brush ends early"),
        (BrushRuns(bytes((0, 0, 99, *BRUSH[3:]))), "wanted 3072: 4 for each pixel"),
        (BrushRuns(bytes((*BRUSH[:7], 0xFF, *BRUSH[8:]))), "brush"),
    ],
)
def test_a_broken_shape_is_refused_in_one_line(shape: Shape, words: str) -> None:
    assert words in refusal(shape)


def test_broken_masks_in_files_are_refused(tmp_path: Path) -> None:
    small = cv2.imencode(".png", np.full((3, 4), 255, np.uint8))[1].tobytes()
    assert draw(Crop(small, 5, 6, (3, 4)), SIZE_HW).mask.sum() == 12
    assert "outside the picture" in refusal(Crop(small, 30, 6, (3, 4)))
    assert "its mask is 4 × 3 (width × height), its points span 5 × 3" in refusal(Crop(small, 5, 6, (3, 5)))
    with pytest.raises(PictureError, match="not a readable picture"):
        draw(Crop(b"nothing", 0, 0, (1, 1)), SIZE_HW)
    (tmp_path / "mask.png").write_bytes(small)
    assert "4 × 3 (width × height), wanted 32 × 24" in refusal(MaskFile(tmp_path / "mask.png"))
