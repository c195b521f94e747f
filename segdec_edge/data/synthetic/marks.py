"""What a good part may carry: dust, tool marks, pen, smudges, holes, its own edge. Defective parts carry it as often.

None has a sharp dark line or dot with a bright lip, as damage has. How else each differs from what it resembles:
dust is bright, round and soft (a pit is dark and sharp); a tool mark follows the texture from border to border (a
scratch crosses it and ends); pen is thick and even (a crack is thin and jagged); a smudge has no border (a stain has);
a hole is large and has no rim.
"""

from __future__ import annotations

import numpy as np

from segdec_edge.data.synthetic.canvas import Field, blob, curve, grid, stroke
from segdec_edge.data.synthetic.textures import Surface


def add_marks(rng: np.random.Generator, surface: Surface, unit: float) -> tuple[Field, Field]:
    """The surface's grey with marks, and how much each pixel is covered by one, both (H, W); coverage in [0, 1]."""
    grey, covered = surface.grey.copy(), np.zeros_like(surface.grey)
    for share, mark in ((0.55, _smudge), (0.65, _tool_mark), (0.45, _pen), (0.3, _hole), (0.25, _edge), (0.65, _dust)):
        if rng.random() < share:
            mark(rng, surface, grey, covered, unit)
    return grey, covered


def _smudge(rng: np.random.Generator, surface: Surface, grey: Field, covered: Field, unit: float) -> None:
    radii = (rng.uniform(14, 45) * unit, rng.uniform(10, 30) * unit)
    grey += _signed(rng, 14, 34) * blob(grey.shape, _spot(rng, grey), radii, rng.uniform(0, np.pi))


def _tool_mark(rng: np.random.Generator, surface: Surface, grey: Field, covered: Field, unit: float) -> None:
    for _ in range(rng.integers(1, 4)):
        x, y = _spot(rng, grey)
        distance = (surface.across - surface.across[y, x]) / (rng.uniform(1.2, 2.2) * unit)
        line = np.exp(-0.5 * distance * distance)
        grey += _signed(rng, 35, 90) * line
        np.maximum(covered, line, out=covered)


def _edge(rng: np.random.Generator, surface: Surface, grey: Field, covered: Field, unit: float) -> None:
    """The part ends before the picture does: dark background behind a bright chamfer."""
    height, width = grey.shape
    angle = rng.integers(4) * np.pi / 2 + rng.uniform(-0.15, 0.15)
    x, y = grid((height, width))
    outward = np.cos(angle) * (x - width / 2) + np.sin(angle) * (y - height / 2)
    outward = outward - np.float32(float(outward.max()) - rng.uniform(0.1, 0.22) * min(height, width))
    background = np.clip(outward + 0.5, 0, 1)
    chamfer = np.exp(-0.5 * ((outward + 2 * unit) / (1.2 * unit)) ** 2)
    grey += rng.uniform(25, 70) * chamfer
    grey += background * (rng.uniform(6, 26) - grey)
    np.maximum(covered, np.maximum(background, chamfer), out=covered)


def _hole(rng: np.random.Generator, surface: Surface, grey: Field, covered: Field, unit: float) -> None:
    x, y = grid(grey.shape)
    centre_x, centre_y = _spot(rng, grey)
    inside = np.clip(0.5 + rng.uniform(8, 14) * unit - np.hypot(x - centre_x, y - centre_y), 0, 1)
    grey += inside * (rng.uniform(6, 26) - grey)
    np.maximum(covered, inside, out=covered)


def _pen(rng: np.random.Generator, surface: Surface, grey: Field, covered: Field, unit: float) -> None:
    """One even stroke of a felt pen: a tick, an arc or a loop."""
    count = 26
    bends = np.full(count, rng.uniform(-0.28, 0.28)) + rng.uniform(-0.1, 0.1) * np.linspace(0, 1, count)
    path = curve(_spot(rng, grey), rng.uniform(0, 2 * np.pi), bends, rng.uniform(2.5, 5.5) * unit)
    ink = stroke(grey.shape, path, np.full(count + 1, rng.uniform(4.0, 7.0) * unit))
    grey *= 1 - rng.uniform(0.5, 0.85) * ink
    np.maximum(covered, ink, out=covered)


def _dust(rng: np.random.Generator, surface: Surface, grey: Field, covered: Field, unit: float) -> None:
    for _ in range(rng.integers(1, 9)):
        size = rng.uniform(1.3, 3.0) * unit
        x, y = _spot(rng, grey)
        reach = int(4 * size) + 1
        rows, columns = slice(max(y - reach, 0), y + reach + 1), slice(max(x - reach, 0), x + reach + 1)
        patch = grey[rows, columns]
        centre = (x - columns.start + rng.uniform(-0.5, 0.5), y - rows.start + rng.uniform(-0.5, 0.5))
        speck = blob(patch.shape, centre, (size, size * rng.uniform(0.8, 1.25)), rng.uniform(0, np.pi))
        patch += rng.uniform(35, 110) * speck
        np.maximum(covered[rows, columns], speck, out=covered[rows, columns])


def _spot(rng: np.random.Generator, grey: Field) -> tuple[int, int]:
    height, width = grey.shape
    return int(rng.integers(width)), int(rng.integers(height))


def _signed(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high) * rng.choice((-1, 1)))
