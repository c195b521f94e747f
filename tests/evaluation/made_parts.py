"""Parts made up in memory, and a backend that reads the wanted score from their brightness."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segdec_edge.errors import MaskError, PictureError
from segdec_edge.types import BoolMask, Pixels
from tests.fakes import FakeBackend, level, plain_part

LEVELS = 255


@dataclass(frozen=True)
class MadePart:
    """A plain grey picture; its level is the score that `brightness_backend` gives it."""

    name: str
    positive: bool
    score: float
    size_hw: tuple[int, int] = (32, 32)
    broken: str = ""
    has_mask: bool = True
    path: Path | None = None

    @property
    def part(self) -> str:
        return self.name.split("/")[0]

    def read(self) -> Pixels:
        if self.broken == "flat":
            return np.full(self.size_hw, round(self.score * LEVELS), np.uint8)
        if self.broken == "picture":
            raise PictureError(f"{self.name}: the file ends early")
        return plain_part(round(self.score * LEVELS), self.size_hw)

    def read_mask(self) -> BoolMask | None:
        if self.broken == "mask":
            raise MaskError(f"{self.name}: not a mask")
        if not self.positive:
            return None
        mask = np.zeros(self.size_hw, np.bool_)
        mask[8:16, 8:20] = True
        return mask if self.broken != "mask size" else mask[:-1]


def brightness_backend() -> FakeBackend:
    return FakeBackend(level)
