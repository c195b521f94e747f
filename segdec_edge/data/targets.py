"""What one picture is trained against: its mask and loss weights at 1/8. Knows no loss and no network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segdec_edge.data.masks import Per, dilate, distance_weights, reduce_to_eighth, region_boxes, resize_mask
from segdec_edge.data.samples import Sample
from segdec_edge.errors import MaskError
from segdec_edge.pictures import prepare
from segdec_edge.types import BoolMask, Pixels

Target = tuple[NDArray[np.float32], NDArray[np.float32]]

MIRRORS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
"""Steps through rows and columns: as it is, left to right, upside down, both."""


@dataclass(frozen=True)
class TargetRule:
    """How masks become targets. boxes: each region's rotated rectangle first; dilate: by a square of so many pixels of
    the original picture; weighted: distance-transform weights, else 1 everywhere; flips: mirrored targets too."""

    size_hw: tuple[int, int]
    channels: int
    boxes: bool
    dilate: int
    weighted: bool
    p: float
    w_pos: float
    per: Per
    flips: bool = False


@dataclass(frozen=True)
class Example:
    """pixels (H, W, C) uint8; mask and weights (H/8, W/8) float32; has_mask False: nobody drew this defect, or nothing
    of it is left at this size.

    source_hw: the picture's size before it was prepared.
    mirrored: (mask, weights) of the picture turned as each of MIRRORS, empty where they are constant or not asked for.
    """

    name: str
    pixels: Pixels
    mask: NDArray[np.float32]
    weights: NDArray[np.float32]
    positive: bool
    has_mask: bool
    mirrored: tuple[Target, ...] = ()
    source_hw: tuple[int, int] = (0, 0)


def make_example(sample: Sample, rule: TargetRule, targets: tuple[Target, ...] | None = None) -> Example:
    """Read and prepare one sample. targets: what was made of its mask before; the mask is not read again then.

    Raises PictureError, and MaskError where mask and picture differ in size.
    """
    picture = sample.read()
    targets = targets or _targets(_read_mask(sample, picture), rule)
    pixels = prepare(picture, rule.size_hw, rule.channels)
    size = (int(picture.shape[0]), int(picture.shape[1]))
    has_mask = sample.has_mask and (not sample.positive or bool(targets[0][0].any()))
    plain = Example(sample.name, pixels, *targets[0], sample.positive, has_mask, source_hw=size)
    return with_targets(plain, targets)


def with_targets(example: Example, targets: tuple[Target, ...]) -> Example:
    return replace(example, mask=targets[0][0], weights=targets[0][1], mirrored=targets if len(targets) > 1 else ())


def plain_target(size_hw: tuple[int, int]) -> Target:
    """The target of a part without a mask: nothing is defective, every pixel weighs 1."""
    eighth = (size_hw[0] // 8, size_hw[1] // 8)
    return np.zeros(eighth, np.float32), np.ones(eighth, np.float32)


def _read_mask(sample: Sample, picture: Pixels) -> BoolMask | None:
    mask = sample.read_mask()
    if mask is not None and mask.shape != picture.shape[:2]:
        raise MaskError(
            f"{sample.name}: mask {mask.shape[0]}x{mask.shape[1]}, picture {picture.shape[0]}x{picture.shape[1]} (HxW),"
            " wanted the same size. Export the mask again at the picture's size."
        )
    return mask


def _targets(mask: BoolMask | None, rule: TargetRule) -> tuple[Target, ...]:
    """The target of the picture as it is, then, where it has a defect and flips are asked for, of all MIRRORS."""
    if mask is None or not mask.any():
        return (plain_target(rule.size_hw),)
    return targets_of(prepare_mask(mask, rule), rule)


def prepare_mask(mask: BoolMask, rule: TargetRule, *, as_drawn: bool = False) -> BoolMask:
    """A mask as annotated in the size of the prepared picture; unless as_drawn, boxed and dilated as the rule says."""
    if not as_drawn:
        mask = dilate(region_boxes(mask) if rule.boxes else mask, rule.dilate)
    return resize_mask(mask, rule.size_hw)


def targets_of(mask: BoolMask, rule: TargetRule) -> tuple[Target, ...]:
    """The target of a mask (H, W) that prepare_mask gave, then, where flips are asked for, of all MIRRORS of it."""
    mirrors = MIRRORS if rule.flips else MIRRORS[:1]
    if not mask.any():
        return (plain_target(rule.size_hw),) * len(mirrors)
    # Beyond the defect's surroundings everything is constant: to compute there too took five times as long.
    rows, columns = (_surroundings(np.flatnonzero(mask.any(axis=axis)), mask.shape[1 - axis]) for axis in (1, 0))
    near = mask[rows, columns]
    weights = distance_weights(near, rule.p, rule.w_pos, rule.per) if rule.weighted else np.ones(near.shape, np.float32)
    targets = []
    for y, x in mirrors:
        target = plain_target(rule.size_hw)
        there = _eighth(rows, mask.shape[0], y), _eighth(columns, mask.shape[1], x)
        # Mirrored before the reduction: its windows lie around every eighth pixel from the first, not symmetrically.
        for whole, part in zip(target, (near, weights), strict=True):
            whole[there] = reduce_to_eighth(part[::y, ::x])
        targets.append(target)
    return tuple(targets)


def _surroundings(touched: NDArray[np.int64], side: int) -> slice:
    """The touched of `side` rows and at least 16 more each way, where there are; both ends divide by 8."""
    return slice(max(0, int(touched[0]) // 8 * 8 - 16), min(side, int(touched[-1]) // 8 * 8 + 24))


def _eighth(part: slice, side: int, step: int) -> slice:
    first, last = (part.start, part.stop) if step > 0 else (side - part.stop, side - part.start)
    return slice(first // 8, last // 8)
