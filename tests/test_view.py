"""Where the network looks, and the way back to the whole picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segdec_edge.errors import ConfigError, PictureError
from segdec_edge.pictures import prepare, refuse_other_size
from segdec_edge.view import WHOLE, SizeHW, View

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (90, 140), np.uint8)
ROTATIONS = (0, 90, 180, 270)


@st.composite
def views(draw: st.DrawFn) -> tuple[View, SizeHW, SizeHW]:
    """A view, the picture's size and the heat map's."""
    height, width = draw(st.integers(8, 3000)), draw(st.integers(8, 3000))
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    region = (x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))
    heatmap_hw = (draw(st.integers(1, 200)), draw(st.integers(1, 200)))
    chosen = draw(st.sampled_from([None, region]))
    return View(chosen, draw(st.sampled_from(ROTATIONS))), (height, width), heatmap_hw


@settings(max_examples=100)
@given(views(), st.integers(0, 2**32))
def test_points_come_back_to_their_cell(case: tuple[View, SizeHW, SizeHW], seed: int) -> None:
    view, picture_hw, heatmap_hw = case
    cells = np.random.default_rng(seed).uniform(0, 1, (50, 2)) * [heatmap_hw[1], heatmap_hw[0]]
    there = view.to_picture(cells, heatmap_hw, picture_hw)
    x, y, w, h = view.region_in(picture_hw)
    assert (there >= np.array([x, y]) - 1e-6).all()
    assert (there <= np.array([x + w, y + h]) + 1e-6).all()
    np.testing.assert_allclose(view.to_heatmap(there, heatmap_hw, picture_hw), cells, atol=1e-6)


@settings(max_examples=60)
@given(st.data())
def test_a_mark_in_the_picture_is_found_where_the_heat_map_says(data: st.DataObject) -> None:
    """Against the pixels themselves: what prepare() shows at a cell lies where to_picture() says."""
    w, h = data.draw(st.integers(16, 120)), data.draw(st.integers(16, 80))
    x, y = data.draw(st.integers(0, 140 - w)), data.draw(st.integers(0, 90 - h))
    view = View((x, y, w, h), data.draw(st.sampled_from(ROTATIONS)))
    mark_x, mark_y = data.draw(st.integers(x, x + w - 1)), data.draw(st.integers(y, y + h - 1))
    picture = np.zeros((90, 140), np.uint8)
    picture[mark_y, mark_x] = 255
    size_hw = view.size_in((90, 140))
    seen = prepare(picture, size_hw, 1, view)[:, :, 0]
    row, column = np.unravel_index(int(seen.argmax()), seen.shape)
    centre = np.array([[column + 0.5, row + 0.5]])
    np.testing.assert_allclose(view.to_picture(centre, size_hw, (90, 140)), [[mark_x + 0.5, mark_y + 0.5]])
    np.testing.assert_allclose(view.to_heatmap(np.array([[mark_x + 0.5, mark_y + 0.5]]), size_hw, (90, 140)), centre)


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_resizing_keeps_the_way_back(rotation: int) -> None:
    """A round spot of the picture, shrunk to a heat map of other proportions."""
    y, x = np.mgrid[0:240, 0:400] + 0.5
    picture = np.round(250 * np.exp(-((x - 160) ** 2 + (y - 104) ** 2) / 200)).astype(np.uint8)
    view = View((50, 40, 200, 160), rotation)
    seen = prepare(picture, (64, 48), 1, view)[:, :, 0].astype(float)
    rows, columns = np.mgrid[0:64, 0:48] + 0.5
    centre = np.array([[(columns * seen).sum(), (rows * seen).sum()]]) / seen.sum()
    np.testing.assert_allclose(view.to_picture(centre, (64, 48), (240, 400)), [[160, 104]], atol=0.2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_view_prepares_as_the_picture_cut_and_turned_by_hand(channels: int, rotation: int) -> None:
    colour = np.dstack([PICTURE, PICTURE // 2, 255 - PICTURE])
    by_hand = np.rot90(colour[20:80, 30:110], -rotation // 90).copy()
    view = View((30, 20, 80, 60), rotation)
    np.testing.assert_array_equal(prepare(colour, (48, 40), channels, view), prepare(by_hand, (48, 40), channels))
    assert view.size_in((90, 140)) == by_hand.shape[:2]


def test_a_region_that_sticks_out_is_refused() -> None:
    with pytest.raises(PictureError, match=r"region \[100, 0, 41, 20\] sticks out of a picture of 90x140"):
        prepare(PICTURE, (32, 32), 1, View((100, 0, 41, 20)))
    assert prepare(PICTURE, (32, 32), 1, View((100, 70, 40, 20))).shape == (32, 32, 1)


@pytest.mark.parametrize("region", [(-1, 0, 5, 5), (0, -1, 5, 5), (0, 0, 0, 5), (0, 0, 5, 0)])
def test_a_region_that_is_none_is_a_config_error(region: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="region is"):
        View(region)
    with pytest.raises(ConfigError, match="rotation is 45"):
        View(rotation=45)


def test_the_size_check_sees_what_the_network_sees() -> None:
    trained = ((60, 40), (60, 40))
    for view in (View((0, 0, 40, 60)), View((0, 0, 60, 40), 90), View((0, 0, 60, 40), 270)):
        assert refuse_other_size(PICTURE, trained, "x", view) is PICTURE
    for view in (WHOLE, View((0, 0, 60, 40)), View((0, 0, 40, 60), 90)):
        with pytest.raises(PictureError, match="trained on 60x40"):
            refuse_other_size(PICTURE, trained, "x", view)


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_heat_map_is_laid_out_over_the_whole_picture(rotation: int) -> None:
    seen = np.zeros((60, 80), np.float32)
    seen[8:16, 64:72] = 1  # one cell of 8 pixels
    small = seen.reshape(60 // 4, 4, 80 // 4, 4).mean(axis=(1, 3), dtype=np.float32)
    heatmap = np.ascontiguousarray(np.rot90(small, -rotation // 90))
    laid = View((40, 20, 80, 60), rotation).over_picture(heatmap, (120, 160))
    expected = np.zeros((30, 40), np.float32)
    expected[5:20, 10:30] = small
    np.testing.assert_allclose(laid, expected, atol=1e-5)


def test_over_the_whole_picture_nothing_is_copied() -> None:
    heatmap = np.zeros((4, 4), np.float32)
    assert WHOLE.over_picture(heatmap, (90, 140)) is heatmap
