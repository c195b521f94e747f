"""Stand-ins for the contracts of segdec_edge.types, for tests of every room. Small classes, no patching.

Import: `from tests.fakes import FakeBackend, level, plain_part`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from segdec_edge.errors import BackendError
from segdec_edge.types import ModelSpec, Pixels, Prediction

FAKE_SPEC = ModelSpec(size_hw=(32, 32), channels=1, heatmap_hw=(4, 4), threshold=0.5, sha256="f" * 64)

Judge = Callable[[Pixels], "float | tuple[float, NDArray[np.float32]]"]


def plain_part(value: int, shape: tuple[int, ...]) -> Pixels:
    """A picture (H, W) or (H, W, 3) of one grey level, but for the contrast of its first row: `level` reads it back."""
    picture = np.full(shape, value, np.uint8)
    picture[: 1 + shape[0] // 16] = (value + 128) % 256
    return picture


def level(picture: Pixels) -> float:
    """The grey level of a plain part, in [0, 1]."""
    return float(np.median(picture)) / 255


@dataclass
class FakeBackend:
    """A Backend that asks a plain function about each picture.

    judge: one prepared picture (H, W, C) uint8 → its score, or (score, heatmap (h, w)); a lone score fills the heatmap.
    calls keeps the batch size of every infer, closed how often close was called.
    """

    judge: Judge
    spec: ModelSpec = FAKE_SPEC
    name: str = "fake"
    calls: list[int] = field(default_factory=list)
    closed: int = 0

    def infer(self, pixels: Pixels) -> Prediction:
        wanted = (*self.spec.size_hw, self.spec.channels)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != wanted:
            raise BackendError(f"pixels {pixels.dtype} {pixels.shape}, wanted uint8 (N, {wanted}). Use prepare().")
        if self.spec.max_batch is not None and len(pixels) > self.spec.max_batch:
            raise BackendError(f"a batch of {len(pixels)}, wanted at most {self.spec.max_batch}. Send fewer.")
        self.calls.append(len(pixels))
        judged = [self._judge_one(one) for one in pixels]
        return Prediction(
            np.array([score for score, _ in judged], np.float32), np.stack([heatmap for _, heatmap in judged])
        )

    def close(self) -> None:
        self.closed += 1

    def _judge_one(self, picture: Pixels) -> tuple[float, NDArray[np.float32]]:
        answer = self.judge(picture)
        if isinstance(answer, tuple):
            return answer
        fill = np.nan_to_num(np.float32(answer))
        return answer, np.full(self.spec.heatmap_hw, fill, np.float32)
