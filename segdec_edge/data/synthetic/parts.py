"""Procedural parts: who is defective and on which surface (plan), and how one is rendered. Writes no file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from segdec_edge.data.synthetic.canvas import Field
from segdec_edge.data.synthetic.defects import KINDS, place_defect
from segdec_edge.data.synthetic.marks import add_marks
from segdec_edge.data.synthetic.textures import TEXTURES
from segdec_edge.errors import DataError
from segdec_edge.types import BoolMask, Pixels

SMALLEST_SIDE = 64
_UNIT_SIDE = 256  # pixels of the shorter side at which lengths are as written


@dataclass(frozen=True)
class SyntheticSample:
    """One made part; a Sample. Rendered anew at each read, from these fields alone, in about 10 ms at 256×256.

    The bytes are the same on the same machine with the same numpy and opencv. With defect=None in place of its defect,
    a part is the same part before it was damaged: same surface, marks and sensor noise.
    texture: a key of TEXTURES; defect: a key of KINDS, or None for a good part.
    """

    seed: int
    index: int
    size_hw: tuple[int, int]
    texture: str
    defect: str | None

    @property
    def name(self) -> str:
        return f"s{self.seed}-{self.index:05d}"

    @property
    def part(self) -> str:
        return self.name

    @property
    def positive(self) -> bool:
        return self.defect is not None

    @property
    def has_mask(self) -> bool:
        return True

    @property
    def path(self) -> Path | None:
        return None

    @property
    def sources(self) -> tuple[Path | str, ...]:
        return ()

    def read(self) -> Pixels:
        """The picture, (H, W) grey uint8."""
        return _render(self)[0]

    def read_mask(self) -> BoolMask | None:
        """Generous boxes around the defects, as an annotator would draw them, (H, W); None for a good part."""
        return _render(self)[1] if self.positive else None

    def read_exact_mask(self) -> BoolMask | None:
        """Every pixel that a defect changed, (H, W), all within read_mask; None for a good part."""
        return _render(self)[2] if self.positive else None


def synthetic_samples(
    seed: int, n: int, size_hw: tuple[int, int], defect_share: float = 0.4
) -> tuple[SyntheticSample, ...]:
    """n parts, round(n · defect_share) of them defective, evenly spread; textures and kinds of defect take equal turns.

    The first parts of a longer set are those of a shorter one with the same seed, size and share: n decides nothing but
    where it ends. Hence which positions are defective follows from defect_share alone; the seed decides all the rest.
    Raises DataError where a number makes no sense or a side is under 64 pixels.
    """
    if seed < 0 or n < 1 or not 0.0 <= defect_share <= 1.0 or min(size_hw) < SMALLEST_SIDE:
        raise DataError(
            f"synthetic parts with seed {seed}, n {n}, size {size_hw[0]}x{size_hw[1]}, defects {defect_share}; wanted"
            f" seed at least 0, n at least 1, sides at least {SMALLEST_SIDE} and defects between 0 and 1."
        )
    samples = []
    for index in range(n):
        before = round(index * defect_share)
        defective = round((index + 1) * defect_share) > before
        texture = _turn(seed, defective, before if defective else index - before, tuple(TEXTURES))
        kind = _turn(seed, 2, before, tuple(KINDS)) if defective else None
        samples.append(SyntheticSample(seed, index, size_hw, texture, kind))
    return tuple(samples)


def _turn(seed: int, sequence: int, count: int, choices: tuple[str, ...]) -> str:
    """Whose turn it is after count turns: each choice comes once a round, in an order that changes every round."""
    rng = np.random.default_rng([seed, sequence, count // len(choices)])
    return choices[int(rng.permutation(len(choices))[count % len(choices)])]


def _render(sample: SyntheticSample) -> tuple[Pixels, BoolMask, BoolMask]:
    """Picture, rough mask and exact mask, each (H, W)."""
    rng = np.random.default_rng([sample.seed, sample.index])
    unit = float(np.clip(min(sample.size_hw) / _UNIT_SIDE, 0.5, 8.0))
    surface = TEXTURES[sample.texture](rng, sample.size_hw, unit)
    grey, covered = add_marks(rng, surface, unit)
    blur = rng.uniform(0.35, 0.6)
    noise = rng.uniform(1.0, 2.5) * rng.standard_normal(sample.size_hw, np.float32)
    rough, exact = np.zeros(sample.size_hw, np.bool_), np.zeros(sample.size_hw, np.bool_)
    if sample.defect is not None:  # last, so that all random numbers before are those of the undamaged part
        for _ in range(2 if rng.random() < 0.3 else 1):
            defect = place_defect(rng, sample.defect, surface, grey, covered, unit)
            grey = grey + defect.change
            rough, exact = rough | defect.rough, exact | defect.exact
            covered = np.maximum(covered, exact)  # a second defect keeps away from the first
    return _photograph(grey, blur, noise), rough, exact


def _photograph(grey: Field, blur: float, noise: Field) -> Pixels:
    """What an 8-bit camera makes of it: the lens blurs (deviation in pixels), the sensor adds noise."""
    seen = cv2.GaussianBlur(np.clip(grey, 0, 255), (5, 5), blur) + noise
    return np.asarray(np.clip(np.round(seen), 0, 255), np.uint8)
