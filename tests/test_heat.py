"""Hot areas: hand-made heat maps and where they lie in the whole picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segdec_edge.errors import PictureError
from segdec_edge.heat import MAX_POINTS, MAX_REGIONS, Grid, HeatMap, grid_of, largest_area_px, regions_of
from segdec_edge.view import WHOLE, View


def heat(*rows: str) -> HeatMap:
    """Digits are tenths, a dot is cold."""
    return np.array([[0.0 if one == "." else int(one) / 10 for one in row] for row in rows], np.float32)


def grid(shape: tuple[int, ...], cell: int = 8, view: View = WHOLE) -> Grid:
    return grid_of(view, (shape[0] * cell, shape[1] * cell), (shape[0], shape[1]))


def test_nothing_hot_gives_nothing() -> None:
    cold = heat("....", ".4..", "....")
    assert largest_area_px(cold, 0.5, grid(cold.shape)) == 0
    assert regions_of(cold, 0.5, grid(cold.shape)) == ()


def test_one_area_with_its_box_outline_area_and_peak() -> None:
    made = heat(".....", ".67..", ".8...", ".....")
    (region,) = regions_of(made, 0.5, grid(made.shape))
    assert region.box_xywh == (8, 8, 16, 16)
    assert set(region.polygon_xy) == {(8, 8), (24, 8), (24, 16), (16, 16), (16, 24), (8, 24)}
    assert region.area_px == 3 * 64
    assert region.peak == pytest.approx(0.8)
    assert largest_area_px(made, 0.5, grid(made.shape)) == 3 * 64


def test_the_level_itself_is_hot() -> None:
    made = heat("5.")
    assert largest_area_px(made, 0.5, grid(made.shape)) == 64
    assert largest_area_px(made, float(np.nextafter(np.float32(0.5), np.float32(1))), grid(made.shape)) == 0


def test_areas_at_the_border_and_all_over() -> None:
    made = heat("9..9", "....", "99.9")
    assert [one.box_xywh for one in regions_of(made, 0.5, grid(made.shape))] == [
        (0, 16, 16, 8),
        (0, 0, 8, 8),
        (24, 0, 8, 8),
        (24, 16, 8, 8),
    ]
    full = heat("99", "99")
    (region,) = regions_of(full, 0.5, grid(full.shape))
    assert region.box_xywh == (0, 0, 16, 16)
    assert set(region.polygon_xy) == {(0, 0), (16, 0), (16, 16), (0, 16)}


def test_corners_connect_and_the_largest_comes_first() -> None:
    made = heat("9...8", ".9..8", "....8", "....8")
    first, second = regions_of(made, 0.5, grid(made.shape))
    assert (first.area_px, first.box_xywh) == (4 * 64, (32, 0, 8, 32))
    assert (second.area_px, second.box_xywh) == (2 * 64, (0, 0, 16, 16))
    assert len(regions_of(made, 0.5, grid(made.shape), limit=1)) == 1


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_regions_of_turned_views_lie_where_they_were_seen(rotation: int) -> None:
    made = heat(".....", "....9", ".....", ".....", ".....", ".....", ".....", ".....")
    # What the network saw is 40x32 or, turned, 32x40 of the picture; its one hot cell is checked on the pixels below.
    view = View((100, 50, 40, 32) if rotation in (0, 180) else (100, 50, 32, 40), rotation)
    (region,) = regions_of(made, 0.5, grid_of(view, (200, 300), (8, 5)))
    picture = np.zeros((200, 300), np.uint8)
    x, y, w, h = region.box_xywh
    picture[y : y + h, x : x + w] = 255
    seen = cv2.resize(view.apply(picture), (5, 8), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(seen / 255, made / 0.9, atol=0.05)
    assert region.area_px == 32
    assert {(px, py) for px, py in region.polygon_xy} == {(x, y), (x + w, y), (x + w, y + h), (x, y + h)}


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.floats(0.05, 0.7))
def test_outlines_enclose_their_cells(seed: int, share: float) -> None:
    """Drawn again from its outline (and holes filled), an area is what it was."""
    made = (np.random.default_rng(seed).uniform(0, 1, (7, 9)) < share).astype(np.float32)
    for region in regions_of(made, 0.5, grid(made.shape), limit=100):
        drawn = np.zeros((56, 72), np.uint8)
        cv2.fillPoly(drawn, [np.array(region.polygon_xy, np.int32)], (1,))
        x, y, w, h = region.box_xywh
        assert cv2.boundingRect(np.array(region.polygon_xy, np.int32)) == (x, y, w + 1, h + 1)
        inside = drawn[4::8, 4::8].astype(bool)  # at the cells' centres
        _, labels = cv2.connectedComponents((made > 0).astype(np.uint8), connectivity=8)
        mine = labels == labels[inside & (made > 0)][0]
        assert inside[mine].all()
        assert mine.sum() * 64 == region.area_px


def test_numbers_are_limited() -> None:
    noise = np.kron(np.random.default_rng(1).integers(0, 2, (60, 60)), np.eye(2))[:100, :100].astype(np.float32)
    checks = np.zeros((40, 40), np.float32)
    checks[::2, ::2] = 1
    assert len(regions_of(checks, 0.5, grid(checks.shape))) == MAX_REGIONS
    found = regions_of(noise, 0.5, grid(noise.shape))
    assert max(len(one.polygon_xy) for one in found) <= MAX_POINTS


def mask(*rows: str, cell: int = 8) -> np.ndarray:
    return np.array([[one == "#" for one in row] for row in rows]).repeat(cell, axis=0).repeat(cell, axis=1)


def test_ignored_heat_does_not_count_and_a_half_covered_cell_does() -> None:
    made = heat("99..", "99..", "...6")
    ignore = mask("##..", "##..", "....")
    covered = grid_of(WHOLE, (24, 32), (3, 4), ignore)
    assert largest_area_px(made, 0.5, covered) == 64
    assert [one.box_xywh for one in regions_of(made, 0.5, covered)] == [(24, 16, 8, 8)]
    ignore[7, 8] = False
    assert largest_area_px(made, 0.5, grid_of(WHOLE, (24, 32), (3, 4), ignore)) == 64
    ignore[15, 15] = ignore[0, 0] = False
    assert largest_area_px(made, 0.5, grid_of(WHOLE, (24, 32), (3, 4), ignore)) == 3 * 64


def test_a_thin_mask_does_not_cut_a_defect_in_two() -> None:
    made = heat("99999")
    assert largest_area_px(made, 0.5, grid_of(WHOLE, (8, 40), (1, 5), mask("..#.."))) == 4 * 64


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_mask_is_cut_and_turned_with_the_picture(rotation: int) -> None:
    ignore = np.zeros((80, 120), bool)
    ignore[24:40, 48:56] = True
    view = View((40, 16, 64, 32), rotation)
    heatmap_hw = (4, 8) if rotation in (0, 180) else (8, 4)
    found = grid_of(view, (80, 120), heatmap_hw, ignore).ignored
    expected = np.rot90(ignore[16:48, 40:104], -rotation // 90)[4::8, 4::8]
    assert found is not None
    np.testing.assert_array_equal(found, expected)
    assert found.sum() == 2


def test_cells_that_share_pixels_are_ignored_only_where_all_of_them_are() -> None:
    ignore = np.array([[True, True, False, True, True]])
    found = grid_of(WHOLE, (1, 5), (1, 2), ignore).ignored  # each cell has half of the middle pixel
    assert found is None
    found = grid_of(WHOLE, (1, 5), (1, 10), ignore).ignored
    assert found is not None
    np.testing.assert_array_equal(found, [[True] * 4 + [False] * 2 + [True] * 4])


def test_a_mask_of_another_size_or_over_everything_is_refused() -> None:
    with pytest.raises(PictureError, match="ignore mask is 8x16"):
        grid_of(WHOLE, (16, 16), (2, 2), np.zeros((8, 16), bool))
    with pytest.raises(PictureError, match="covers all that the network sees"):
        grid_of(View((0, 0, 8, 8)), (16, 16), (2, 2), mask("#.", ".."))
