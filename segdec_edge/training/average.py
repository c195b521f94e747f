"""The mean of a network's weights over the last epochs. Knows no file and no loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class TailAverage:
    """Running mean of a state_dict, kept in float64 on the CPU; count is how many epochs are in it.

    At a constant rate the weights circle around a minimum; their mean lies nearer to it than the last of them.
    FeatureNorm has no running statistics, so the mean needs no pass over the pictures.
    Source: Izmailov et al. 2018, Averaging weights leads to wider optima.
    """

    def __init__(self, mean: Mapping[str, Tensor] | None = None, count: int = 0) -> None:
        self.mean, self.count = {key: value.double() for key, value in (mean or {}).items()}, count

    def add(self, net: nn.Module) -> None:
        self.count += 1
        for key, value in net.state_dict().items():
            latest = value.detach().cpu().double()
            before = self.mean.get(key)
            self.mean[key] = latest if before is None else before + (latest - before) / self.count

    def load_into(self, net: nn.Module) -> None:
        """Put the mean into a network of the same shape."""
        net.load_state_dict({key: value.to(torch.float32) for key, value in self.mean.items()}, strict=True)
