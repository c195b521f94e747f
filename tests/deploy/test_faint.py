"""Faint defects: where they lie, how weak they are, and that what is held back stays apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.data.paste import paste, shape_of_mask
from segdec_edge.data.targets import TargetRule
from segdec_edge.deploy.faint import EACH, faint_defects
from segdec_edge.deploy.rebuild import Material
from segdec_edge.errors import MaskError
from segdec_edge.types import BoolMask, Pixels

SIZE = (64, 64)
RULE = TargetRule(SIZE, 1, boxes=False, dilate=1, weighted=False, p=1, w_pos=1, per="region")


@dataclass(frozen=True)
class Drawn:
    """A sample whose picture is in the material already."""

    name: str
    positive: bool
    mask: BoolMask | None = None
    path: Path | None = None

    @property
    def part(self) -> str:
        return self.name

    @property
    def has_mask(self) -> bool:
        return self.mask is not None or not self.positive

    def read(self) -> Pixels:
        raise AssertionError("the material has it")

    def read_mask(self) -> BoolMask | None:
        if self.mask is not None and not self.mask.any():
            raise MaskError(f"{self.name}: empty")
        return self.mask


def mask_at(top: int, left: int) -> BoolMask:
    mask = np.zeros(SIZE, np.bool_)
    mask[top : top + 6, left : left + 6] = True
    return mask


def material_and_samples() -> tuple[Material, list[Drawn]]:
    """Good pictures are 100 all over, those to be held back 150; a defect is 100 brighter than its surroundings."""
    pixels = np.full((6, *SIZE, 1), 100, np.uint8)
    pixels[3:] = 150
    samples = [Drawn(f"good{index}", False) for index in range(6)]
    for index, place in ((0, (30, 30)), (3, (20, 40))):
        mask = mask_at(*place)
        pixels[index][mask] += 100
        samples[index] = Drawn(f"bad{index}", True, mask)
    defective = np.array([sample.positive for sample in samples])
    return Material(pixels, defective, tuple(sample.name for sample in samples)), samples


def test_a_defect_lies_weakly_on_good_pictures_of_its_own_side() -> None:
    material, samples = material_and_samples()
    held_back = {"bad3", "good4", "good5"}
    found = faint_defects(material, samples, held_back)
    assert found is not None and found.defective.all()
    assert found.names == ("bad0",) * EACH + ("bad3",) * EACH
    for name, pixels in zip(found.names, found.pixels, strict=True):
        ground = 100 if name == "bad0" else 150
        assert np.median(pixels) == ground
        assert 10 <= pixels.max() - ground <= 101
    brightest = found.pixels.reshape(len(found.pixels), -1).max(axis=1)
    assert len(set(brightest.tolist())) > EACH  # each at a strength of its own
    assert set(found.without(held_back).names) == {"bad0"}


def test_what_nobody_drew_or_can_be_read_is_left_out() -> None:
    material, samples = material_and_samples()
    for unusable in (Drawn("bad0", True), Drawn("bad0", True, np.zeros(SIZE, np.bool_))):
        found = faint_defects(material, [unusable, *samples[1:]])
        assert found is not None and set(found.names) == {"bad3"}
    assert faint_defects(material, [sample for sample in samples if not sample.positive]) is None
    assert faint_defects(material.without({one for one in material.names if "good" in one}), samples) is None


@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0])
def test_strength_is_the_share_of_the_defect_that_shows(strength: float) -> None:
    material, samples = material_and_samples()
    shape = shape_of_mask(samples[0].mask, RULE)
    assert shape is not None
    laid, _ = paste(material.pixels[1], material.pixels[0], shape, shape.corner_yx, strength)
    assert laid[33, 33, 0] == pytest.approx(100 + 100 * strength, abs=8)  # fine grain is kept at its strength
