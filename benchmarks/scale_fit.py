"""Cost over size as a power law, where it bends, and a plot of both. Knows no benchmark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 960, 440, 80, 360, 40, 60
_COLOURS = (
    "#2563eb", "#dc2626", "#059669", "#9333ea", "#d97706", "#475569", "#0891b2", "#be185d", "#65a30d", "#78350f"
)  # fmt: skip
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.grid{stroke:#ddd}.fit{stroke-dasharray:5 4;fill:none}"
    ".curve{fill:none;stroke-width:1.5}.knee{fill:none;stroke:#222;stroke-width:1.5}"
)


@dataclass(frozen=True)
class Knee:
    """Between two neighbouring points: the exponent there, how far it is from the fit's, and whether noise explains it.

    sigmas: the distance in standard errors of the two medians.
    """

    low: float
    high: float
    exponent: float
    away: float
    sigmas: float


@dataclass(frozen=True)
class Fit:
    """cost = factor · size^exponent by least squares of the logarithms; residual: their root mean square, as a ratio
    less 1. knee: where the local exponent is farthest from the fit's, None with fewer than three points."""

    exponent: float
    factor: float
    residual: float
    knee: Knee | None


Curve = Mapping[float, Sequence[float]]
"""Samples of the cost by size."""


def fit(curve: Curve) -> Fit | None:
    """None with fewer than two points. Sizes and costs must be positive."""
    sizes = sorted(curve)
    if len(sizes) < 2:
        return None
    x = np.log([float(size) for size in sizes])
    y = np.log([float(np.median(curve[size])) for size in sizes])
    exponent, offset = np.polyfit(x, y, 1)
    residual = float(np.sqrt(np.mean((y - exponent * x - offset) ** 2)))
    return Fit(float(exponent), math.exp(offset), math.expm1(residual), _knee(curve, sizes, float(exponent)))


def _knee(curve: Curve, sizes: Sequence[float], exponent: float) -> Knee | None:
    if len(sizes) < 3:
        return None
    knees = []
    for low, high in pairwise(sizes):
        span = math.log(high / low)
        local = math.log(float(np.median(curve[high])) / float(np.median(curve[low]))) / span
        error = math.hypot(_log_error(curve[low]), _log_error(curve[high])) / span
        knees.append(Knee(low, high, local, local - exponent, abs(local - exponent) / max(error, 1e-9)))
    return max(knees, key=lambda one: abs(one.away))


def _log_error(samples: Sequence[float]) -> float:
    """Standard error of the log of the median, by the samples' quartiles; 10 % for a single sample."""
    if len(samples) < 3:
        return 0.1
    spread = float(np.subtract(*np.percentile(np.log(samples), (75, 25)))) / 1.35
    return max(1.25 * spread / math.sqrt(len(samples)), 1e-3)


def plot_svg(title: str, across: str, up: str, curves: Mapping[str, Curve]) -> str:
    """Curves on log scales with their fits (dashed) and largest knees (a ring), readable by itself."""
    shown = {name: curve for name, curve in curves.items() if curve}
    xs = [math.log10(size) for curve in shown.values() for size in curve]
    ys = [math.log10(float(np.median(found))) for curve in shown.values() for found in curve.values()]
    pad_x, pad_y = 0.04 * (max(xs) - min(xs) or 1), 0.08 * (max(ys) - min(ys) or 1)
    box = (min(xs) - pad_x, max(xs) + pad_x, min(ys) - pad_y, max(ys) + pad_y)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - box[0]) / (box[1] - box[0]) * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - (y - box[2]) / (box[3] - box[2]) * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{_LEFT}" y="22" font-weight="bold">{escape(title)}</text>',
        *_grid(box, at, across, up),
    ]
    for number, (name, curve) in enumerate(shown.items()):
        parts += _curve(name, curve, at, _COLOURS[number % len(_COLOURS)], number)
    return "".join(parts) + "</svg>\n"


def _grid(box: tuple[float, float, float, float], at: object, across: str, up: str) -> list[str]:
    assert callable(at)
    parts = []
    for value in _ticks(box[0], box[1]):
        x, _ = at(math.log10(value), box[2])
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    for value in _ticks(box[2], box[3]):
        _, y = at(box[0], math.log10(value))
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 14}" text-anchor="middle">{escape(across)}</text>')
    parts.append(f'<text transform="translate(16 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(up)}</text>')
    return parts


def _ticks(low: float, high: float) -> list[float]:
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    powers = range(math.floor(low) - 1, math.ceil(high) + 1)
    return [step * 10.0**power for power in powers for step in steps if low <= math.log10(step * 10.0**power) <= high]


def _curve(name: str, curve: Curve, at: object, colour: str, number: int) -> list[str]:
    assert callable(at)
    sizes = sorted(curve)
    points = [at(math.log10(size), math.log10(float(np.median(curve[size])))) for size in sizes]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [f'<polyline class="curve" points="{path}" stroke="{colour}"/>']
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points]
    found, told = fit(curve), name
    if found is not None:
        ends = [at(math.log10(size), math.log10(found.factor * size**found.exponent)) for size in (sizes[0], sizes[-1])]
        (x1, y1), (x2, y2) = ends
        parts.append(f'<path class="fit" d="M{x1:.1f},{y1:.1f}L{x2:.1f},{y2:.1f}" stroke="{colour}"/>')
        told = f"{name}: exponent {found.exponent:.2f}, ± {100 * found.residual:.0f} %"
        if found.knee is not None:
            x, y = points[sizes.index(found.knee.high)]
            parts.append(f'<circle class="knee" cx="{x:.1f}" cy="{y:.1f}" r="8"/>')
    y = _TOP + 14 + 30 * number
    first, _, rest = told.partition(": ")
    parts.append(
        f'<text x="{_WIDTH - _RIGHT + 12}" y="{y}" style="fill:{colour};font-weight:bold">{escape(first)}</text>'
    )
    parts.append(f'<text x="{_WIDTH - _RIGHT + 12}" y="{y + 14}">{escape(rest)}</text>')
    return parts
