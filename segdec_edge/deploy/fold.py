"""FeatureNorm replaced by constants measured on training pictures, which then vanish into the convolutions.

FeatureNorm asks every picture for its own mean and deviation at every layer: no fusion with the convolution, no DLA,
and two more passes over memory. A folded network is Conv + bias + ReLU. What it loses is that it no longer adapts to
the picture's brightness and contrast; one standardisation of the pixels at the head gives back most of that.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch

from segdec_edge.deploy.network import Conv, Layer, Network, Norm, Standardise, float32
from segdec_edge.deploy.torch_network import planes_of
from segdec_edge.deploy.walk import Progress, States, rebuilt
from segdec_edge.types import Pixels

_EPSILON = 1e-3
_CONSTANT = 1e-10
"""Of the mean square: a channel whose variance is below is taken for constant."""


def standardisation_of(pixels: Pixels) -> Standardise:
    """Mean over the pictures of their mean and of their standard deviation; pixels (N, H, W, C) uint8."""
    each = [torch.std_mean(planes_of(one[None]), correction=0) for one in pixels]
    deviation, mean = (float(torch.stack(values).mean()) for values in zip(*each, strict=True))
    return Standardise(mean, deviation)


def folded(
    network: Network,
    pixels: Pixels,
    *,
    standardise: Standardise | None = None,
    keep: Collection[str] = (),
    recalibrate: bool = True,
    progress: Progress | None = None,
) -> Network:
    """The network with constants in the place of its norms, but for the norms of the convolutions named in `keep`.

    pixels (N, H, W, C) uint8, training pictures. recalibrate: the constants of each layer are the line that comes
    nearest to what the unfolded network has there, by least squares, given what the folded layers before it make of the
    pictures. Without it they are the pictures' mean statistics. standardise: at the head of the graph; None for none.
    """

    def fit(unit: tuple[Layer, ...], given: States, wanted: States) -> tuple[Layer, ...]:
        match unit:
            case (Conv() as conv, Norm() as norm) if conv.name not in keep:
                pass
            case _:
                return unit
        before = given.behind([conv])
        gain, offset = _line(before, wanted) if recalibrate else _mean_statistics(norm, before)
        return (_scaled(conv, gain, offset),)

    return rebuilt(network, replace(network, standardise=standardise), pixels, fit, progress)


def _line(before: States, wanted: States) -> tuple[torch.Tensor, torch.Tensor]:
    """Slope and intercept a channel, by least squares over all pictures and pixels."""
    count, sums = 0, [torch.zeros(1, dtype=torch.float64) for _ in range(4)]
    for x, y in zip(before, wanted, strict=True):
        wide_x, wide_y = x.double(), y.double()
        count += wide_x[0, 0].numel()
        values = (wide_x, wide_y, wide_x * wide_x, wide_x * wide_y)
        sums = [total + one.sum(dim=(0, 2, 3)) for total, one in zip(sums, values, strict=True)]
    mean_x, mean_y, mean_xx, mean_xy = (total / count for total in sums)
    variance = mean_xx - mean_x.square()
    moves = variance > _CONSTANT * mean_xx  # else both variance and covariance are rounding, and so would the slope be
    slope = torch.where(moves, (mean_xy - mean_x * mean_y) / variance, torch.zeros_like(variance))
    return slope, mean_y - slope * mean_x


def _mean_statistics(norm: Norm, before: States) -> tuple[torch.Tensor, torch.Tensor]:
    statistics = [torch.std_mean(one.double(), dim=(0, 2, 3)) for one in before]
    deviation, mean = (torch.stack(values).mean(dim=0) for values in zip(*statistics, strict=True))
    gain = torch.from_numpy(norm.scale) / (deviation + _EPSILON).sqrt()
    return gain, torch.from_numpy(norm.bias) - mean * gain


def _scaled(conv: Conv, gain: torch.Tensor, offset: torch.Tensor) -> Conv:
    bias = offset if conv.bias is None else offset + torch.from_numpy(conv.bias) * gain
    return replace(conv, weight=float32(conv.weight * gain.view(-1, 1, 1, 1).numpy()), bias=float32(bias.numpy()))
