"""Where the pixels are that decide: defects are a thousandth of all pixels, and energy alone would not see them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from segdec_edge.deploy.network import Network
from segdec_edge.deploy.torch_network import TorchNetwork, planes_of
from segdec_edge.types import Pixels

_AROUND = 5
"""Pixels of the heat map: what a defect's edge looks like counts too."""


def attention_of(network: Network, pixels: Pixels) -> list[Tensor]:
    """A weight for each pixel of the heat map, (1, 1, h, w) a picture: 1 everywhere, and as much again for all defects.

    pixels (N, H, W, C) uint8. Where the network's heat map is high, and around it, weights are so much larger that
    defects and everything else weigh the same over all the pictures.
    """
    net = TorchNetwork(network)
    with torch.inference_mode():
        heats = [net(planes_of(one[None]))[1].sigmoid() for one in pixels]
        wide = [functional.max_pool2d(one, _AROUND, 1, _AROUND // 2) for one in heats]
        factor = sum(one.numel() for one in wide) / max(sum(float(one.sum()) for one in wide), 1e-6)
        return [1 + factor * one for one in wide]


def at_size_of(weights: Tensor, values: Tensor) -> Tensor:
    """The weights (1, 1, h, w) at the height and width of values (1, C, H, W), as (H · W,)."""
    return functional.interpolate(weights, values.shape[2:], mode="nearest").flatten()
