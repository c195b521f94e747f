"""The method restated from its published description in plain operations, to compare the package with.

Imports nothing of the package. Slow and literal on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

BLOCKS = {
    "volume.0": (1, 32, 5),
    "volume.2": (32, 64, 5),
    "volume.3": (64, 64, 5),
    "volume.4": (64, 64, 5),
    "volume.6": (64, 64, 5),
    "volume.7": (64, 64, 5),
    "volume.8": (64, 64, 5),
    "volume.9": (64, 64, 5),
    "volume.11": (64, 1024, 15),
    "extractor.1": (1025, 8, 5),
    "extractor.3": (8, 16, 5),
    "extractor.5": (16, 32, 5),
}
"""Published blocks: key, channels in and out, kernel."""


def published_shapes(in_channels: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for key, (inside, outside, kernel) in BLOCKS.items():
        inside = in_channels if key == "volume.0" else inside
        shapes[f"{key}.0.weight"] = (outside, inside, kernel, kernel)
        shapes[f"{key}.1.scale"] = shapes[f"{key}.1.bias"] = (1, outside, 1, 1)
    shapes["seg_mask.0.weight"] = (1, 1024, 1, 1)
    shapes["seg_mask.1.scale"] = shapes["seg_mask.1.bias"] = (1, 1, 1, 1)
    return {**shapes, "fc.weight": (1, 66), "fc.bias": (1,)}


def plain_norm(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    pixels = x.shape[2] * x.shape[3]
    mean = x.sum(dim=(2, 3), keepdim=True) / pixels
    variance = ((x - mean) ** 2).sum(dim=(2, 3), keepdim=True) / (pixels - 1)
    return scale * (x - mean) / torch.sqrt(torch.sqrt(variance) + 0.001) + bias


def plain_segdecnet(weights: Mapping[str, Tensor], x: Tensor, *, stop: bool = False) -> tuple[Tensor, Tensor]:
    """Decision and segmentation logits as the table describes them, without a module; stop: the gradient stop."""

    def block(key: str, x: Tensor) -> Tensor:
        kernel = weights[f"{key}.0.weight"]
        x = functional.conv2d(x, kernel, stride=1, padding=kernel.shape[-1] // 2)
        return plain_norm(x, weights[f"{key}.1.scale"], weights[f"{key}.1.bias"]).clamp(min=0)

    def pool(x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 2, 2)

    volume = pool(block("volume.0", x))
    for key in ("volume.2", "volume.3", "volume.4"):
        volume = block(key, volume)
    volume = pool(volume)
    for key in ("volume.6", "volume.7", "volume.8", "volume.9"):
        volume = block(key, volume)
    volume = block("volume.11", pool(volume))
    logits = functional.conv2d(volume, weights["seg_mask.0.weight"])
    logits = plain_norm(logits, weights["seg_mask.1.scale"], weights["seg_mask.1.bias"])
    seen_logits = logits.detach() if stop else logits
    features = torch.cat([volume.detach() if stop else volume, seen_logits], dim=1)
    for key in ("extractor.1", "extractor.3", "extractor.5"):
        features = block(key, pool(features))
    whole_map = (2, 3)
    seen = [
        features.amax(dim=whole_map),
        features.mean(dim=whole_map),
        seen_logits.amax(dim=whole_map),
        seen_logits.mean(dim=whole_map),
    ]
    return torch.cat(seen, dim=1) @ weights["fc.weight"].T + weights["fc.bias"], logits


def plain_dilation(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Each defective pixel becomes an odd size × size square around it."""
    grown, reach = np.zeros_like(mask), size // 2
    for row, column in zip(*np.nonzero(mask), strict=True):
        grown[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = True
    return grown


def bilinear_matrix(out: int, inside: int) -> NDArray[np.float64]:
    """(out, in): the two source pixels whose centres lie around that of each resized pixel, by nearness."""
    matrix = np.zeros((out, inside))
    for index in range(out):
        at = (index + 0.5) * inside / out - 0.5
        low = math.floor(at)
        matrix[index, max(low, 0)] += 1 - (at - low)
        matrix[index, min(low + 1, inside - 1)] += at - low
    return matrix


def plain_resize(image: NDArray[np.generic], size_hw: tuple[int, int]) -> NDArray[np.float64]:
    rows, columns = (bilinear_matrix(out, inside) for out, inside in zip(size_hw, image.shape, strict=True))
    return np.asarray(rows @ image.astype(np.float64) @ columns.T)


def plain_regions(mask: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """The 8-connected regions as lists of pixels, by flood fill."""
    left, regions = {(int(row), int(column)) for row, column in np.argwhere(mask)}, []
    while left:
        region, front = [], [left.pop()]
        while front:
            row, column = front.pop()
            region.append((row, column))
            near = {(row + y, column + x) for y in (-1, 0, 1) for x in (-1, 0, 1)} & left
            left -= near
            front.extend(near)
        regions.append(region)
    return regions


def plain_weights(mask: NDArray[np.bool_], p: float, w_pos: float, per: str) -> NDArray[np.float64]:
    """w_pos · (d / d_max)^p inside a defect, 1 outside; d by comparing with every background pixel."""
    weights, background = np.ones(mask.shape), np.argwhere(~mask)
    distance = {
        (int(row), int(column)): math.sqrt(((background - (row, column)) ** 2).sum(axis=1).min())
        for row, column in np.argwhere(mask)
    }
    groups = plain_regions(mask) if per == "region" else [list(distance)]
    for group in groups:
        largest = max(distance[pixel] for pixel in group)
        for pixel in group:
            weights[pixel] = w_pos * (distance[pixel] / largest) ** p
    return weights


def plain_eighth(image: NDArray[np.generic]) -> NDArray[np.float64]:
    """Reflection pad 8, mean over 17×17, stride 8."""
    padded = np.pad(image.astype(np.float64), 8, mode="reflect")
    rows, columns = (side // 8 for side in image.shape)
    means = [
        padded[8 * row : 8 * row + 17, 8 * column : 8 * column + 17].mean()
        for row in range(rows)
        for column in range(columns)
    ]
    return np.array(means).reshape(rows, columns)


def plain_target(
    mask: NDArray[np.bool_], size_hw: tuple[int, int], *, dilate: int, p: float, w_pos: float, per: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mask and weight map at 1/8: dilated, then resized, every touched pixel defective, then weighted."""
    resized = plain_resize(plain_dilation(mask, dilate), size_hw) > 0
    return plain_eighth(resized), plain_eighth(plain_weights(resized, p, w_pos, per))


@dataclass(frozen=True)
class PlainPicture:
    """pixels (H, W, C) uint8 at training size; mask and weights (H/8, W/8), None where nobody annotated a defect."""

    pixels: NDArray[np.uint8]
    positive: bool
    mask: NDArray[np.float64] | None
    weights: NDArray[np.float64] | None


def plain_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return torch.clamp(logits, min=0) - logits * target + torch.log1p(torch.exp(-logits.abs()))


def plain_losses(
    weights: Mapping[str, Tensor], picture: PlainPicture, *, stop: bool, soft: bool
) -> tuple[Tensor, Tensor]:
    """Segmentation and decision loss of one picture; a defect without a mask has no segmentation loss, target 1."""
    # Division in float32, as any training does it: the comparison is of what follows.
    x = torch.from_numpy((picture.pixels.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)[None])
    decision, logits = plain_segdecnet(weights, x.to(weights["fc.bias"].dtype), stop=stop)
    if picture.mask is None or picture.weights is None:
        return logits.sum() * 0, plain_cross_entropy(decision, torch.ones_like(decision)).mean()
    mask, emphasis = (torch.from_numpy(one)[None, None] for one in (picture.mask, picture.weights))
    target = mask.max() if soft else torch.tensor(float(picture.positive))
    segmentation = (plain_cross_entropy(logits, mask) * emphasis).mean()
    return segmentation, plain_cross_entropy(decision, target).mean()


@dataclass(frozen=True)
class PlainStep:
    """Mean losses of a step's pictures, every gradient, and the weights after it."""

    segmentation: float
    decision: float
    total: float
    gradients: dict[str, Tensor]
    after: dict[str, Tensor]


def plain_step(
    weights: Mapping[str, Tensor],
    pictures: Sequence[PlainPicture],
    *,
    rate: float,
    factors: tuple[float, float],
    stop: bool,
    soft: bool,
    summed: bool,
) -> PlainStep:
    """One SGD step: single pictures whose gradients are added (summed), or of the mean of their losses."""
    leaves = {key: value.detach().clone().requires_grad_() for key, value in weights.items()}
    pairs = [plain_losses(leaves, picture, stop=stop, soft=soft) for picture in pictures]
    segmentation, decision = (torch.stack(part) for part in zip(*pairs, strict=True))
    total = factors[0] * segmentation + factors[1] * decision
    (total.sum() if summed else total.mean()).backward()  # type: ignore[no-untyped-call]
    gradients = {key: leaf.grad for key, leaf in leaves.items() if leaf.grad is not None}
    after = {key: leaf.detach() - rate * gradients[key] for key, leaf in leaves.items()}
    means = (float(part.detach().mean()) for part in (segmentation, decision, total))
    return PlainStep(*means, gradients, after)
