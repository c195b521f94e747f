"""Soft-edged shapes and smooth noise. Knows neither textures nor defects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Field: TypeAlias = NDArray[np.float32]
"""(H, W) float32."""
Points: TypeAlias = NDArray[np.float64]
"""(K, 2), x and y in pixels; a pixel's centre lies at whole numbers."""

_FINER = 4
_SHIFT = 4


def standardised(field: Field) -> Field:
    """The field with mean 0 and standard deviation 1; a constant field becomes 0."""
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), np.float32)


def smooth_noise(rng: np.random.Generator, size_hw: tuple[int, int], cell: float) -> Field:
    """Noise without structure finer than cell pixels, (H, W), mean 0 and standard deviation 1."""
    height, width = size_hw
    coarse = rng.standard_normal((int(height / cell) + 4, int(width / cell) + 4), np.float32)
    left, top = rng.uniform(0.5, 1.5, 2)
    steps = np.array([[1 / cell, 0, left], [0, 1 / cell, top]], np.float32)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    fine = cv2.warpAffine(coarse, steps, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return standardised(np.asarray(fine, np.float32))


def grid(size_hw: tuple[int, int]) -> tuple[Field, Field]:
    """x of each pixel as (1, W) and y as (H, 1): they broadcast to (H, W)."""
    height, width = size_hw
    return np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]


def draw_soft(size_hw: tuple[int, int], points: Points, reach: float, draw: Callable[[Field, Points], None]) -> Field:
    """Coverage (H, W) in [0, 1] of what draw paints with 1 on a canvas four times as fine.

    points in pixels; draw gets the canvas and the points on it. reach: how far it paints beyond the points, in pixels.
    """
    height, width = size_hw
    margin = int(np.ceil(reach)) + 2
    x0, y0 = np.maximum(np.floor(points.min(axis=0)).astype(int) - margin, 0)
    x1, y1 = np.minimum(np.ceil(points.max(axis=0)).astype(int) + margin, (width - 1, height - 1)) + 1
    coverage = np.zeros(size_hw, np.float32)
    if x0 < x1 and y0 < y1:
        fine = np.zeros(((y1 - y0) * _FINER, (x1 - x0) * _FINER), np.float32)
        draw(fine, (points - (x0, y0) + 0.5) * _FINER - 0.5)
        coverage[y0:y1, x0:x1] = cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    return coverage


def stroke(size_hw: tuple[int, int], points: Points, widths: NDArray[np.float64]) -> Field:
    """Coverage (H, W) of a polyline; widths (K,) in pixels, the width at each point, at least a quarter pixel."""

    def draw(canvas: Field, fine: Points) -> None:
        ends = np.round(fine * (1 << _SHIFT)).astype(int)
        for start, end, width in zip(ends[:-1], ends[1:], widths[1:], strict=True):
            cv2.line(canvas, start.tolist(), end.tolist(), 1.0, max(1, round(width * _FINER)), cv2.LINE_8, _SHIFT)

    return draw_soft(size_hw, points, float(widths.max()), draw)


def polygon(size_hw: tuple[int, int], outline: Points) -> Field:
    """Coverage (H, W) of a closed outline's inside."""

    def draw(canvas: Field, fine: Points) -> None:
        cv2.fillPoly(canvas, [np.round(fine * (1 << _SHIFT)).astype(np.int32)], 1.0, cv2.LINE_8, _SHIFT)

    return draw_soft(size_hw, outline, 1.0, draw)


def blob(size_hw: tuple[int, int], centre_xy: tuple[float, float], radii: tuple[float, float], angle: float) -> Field:
    """A Gaussian hill of height 1, (H, W); radii are its standard deviations along angle (radians) and across it."""
    x, y = grid(size_hw)
    dx, dy = x - np.float32(centre_xy[0]), y - np.float32(centre_xy[1])
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = (cosine * dx + sine * dy) / radii[0], (cosine * dy - sine * dx) / radii[1]
    return np.asarray(np.exp(-0.5 * (along * along + across * across)), np.float32)


def curve(start_xy: tuple[float, float], heading: float, bends: NDArray[np.float64], step: float) -> Points:
    """A path of len(bends) + 1 points: step pixels each, the heading (radians) turned by bends (radians) on the way."""
    headings = heading + np.cumsum(bends)
    steps = step * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    return np.concatenate([[start_xy], np.asarray(start_xy) + np.cumsum(steps, axis=0)])
