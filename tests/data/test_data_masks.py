from __future__ import annotations

import numpy as np
import pytest

from segdec_edge.data.masks import dilate, distance_weights, reduce_to_eighth, region_boxes, resize_mask
from segdec_edge.errors import MaskError


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


def test_distance_weights_are_one_outside_and_rise_to_w_pos_at_the_centre() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    weights = distance_weights(mask, p=2, w_pos=3.0)
    assert weights.dtype == np.float32
    assert (weights[~mask] == 1).all()
    assert weights[4, 4] == pytest.approx(3.0)
    assert weights[2, 2] == pytest.approx(3.0 * (1 / 3) ** 2)
    assert weights[3, 4] == pytest.approx(3.0 * (2 / 3) ** 2)


def test_distance_weights_normalise_per_region_or_per_image() -> None:
    mask = np.zeros((16, 24), bool)
    mask[2:13, 2:13] = True  # its largest distance is 6
    mask[5:8, 18:21] = True  # and 2 here
    by_region = distance_weights(mask, p=1, w_pos=1, per="region")
    by_image = distance_weights(mask, p=1, w_pos=1, per="image")
    assert by_region[7, 7] == by_image[7, 7] == 1
    assert by_region[6, 19] == pytest.approx(1)
    assert by_image[6, 19] == pytest.approx(2 / 6)


def test_regions_that_touch_at_a_corner_are_one_region() -> None:
    mask = np.zeros((12, 12), bool)
    mask[1:6, 1:6] = True
    mask[6:9, 6:9] = True
    weights = distance_weights(mask, p=1, w_pos=1)
    assert weights[7, 7] == pytest.approx(2 / 3)


def test_the_picture_border_is_not_background() -> None:
    mask = mask_of("##..", "##..", "##..")
    weights = distance_weights(mask, p=1, w_pos=1)
    assert weights[:, 0] == pytest.approx(1)
    assert weights[:, 1] == pytest.approx(0.5)


def test_a_mask_without_background_and_one_without_defect() -> None:
    assert (distance_weights(np.ones((4, 4), bool), 2, 5.0) == 5).all()
    assert (distance_weights(np.zeros((4, 4), bool), 2, 5.0) == 1).all()


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (2, 2, 2)])
def test_an_empty_or_flat_mask_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MaskError, match="wanted"):
        distance_weights(np.zeros(shape, bool), 2, 1)


def naive_reduction(array: np.ndarray) -> np.ndarray:
    padded = np.pad(array.astype(np.float64), 8, mode="reflect")
    height, width = array.shape
    return np.array(
        [[padded[8 * i : 8 * i + 17, 8 * j : 8 * j + 17].mean() for j in range(width // 8)] for i in range(height // 8)]
    )


@pytest.mark.parametrize("shape", [(16, 16), (64, 24), (40, 88)])
def test_reduction_is_the_mean_of_17_by_17_windows_with_stride_8(shape: tuple[int, int]) -> None:
    array = np.random.default_rng(0).normal(0, 20, shape)
    reduced = reduce_to_eighth(array)
    assert reduced.shape == (shape[0] // 8, shape[1] // 8)
    assert reduced.dtype == np.float32
    np.testing.assert_allclose(reduced, naive_reduction(array), rtol=1e-6, atol=1e-6)


def test_reduction_keeps_constants_exactly() -> None:
    assert (reduce_to_eighth(np.ones((64, 64))) == 1).all()
    assert (reduce_to_eighth(np.zeros((64, 64), bool)) == 0).all()


@pytest.mark.parametrize("shape", [(60, 64), (8, 64), (64,), (1, 64, 64)])
def test_reduction_refuses_shapes_it_cannot_reduce(shape: tuple[int, ...]) -> None:
    with pytest.raises(MaskError, match="dividing by 8"):
        reduce_to_eighth(np.zeros(shape))


def test_region_boxes_cover_each_region_with_its_own_rotated_rectangle() -> None:
    mask = np.zeros((80, 80), bool)
    for step in range(30):
        mask[10 + step, 10 + step] = True  # a diagonal crack: its rotated box is thin, an upright one would not be
    mask[60:64, 50:70] = True
    boxes = region_boxes(mask)
    assert (boxes & mask).sum() == mask.sum()
    assert boxes[:50].sum() < 150
    assert boxes[60:64, 50:70].all()
    assert not boxes[50:58].any()


def test_region_boxes_of_an_l_shape_fill_the_corner() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:30, 5:8] = True
    mask[27:30, 5:35] = True
    assert region_boxes(mask).sum() > 2 * mask.sum()


def test_region_boxes_of_nothing_and_of_one_pixel() -> None:
    assert not region_boxes(np.zeros((8, 8), bool)).any()
    single = np.zeros((8, 8), bool)
    single[3, 4] = True
    assert (region_boxes(single) == single).all()


def test_dilation_by_an_odd_square_is_centred() -> None:
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    grown = dilate(mask, 5)
    assert grown.sum() == 25
    assert grown[2:7, 2:7].all()
    assert (dilate(mask, 1) == mask).all()
    with pytest.raises(MaskError, match="dilate"):
        dilate(mask, 0)


def test_resizing_keeps_area_and_never_loses_a_thin_defect() -> None:
    mask = np.zeros((100, 60), bool)
    mask[20:60, 10:30] = True
    assert resize_mask(mask, (50, 30)).mean() == pytest.approx(mask.mean(), rel=0.1)
    thin = np.zeros((1280, 512), bool)
    thin[640, 3] = True
    assert resize_mask(thin, (64, 64)).any()
    assert resize_mask(mask, (100, 60)) is mask


def test_a_value_that_is_none_spoils_its_own_windows_alone() -> None:
    array = np.ones((64, 64))
    array[20, 20] = np.nan
    assert np.isnan(reduce_to_eighth(array)).sum() == 4


@pytest.mark.parametrize("row", range(300, 316))
def test_a_scratch_beside_a_large_defect_survives_shrinking(row: int) -> None:
    mask = np.zeros((1024, 1024), bool)
    mask[row] = True
    mask[600:660, 100:160] = True
    assert resize_mask(mask, (256, 256))[70:85].any(axis=0).all()
