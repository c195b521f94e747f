"""Surfaces of good parts: machined metal, cast grain, woven cloth. Knows no marks and no defects.

Lengths are in pixels at a unit of 1; unit scales them with the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segdec_edge.data.synthetic.canvas import Field, grid, smooth_noise, standardised

_DARKEST, _BRIGHTEST = 38.0, 215.0


@dataclass(frozen=True)
class Surface:
    """grey (H, W) in [0, 255]; across (H, W): the distance in pixels across the texture's own direction.

    A line of constant across runs along the texture, as a turning groove, a thread or a mould's parting line does.
    """

    grey: Field
    across: Field

    def direction(self, x: int, y: int) -> float:
        """Angle in radians of the texture's lines at a pixel."""
        patch = self.across[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
        slope_y, slope_x = (float(slope.mean()) for slope in np.gradient(patch))
        return float(np.arctan2(slope_y, slope_x)) + np.pi / 2


def machined(rng: np.random.Generator, size_hw: tuple[int, int], unit: float) -> Surface:
    """Turned (arcs) or milled (straight) grooves with a specular band."""
    across, along = _turned(rng, size_hw) if rng.random() < 0.5 else _straight(rng, size_hw)
    across, along = across - across.min(), along - along.min()
    feed = rng.uniform(4.0, 11.0) * unit
    stretch = rng.uniform(40.0, 110.0) * unit
    rows = rng.standard_normal((int(across.max()) + 3, int(along.max() / stretch) + 3), np.float32)
    rows = cv2.GaussianBlur(rows, (1, 9), 0.01, sigmaY=1.4 * unit) + 1.1 * rows.mean(axis=1, keepdims=True)
    grooves = standardised(cv2.remap(rows, along / stretch, across, cv2.INTER_LINEAR))
    texture = grooves + rng.uniform(0.2, 0.9) * np.cos(across * (2 * np.pi / feed))
    band = _band(rng, along if rng.random() < 0.7 else across)
    contrast = rng.uniform(4.0, 9.0) * (1 + 0.5 * band)
    return _lit(rng, contrast * standardised(texture) + rng.uniform(15.0, 40.0) * band, across)


def cast(rng: np.random.Generator, size_hw: tuple[int, int], unit: float) -> Surface:
    """Rough grain lit from one side."""
    grain = rng.uniform(1.8, 3.2) * unit
    height = smooth_noise(rng, size_hw, grain) + 1.3 * smooth_noise(rng, size_hw, 2.3 * grain)
    height += 1.2 * smooth_noise(rng, size_hw, 5.5 * grain)
    light = rng.uniform(0, 2 * np.pi)
    slope = np.cos(light) * cv2.Sobel(height, cv2.CV_32F, 1, 0) + np.sin(light) * cv2.Sobel(height, cv2.CV_32F, 0, 1)
    texture = standardised(np.asarray(slope, np.float32)) + 0.5 * standardised(height)
    texture = standardised(texture) + 0.35 * smooth_noise(rng, size_hw, 40 * unit)
    across, _ = _straight(rng, size_hw)
    return _lit(rng, rng.uniform(5.0, 11.0) * texture, across - across.min())


def woven(rng: np.random.Generator, size_hw: tuple[int, int], unit: float) -> Surface:
    """Plain or twill weave of uneven threads, slightly warped."""
    pitch = rng.uniform(6.0, 11.0) * unit
    u, v = _straight(rng, size_hw)
    u = (u - u.min() + rng.uniform(0.5, 2.0) * unit * smooth_noise(rng, size_hw, 60 * unit)) / pitch + 1
    v = (v - v.min() + rng.uniform(0.5, 2.0) * unit * smooth_noise(rng, size_hw, 60 * unit)) / pitch + 1
    warp, weft = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    tints = rng.normal(0, 0.35, (2, int(max(u.max(), v.max())) + 4)).astype(np.float32)
    tints[1] += rng.uniform(-0.9, 0.9)
    over_warp = (warp + weft) % 2 == 0 if rng.random() < 0.5 else (warp - weft) % 4 < 2
    arch_u, arch_v = np.sin((u - warp) * np.pi), np.sin((v - weft) * np.pi)
    tops = np.where(over_warp, arch_u, arch_v) * (0.75 + 0.25 * np.where(over_warp, arch_v, arch_u))
    texture = standardised(tops.astype(np.float32)) + np.where(over_warp, tints[0][warp], tints[1][weft])
    texture = standardised(texture) + 0.3 * smooth_noise(rng, size_hw, 1.5 * unit)
    return _lit(rng, rng.uniform(6.0, 13.0) * texture, u * np.float32(pitch))


TEXTURES: dict[str, Callable[[np.random.Generator, tuple[int, int], float], Surface]] = {
    "machined": machined,
    "cast": cast,
    "woven": woven,
}


def _straight(rng: np.random.Generator, size_hw: tuple[int, int]) -> tuple[Field, Field]:
    angle = np.float32(rng.uniform(0, np.pi))
    x, y = grid(size_hw)
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


def _turned(rng: np.random.Generator, size_hw: tuple[int, int]) -> tuple[Field, Field]:
    """Radius and arc length about a centre outside the picture."""
    diagonal = float(np.hypot(*size_hw))
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.6) * diagonal
    x, y = grid(size_hw)
    x = x - np.float32(size_hw[1] / 2 + distance * np.cos(angle))
    y = y - np.float32(size_hw[0] / 2 + distance * np.sin(angle))
    turn = np.float32(angle + np.pi)  # measured from the picture's middle, so that no pixel lies at the jump of arctan2
    bearing = np.arctan2(np.cos(turn) * y - np.sin(turn) * x, np.cos(turn) * x + np.sin(turn) * y)
    return np.hypot(x, y), np.asarray(bearing * np.float32(distance), np.float32)


def _band(rng: np.random.Generator, position: Field) -> Field:
    span = float(position.max())
    middle, width = rng.uniform(0.1, 0.9) * span, rng.uniform(0.08, 0.3) * span
    return np.asarray(np.exp(-0.5 * ((position - middle) / width) ** 2), np.float32)


def _lit(rng: np.random.Generator, texture: NDArray[np.floating], across: Field) -> Surface:
    """Add brightness and an uneven illumination, and keep room for marks at both ends of the grey scale."""
    height, width = texture.shape
    x, y = grid((height, width))
    x, y = x / max(height, width) - 0.5, y / max(height, width) - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * x + np.sin(angle) * y - rng.uniform(-0.4, 0.8) * (x * x + y * y)
    grey = rng.uniform(85.0, 160.0) + texture + rng.uniform(0.0, 60.0) * ramp
    return Surface(np.clip(grey, _DARKEST, _BRIGHTEST).astype(np.float32), across.astype(np.float32))
