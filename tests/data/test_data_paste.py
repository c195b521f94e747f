"""A piece of one picture on another: what changes, what does not, and what it is trained against there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from segdec_edge.data.paste import Shape, best_corner, paste, shape_of_mask
from segdec_edge.data.targets import MIRRORS, TargetRule, prepare_mask, targets_of
from segdec_edge.types import BoolMask, Pixels
from tests.restatement import plain_target

RULE = TargetRule((128, 96), 1, boxes=False, dilate=3, weighted=True, p=2.0, w_pos=3.0, per="region")


def grain(seed: int, mean: float = 120.0, deviation: float = 12.0) -> Pixels:
    noise = np.random.default_rng(seed).normal(mean, deviation, (128, 96, 1))
    return np.clip(noise, 0, 255).astype(np.uint8)


def scratch() -> BoolMask:
    mask = np.zeros((128, 96), np.bool_)
    mask[60:64, 30:60] = True
    return mask


def shape_for(mask: BoolMask, rule: TargetRule = RULE) -> Shape:
    shape = shape_of_mask(mask, rule)
    assert shape is not None
    return shape


def test_a_shape_is_packed_without_loss() -> None:
    shape = shape_for(scratch())
    packed = shape.packed()
    again = packed.unpacked()
    assert np.array_equal(shape.cut, again.cut)
    assert np.array_equal(shape.mark, again.mark)
    assert (shape.corner_yx, shape.size_hw) == (again.corner_yx, again.size_hw)
    assert len(packed.bits) < 100 < shape.cut.size


@pytest.mark.parametrize("corner", [(0, 0), (10, 3), None])
def test_a_defect_lands_where_its_mask_does_and_nothing_else_changes(corner: tuple[int, int] | None) -> None:
    host, donor, shape = grain(1), grain(2), shape_for(scratch())
    donor[scratch()] = 20
    corner = corner or shape.corner_yx
    pixels, mask = paste(host, donor, shape, corner)
    down, right = corner[0] - shape.corner_yx[0], corner[1] - shape.corner_yx[1]
    assert np.array_equal(mask, np.roll(prepare_mask(scratch(), RULE), (down, right), (0, 1)))
    dark = np.roll(scratch(), (down, right), (0, 1))
    assert float(pixels[dark].mean()) < 40
    assert float(pixels[~dark].mean()) > 110
    outside = np.ones((128, 96), np.bool_)
    outside[corner[0] : corner[0] + shape.cut.shape[0], corner[1] : corner[1] + shape.cut.shape[1]] = False
    assert np.array_equal(pixels[outside], host[outside])
    assert np.array_equal(pixels, paste(host, donor, shape, corner)[0])


def test_a_piece_takes_on_the_brightness_of_its_surroundings_and_keeps_its_contrast() -> None:
    shape = shape_for(scratch())
    host, donor = grain(1, mean=180, deviation=2), grain(2, mean=90, deviation=2)
    donor[scratch()] = 50
    pixels, _ = paste(host, donor, shape, shape.corner_yx)
    assert float(pixels[scratch()].mean()) == pytest.approx(140, abs=4)
    plain, _ = paste(host, grain(3, mean=90, deviation=2), shape, shape.corner_yx)
    assert float(plain.min()) > 165  # no dark rim


def test_where_pictures_mix_their_grain_is_as_strong_as_elsewhere() -> None:
    shape = shape_for(scratch())
    strengths = []
    for seed in range(20):
        host, donor = grain(2 * seed), grain(2 * seed + 1)
        pixels, _ = paste(host, donor, shape, shape.corner_yx)
        changed = (pixels != host)[:, :, 0] & ~scratch()
        strengths.append(float(pixels[changed].std()))
    assert np.mean(strengths) == pytest.approx(12, rel=0.06)  # a plain weighted mean: 9.9


def test_of_some_places_the_most_alike_is_taken() -> None:
    donor, host = grain(1, mean=150), grain(2, mean=150)
    host[:, :60] = 10  # beside the part
    shape = shape_for(np.roll(scratch(), -20, axis=1))
    on, beside = (50, 96 - shape.cut.shape[1]), (50, 0)
    assert best_corner(host, donor, shape, [beside, on, beside]) == on
    assert best_corner(host[:, ::-1], donor, shape, [beside, on]) == beside


def test_what_touches_a_border_stays_there() -> None:
    mask = np.zeros((128, 96), np.bool_)
    mask[40:44, 80:] = True
    shape = shape_for(mask)
    rows, columns = shape.corners()
    assert list(columns) == [96 - shape.cut.shape[1]]
    assert (rows[0], rows[-1]) == (0, 128 - shape.cut.shape[0])
    turned = shape.turned(MIRRORS.index((1, -1)))
    assert list(turned.corners()[1]) == [0]
    pixels, moved = paste(grain(1), grain(2), turned, (7, 0))
    assert np.array_equal(moved[:, ::-1], np.roll(prepare_mask(mask, RULE), 7 - shape.corner_yx[0], axis=0))
    assert pixels.shape == (128, 96, 1)


@pytest.mark.parametrize("mask", [np.zeros((128, 96), np.bool_), np.ones((128, 96), np.bool_), None])
def test_nothing_and_nearly_everything_is_not_cut_out(mask: BoolMask | None) -> None:
    assert shape_of_mask(mask, RULE) is None


def test_a_single_pixel_does_not_vanish_wherever_it_lands() -> None:
    mask = np.zeros((128, 96), np.bool_)
    mask[70, 50] = True
    rule = replace(RULE, dilate=1)
    shape = shape_for(mask, rule)
    for corner in [(row, column) for row in range(40, 49) for column in range(30, 39)]:
        _, moved = paste(grain(1), grain(2), shape, corner)
        assert targets_of(moved, rule)[0][0].max() > 0


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_pictures_are_pasted_too(channels: int) -> None:
    shape = shape_for(scratch())
    host, donor = (np.repeat(grain(seed), channels, axis=2) for seed in (1, 2))
    donor[scratch()] = 10
    pixels, _ = paste(host, donor, shape, shape.corner_yx)
    assert pixels.shape == (128, 96, channels)
    assert pixels[scratch()].mean() < 40
    assert all(np.array_equal(pixels[:, :, 0], pixels[:, :, one]) for one in range(channels))


def test_a_target_made_near_the_defect_is_that_of_the_whole_picture() -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        mask = np.zeros((128, 96), np.bool_)
        for row, column in rng.integers(0, (128, 96), (int(rng.integers(1, 4)), 2)):
            mask[row : row + rng.integers(1, 40), column : column + rng.integers(1, 30)] = True
        rule = replace(RULE, dilate=1, flips=True, per=str(rng.choice(["region", "image"])))
        for (y, x), target in zip(MIRRORS, targets_of(mask, rule), strict=True):
            wanted = plain_target(mask[::y, ::x], (128, 96), dilate=1, p=2.0, w_pos=3.0, per=rule.per)
            np.testing.assert_allclose(target[0], wanted[0], rtol=1e-6, atol=1e-7)
            np.testing.assert_allclose(target[1], wanted[1], rtol=1e-6, atol=1e-7)
