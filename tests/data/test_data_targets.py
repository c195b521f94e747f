"""What one picture is trained against, against a plain restatement from the published description."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.data.targets import TargetRule, make_example
from segdec_edge.errors import MaskError
from segdec_edge.types import BoolMask, Pixels
from tests.restatement import plain_resize, plain_target

RULE = TargetRule((128, 64), 1, boxes=False, dilate=7, weighted=True, p=2.0, w_pos=3.0, per="region")


@dataclass(frozen=True)
class Drawn:
    """A sample in memory: grey noise, and a mask."""

    mask: BoolMask | None
    positive: bool = True
    size_hw: tuple[int, int] = (150, 96)
    name: str = "part"
    part: str = "part"
    path: Path | None = None

    @property
    def has_mask(self) -> bool:
        return self.mask is not None or not self.positive

    def read(self) -> Pixels:
        return np.random.default_rng(3).integers(0, 256, self.size_hw).astype(np.uint8)

    def read_mask(self) -> BoolMask | None:
        return self.mask


def two_regions() -> BoolMask:
    """A blob at the border, a scratch, and a single pixel."""
    mask = np.zeros((150, 96), bool)
    mask[:30, 70:] = True
    mask[80, 10:40] = True
    mask[120, 60] = True
    return mask


@pytest.mark.parametrize("dilate", [1, 7])
@pytest.mark.parametrize(("p", "w_pos", "per"), [(1.0, 10.0, "region"), (2.0, 3.0, "image")])
@pytest.mark.parametrize("size_hw", [(128, 64), (136, 128)], ids=["smaller", "one side larger"])
def test_a_target_is_the_published_one(dilate: int, p: float, w_pos: float, per: str, size_hw: tuple[int, int]) -> None:
    rule = replace(RULE, size_hw=size_hw, dilate=dilate, p=p, w_pos=w_pos, per=per)
    example = make_example(Drawn(two_regions()), rule)
    mask, weights = plain_target(two_regions(), size_hw, dilate=dilate, p=p, w_pos=w_pos, per=per)
    assert example.mask.dtype == example.weights.dtype == np.float32
    np.testing.assert_allclose(example.mask, mask, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(example.weights, weights, rtol=1e-6, atol=1e-7)
    assert weights.max() > 1.2


def test_pixels_are_the_resized_picture() -> None:
    example = make_example(Drawn(None, positive=False), RULE)
    resized = plain_resize(Drawn(None).read(), RULE.size_hw)
    assert example.pixels.shape == (128, 64, 1)
    assert np.abs(example.pixels[:, :, 0] - resized).max() < 1  # OpenCV computes it in fixed point


def test_without_distance_weights_every_pixel_weighs_one() -> None:
    example = make_example(Drawn(two_regions()), replace(RULE, weighted=False))
    assert (example.weights == 1).all()
    assert example.mask.max() > 0


@pytest.mark.parametrize("positive", [True, False])
def test_no_mask_is_nothing_marked_and_ones(positive: bool) -> None:
    example = make_example(Drawn(None, positive), RULE)
    assert (example.mask == 0).all()
    assert (example.weights == 1).all()
    assert (example.positive, example.has_mask) == (positive, not positive)


def test_a_defect_whose_mask_marks_nothing_counts_as_nobody_drew_it() -> None:
    example = make_example(Drawn(np.zeros((150, 96), bool)), RULE)
    assert (example.positive, example.has_mask) == (True, False)
    assert (example.mask == 0).all()


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(MaskError, match="mask 150x95, picture 150x96"):
        make_example(Drawn(np.ones((150, 95), bool)), RULE)
