"""Pictures seen from other sides. Knows no network; the published method uses none of this."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from segdec_edge.data.targets import MIRRORS, Example


def flipped(example: Example, rng: np.random.Generator) -> Example:
    """The example as it is, mirrored left to right, upside down or both, each with one chance in four.

    An example with a defect must have been made with flips: its targets cannot be mirrored after their reduction.
    """
    turn = int(rng.integers(len(MIRRORS)))
    rows, columns = MIRRORS[turn]
    pixels = np.ascontiguousarray(example.pixels[::rows, ::columns])
    mask, weights = example.mirrored[turn] if example.mirrored else (example.mask, example.weights)
    return replace(example, pixels=pixels, mask=mask, weights=weights)
