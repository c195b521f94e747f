"""A piece of one picture laid on another with hardly a seam. Knows no network and draws nothing by chance.

Everything is in pixels of prepared pictures. Source of the idea: CutPaste (Li et al. 2021), here with the pixels of
real defects. The piece takes on the brightness of its new surroundings, and where both pictures mix their grain keeps
its strength. On KolektorSDD fine grain around a piece is within 10 % of both pictures' (a hard edge: +51 %, a plain
soft one: −11 %), and a crack keeps 97 % of its contrast; OpenCV's seamlessClone leaves no seam at all, but 75 % of the
contrast, and next to nothing of a tightly drawn crack.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segdec_edge.data.targets import MIRRORS, TargetRule, prepare_mask
from segdec_edge.types import BoolMask, Pixels

_LARGEST_SHARE = 0.5  # of a picture: beyond it the other picture hardly shows
_SOFTEST = 3
_SIDES_OF_SOFTNESS = 40
_GRAIN = 2.0  # pixels, deviation: what is finer counts as grain

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """A defect's outline in its picture of size_hw: cut, what was annotated, and mark, what it is trained against.

    Both (h, w), the smallest rectangle around them with room for a soft edge where the picture has it; corner_yx is
    where that lies.
    """

    cut: BoolMask
    mark: BoolMask
    corner_yx: tuple[int, int]
    size_hw: tuple[int, int]

    def turned(self, turn: int) -> Shape:
        """As in the picture mirrored by MIRRORS[turn]."""
        y, x = MIRRORS[turn]
        (top, left), (high, wide) = self.corner_yx, self.cut.shape
        corner = (self.size_hw[0] - high - top if y < 0 else top, self.size_hw[1] - wide - left if x < 0 else left)
        return Shape(self.cut[::y, ::x], self.mark[::y, ::x], corner, self.size_hw)

    def corners(self) -> tuple[range, range]:
        """Rows and columns where its corner may lie. What touches a border of the picture stays at that border."""
        ranges = []
        for at, side, whole in zip(self.corner_yx, self.cut.shape, self.size_hw, strict=True):
            fixed = at == 0 or at + side == whole
            ranges.append(range(at, at + 1) if fixed else range(whole - side + 1))
        return ranges[0], ranges[1]

    def packed(self) -> PackedShape:
        both = np.packbits(np.stack([self.cut, self.mark]))
        return PackedShape(zlib.compress(both.tobytes(), 1), self.cut.shape, self.corner_yx, self.size_hw)


@dataclass(frozen=True)
class PackedShape:
    """A Shape in a few hundred bytes."""

    bits: bytes
    shape_hw: tuple[int, ...]
    corner_yx: tuple[int, int]
    size_hw: tuple[int, int]

    def unpacked(self) -> Shape:
        high, wide = self.shape_hw
        flat = np.unpackbits(np.frombuffer(zlib.decompress(self.bits), np.uint8), count=2 * high * wide)
        cut, mark = flat.reshape(2, high, wide).astype(np.bool_)
        return Shape(cut, mark, self.corner_yx, self.size_hw)


def shape_of_mask(mask: BoolMask | None, rule: TargetRule) -> Shape | None:
    """The shape of a mask as annotated; None where nothing is marked, or more than half of the picture."""
    if mask is None or not mask.any():
        return None
    size = rule.size_hw
    cut, mark = prepare_mask(mask, rule, as_drawn=True), prepare_mask(mask, rule)
    if (cut | mark).mean() > _LARGEST_SHARE:
        return None
    margin = 2 * softness(size)
    inside = [np.flatnonzero((cut | mark).any(axis=axis)) for axis in (1, 0)]
    (top, left), (below, right) = (
        [max(0, int(one[0]) - margin) for one in inside],
        [min(side, int(one[-1]) + 1 + margin) for one, side in zip(inside, size, strict=True)],
    )
    window = (slice(top, below), slice(left, right))
    return Shape(cut[window], mark[window], (top, left), size)


def softness(size_hw: tuple[int, int]) -> int:
    """Width in pixels of the edge over which one picture passes into the other."""
    return max(_SOFTEST, min(size_hw) // _SIDES_OF_SOFTNESS)


def best_corner(host: Pixels, donor: Pixels, shape: Shape, corners: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Of some corners the one around which the host (H, W, C) looks most like the donor around the shape.

    So a scratch of a part lands on a part, not beside it, and a part's edge meets an edge.
    """
    size = 2 * softness(shape.size_hw) + 1
    hosts, donors = (cv2.blur(one, (size, size)).reshape(one.shape).astype(np.int16) for one in (host, donor))
    around = 1 - _opacity(shape.cut, softness(shape.size_hw))
    seen = donors[_window(shape, shape.corner_yx)]
    unlike = [float((np.abs(hosts[_window(shape, corner)] - seen).mean(axis=2) * around).sum()) for corner in corners]
    return corners[int(np.argmin(unlike))]


