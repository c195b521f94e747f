"""A SegDecNet as a list of plain layers: what fold and compress change. Knows no file format and no framework.

pixels ─► (standardise) ─► trunk ─► segmentation ─► heat map
                             └───── concat ◄──┘
                                       └─► decision ─► max, mean ─► fc ─► score
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Standardise:
    """Give every picture the mean and standard deviation (over its pixels, values in [0, 1]) of the training ones."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class Conv:
    """Stride 1, zero 'same' padding. weight (out, in, kh, kw), both kernel sides odd; bias (out,) or None."""

    name: str
    weight: Array
    bias: Array | None = None


@dataclass(frozen=True)
class Norm:
    """FeatureNorm: scale · (x − mean) / sqrt(std + 0.001) + bias, over H×W; scale and bias (channels,)."""

    name: str
    scale: Array
    bias: Array


@dataclass(frozen=True)
class Relu:
    pass


@dataclass(frozen=True)
class Pool:
    """Maximum over 2×2, stride 2, floor."""


Layer: TypeAlias = Conv | Norm | Relu | Pool


@dataclass(frozen=True)
class Network:
    """trunk: pixels to the volume; segmentation: volume to one channel of logits; decision: both to the last features.

    fc_weight (1, 2 · features + 2) and fc_bias (1,): on [max, mean of the features, max, mean of the segmentation].
    """

    channels: int
    trunk: tuple[Layer, ...]
    segmentation: tuple[Layer, ...]
    decision: tuple[Layer, ...]
    fc_weight: Array
    fc_bias: Array
    standardise: Standardise | None = None

    def layers(self) -> Iterator[Layer]:
        yield from (*self.trunk, *self.segmentation, *self.decision)

    @property
    def convs(self) -> tuple[Conv, ...]:
        return tuple(layer for layer in self.layers() if isinstance(layer, Conv))

    @property
    def norms(self) -> tuple[Norm, ...]:
        return tuple(layer for layer in self.layers() if isinstance(layer, Norm))

    def conv(self, name: str) -> Conv:
        return next(conv for conv in self.convs if conv.name == name)

    def exchanged(self, name: str, *new: Layer) -> Network:
        """The same network with other layers in the place of the named convolution or norm."""

        def exchange(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
            found: list[Layer] = []
            for layer in layers:
                found.extend(new if getattr(layer, "name", None) == name else (layer,))
            return tuple(found)

        return replace(
            self,
            trunk=exchange(self.trunk),
            segmentation=exchange(self.segmentation),
            decision=exchange(self.decision),
        )


def after(layers: Sequence[Layer], size_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width behind these layers."""
    height, width = size_hw
    for _ in (layer for layer in layers if isinstance(layer, Pool)):
        height, width = height // 2, width // 2
    return height, width


def operations(network: Network, size_hw: tuple[int, int]) -> dict[str, int]:
    """Floating point operations (2 a multiply-add) of each convolution for one picture of this size, by name."""
    eighth_hw = after(network.trunk, size_hw)
    parts = ((network.trunk, size_hw), (network.segmentation, eighth_hw), (network.decision, eighth_hw))
    return {
        layer.name: 2 * layer.weight.size * math.prod(after(layers[:index], start_hw))
        for layers, start_hw in parts
        for index, layer in enumerate(layers)
        if isinstance(layer, Conv)
    }


def float32(values: Any) -> Array:
    """The values as a contiguous float32 array of their own: what a file's bytes are seen through cannot be written."""
    return np.array(values, np.float32, order="C")
