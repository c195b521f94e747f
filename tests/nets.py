"""Small networks and pictures that several rooms test with. Import: `from tests.nets import lively_net`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from segdec_edge.model.checkpoint import Checkpoint, save_checkpoint
from segdec_edge.model.segdecnet import NormKind, SegDecNet
from segdec_edge.types import Pixels

SIZE_HW = (128, 64)


def lively_net(
    in_channels: int = 1, width: float = 0.25, norm: NormKind = "feature", seed: int = 0, **settings: Any
) -> SegDecNet:
    """A SegDecNet in eval mode whose norms and scores differ from layer to layer and picture to picture."""
    torch.manual_seed(seed)
    net = SegDecNet(in_channels, width, norm, **settings)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(("scale", "1.weight")) and parameter.dim() in (1, 4) and "fc" not in name:
                parameter.uniform_(0.7, 1.4)
            elif name.endswith(("1.bias",)):
                parameter.uniform_(-0.3, 0.3)
        net.fc.weight.mul_(8)
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.uniform_(-0.2, 0.2)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return net.eval()


def save_net(path: Path, net: SegDecNet, **facts: Any) -> Path:
    """Write a checkpoint of a network that takes SIZE_HW. facts: further fields of Checkpoint."""
    save_checkpoint(path, Checkpoint(net=net, **{"size_hw": SIZE_HW, **facts}))
    return path


def textures(count: int, channels: int = 1, size_hw: tuple[int, int] = SIZE_HW, seed: int = 0) -> Pixels:
    """Pictures (N, H, W, C) uint8 of smooth noise, each of another brightness and contrast."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    coarse = rng.random((count, height // 8, width // 8, channels))
    noise = np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2) + 0.3 * rng.random((count, height, width, channels))
    gain = rng.uniform(60, 190, (count, 1, 1, 1))
    return np.clip(noise * gain, 0, 255).astype(np.uint8)
