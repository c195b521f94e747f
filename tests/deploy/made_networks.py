"""Pictures, and what a network as layers makes of them. No test of its own."""

from __future__ import annotations

import torch

from segdec_edge.deploy.network import Network
from segdec_edge.deploy.torch_network import TorchNetwork, planes_of
from tests.nets import textures

PIXELS = textures(4)


def logits(network: Network) -> torch.Tensor:
    with torch.inference_mode():
        decision, segmentation = TorchNetwork(network)(planes_of(PIXELS))
    return torch.cat([decision, segmentation.flatten(1)], dim=1)
