"""A Network that torch runs: for measuring statistics and for fine-tuning. Knows no file and no data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from segdec_edge.deploy.graph_write import DARKEST_DEVIATION
from segdec_edge.deploy.network import Array, Conv, Layer, Network, Norm, Pool, Relu, Standardise, float32
from segdec_edge.model.convolution import same_convolution
from segdec_edge.model.norm import feature_norm
from segdec_edge.types import Pixels

Tensors: TypeAlias = Mapping[str, Tensor]


def planes_of(pixels: Pixels) -> Tensor:
    """pixels (N, H, W, C) uint8 → (N, C, H, W) float32 in [0, 1], channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255


def standardised(x: Tensor, wanted: Standardise | None) -> Tensor:
    """Each picture of x (N, C, H, W) with the wanted mean and deviation; x itself where None is wanted."""
    if wanted is None:
        return x
    deviation, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True, correction=0)
    return (x - mean) * (wanted.deviation / deviation.clamp_min(DARKEST_DEVIATION)) + wanted.mean


def run(layers: Iterable[Layer], x: Tensor) -> Tensor:
    """x (N, C, H, W) through the layers."""
    for layer in layers:
        x = _step(layer, x, _tensors(layer))
    return x


class TorchNetwork(nn.Module):
    """The layers of a network with their weights as parameters; network() gives them back as they are then."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.plan = network
        self.trunk = nn.Sequential(*map(_Trainable, network.trunk))
        self.segmentation = nn.Sequential(*map(_Trainable, network.segmentation))
        self.decision = nn.Sequential(*map(_Trainable, network.decision))
        self.fc_weight = nn.Parameter(torch.tensor(network.fc_weight))
        self.fc_bias = nn.Parameter(torch.tensor(network.fc_bias))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, C, H, W) in [0, 1] → decision logits (N, 1), segmentation logits (N, 1, h, w)."""
        volume = self.trunk(standardised(x, self.plan.standardise))
        segmentation = self.segmentation(volume)
        features = self.decision(torch.cat([volume, segmentation], dim=1))
        pooled = [
            features.amax(dim=(2, 3)), features.mean(dim=(2, 3)),
            segmentation.amax(dim=(2, 3)), segmentation.mean(dim=(2, 3)),
        ]  # fmt: skip
        joined = torch.cat(pooled, dim=1).to(self.fc_weight.dtype)
        with torch.autocast(x.device.type, enabled=False):  # 8 bits of mantissa in the score would tie pictures
            return functional.linear(joined, self.fc_weight, self.fc_bias), segmentation

    def network(self) -> Network:
        """The layers with the weights that they have now."""
        return replace(
            self.plan,
            trunk=_layers_now(self.trunk),
            segmentation=_layers_now(self.segmentation),
            decision=_layers_now(self.decision),
            fc_weight=_array(self.fc_weight),
            fc_bias=_array(self.fc_bias),
        )


class _Trainable(nn.Module):
    """One layer; its weights are parameters."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self._layer = layer
        self.values = nn.ParameterDict({key: nn.Parameter(one.clone()) for key, one in _tensors(layer).items()})

    def forward(self, x: Tensor) -> Tensor:
        return _step(self._layer, x, dict(self.values.items()))

    def layer_now(self) -> Layer:
        now = {key: _array(one) for key, one in self.values.items()}
        match self._layer:
            case Conv():
                return replace(self._layer, weight=now["weight"], bias=now.get("bias"))
            case Norm():
                return replace(self._layer, scale=now["scale"], bias=now["bias"])
            case _:
                return self._layer


def _layers_now(part: nn.Sequential) -> tuple[Layer, ...]:
    return tuple(one.layer_now() for one in part if isinstance(one, _Trainable))


def _tensors(layer: Layer) -> Tensors:
    """A layer's weights by the names of its fields; they share its memory."""
    match layer:
        case Conv(weight=weight, bias=bias):
            arrays = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        case Norm(scale=scale, bias=bias):
            arrays = {"scale": scale, "bias": bias}
        case _:
            arrays = {}
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


def _step(layer: Layer, x: Tensor, values: Tensors) -> Tensor:
    match layer:
        case Conv():
            return same_convolution(x, values["weight"], values.get("bias"))
        case Norm():
            scale, bias = (values[key].view(1, -1, 1, 1) for key in ("scale", "bias"))
            return feature_norm(x, scale, bias)
        case Relu():
            return functional.relu(x)
        case Pool():
            return functional.max_pool2d(x, 2)


def _array(parameter: Tensor) -> Array:
    return float32(parameter.detach().cpu().numpy())