def paste(
    host: Pixels, donor: Pixels, shape: Shape, corner_yx: tuple[int, int], strength: float = 1.0
) -> tuple[Pixels, BoolMask]:
    """The host (H, W, C) with the donor's pixels inside shape.cut laid at a corner, and shape.mark there as (H, W).

    strength: opacity of the piece, in (0, 1]. Beyond `shape` nothing of the host changes.
    """
    there = _window(shape, corner_yx)
    under, over = host[there].astype(np.float32), donor[_window(shape, shape.corner_yx)].astype(np.float32)
    opacity = _opacity(shape.cut, softness(shape.size_hw))
    over = over + _brightness_between(under, over, opacity)
    pixels = host.copy()
    mixed = _mixed(under, over, np.float32(strength) * opacity[:, :, None])
    pixels[there] = np.clip(np.round(mixed), 0, 255).astype(np.uint8)
    mask = np.zeros(host.shape[:2], np.bool_)
    mask[there] = shape.mark
    return pixels, mask


def _window(shape: Shape, corner_yx: tuple[int, int]) -> tuple[slice, slice]:
    (top, left), (high, wide) = corner_yx, shape.cut.shape
    return slice(top, top + high), slice(left, left + wide)


def _opacity(cut: BoolMask, soft: int) -> Field:
    """1 inside, falling to 0 over `soft` pixels outside, (h, w)."""
    away = cv2.distanceTransform((~cut).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.clip(1 - away / (soft + 1), 0, 1), np.float32)


def _brightness_between(under: Field, over: Field, opacity: Field) -> Field:
    """How much brighter the new surroundings are than the old, (h, w, C), carried smoothly into the piece."""
    deepest = cv2.distanceTransform((opacity > 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max()
    size = 2 * int(min(deepest, max(opacity.shape))) + 9
    outside = np.float32(1) - opacity
    difference, weight = (under - over) * outside[:, :, None], outside
    # Twice a box: seen from every pixel there is some of the surroundings, and the field has no steps.
    for _ in range(2):
        difference = cv2.blur(difference, (size, size)).reshape(under.shape)
        weight = cv2.blur(weight, (size, size))
    return np.asarray(difference / np.maximum(weight, 1e-6)[:, :, None], np.float32)


def _mixed(under: Field, over: Field, opacity: Field) -> Field:
    """Weighted mean of two pictures, its grain as strong as theirs: a plain mean would be smoother, a seam to see."""
    smooth_under, smooth_over = (cv2.GaussianBlur(one, (0, 0), _GRAIN).reshape(one.shape) for one in (under, over))
    grain = (1 - opacity) * (under - smooth_under) + opacity * (over - smooth_over)
    strength = np.sqrt((1 - opacity) ** 2 + opacity**2)
    return np.asarray((1 - opacity) * smooth_under + opacity * smooth_over + grain / strength, np.float32)
