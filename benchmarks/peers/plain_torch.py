"""The plain PyTorch inference of the method as its authors do it: FP32, NCHW, nn.Conv2d, FeatureNorm by its formula,
resize and /255 outside, one picture at a time. Written from the published description; imports nothing of the package.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
import torch
from serve import Judge, Picture, serve
from torch import Tensor, nn

TRUNK = ("block", "pool", "block", "block", "block", "pool", "block", "block", "block", "block", "pool", "block")
EXTRACTOR = ("pool", "block", "pool", "block", "pool", "block")


class FeatureNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)
        std = x.std(dim=(2, 3), keepdim=True)
        return self.scale * (x - mean) / torch.sqrt(std + 0.001) + self.bias


def convolution(weights: Mapping[str, Tensor], key: str) -> nn.Conv2d:
    """As wide as the weights are."""
    outside, inside, kernel, _ = weights[key].shape
    return nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False)


def layers(kinds: tuple[str, ...], weights: Mapping[str, Tensor], name: str) -> nn.Sequential:
    made = nn.Sequential()
    for place, kind in enumerate(kinds):
        if kind == "pool":
            made.append(nn.MaxPool2d(2))
        else:
            conv = convolution(weights, f"{name}.{place}.0.weight")
            made.append(nn.Sequential(conv, FeatureNorm(conv.out_channels), nn.ReLU(inplace=True)))
    return made


class SegDecNet(nn.Module):
    """(B, C, H, W) in [0, 1] → decision logits (B, 1) and segmentation logits (B, 1, H/8, W/8)."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.volume = layers(TRUNK, weights, "volume")
        self.seg_mask = nn.Sequential(convolution(weights, "seg_mask.0.weight"), FeatureNorm(1))
        self.extractor = layers(EXTRACTOR, weights, "extractor")
        self.fc = nn.Linear(weights["fc.weight"].shape[1], 1)
        self.load_state_dict(dict(weights))
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        volume = self.volume(x)
        segmentation = self.seg_mask(volume)
        features = self.extractor(torch.cat([volume, segmentation], dim=1))
        seen = [
            features.amax(dim=(2, 3)),
            features.mean(dim=(2, 3)),
            segmentation.amax(dim=(2, 3)),
            segmentation.mean(dim=(2, 3)),
        ]
        return self.fc(torch.cat(seen, dim=1)), segmentation


def weights_in(path: str) -> Mapping[str, Tensor]:
    """The weights of a checkpoint of ours or of the authors' implementation, by their published keys."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    return content.get("state_dict", content)


def prepared(picture: Picture, size_hw: tuple[int, int], channels: int) -> Tensor:
    """(1, C, H, W) float32 in [0, 1] from a picture of that many channels."""
    height, width = size_hw
    scaled = cv2.resize(picture, (width, height)).astype(np.float32) / 255
    return torch.from_numpy(scaled.reshape(height, width, channels).transpose(2, 0, 1)[None].copy())


def judge_with(net: Callable[[Tensor], tuple[Tensor, Tensor]], wanted: Mapping[str, Any]) -> Judge:
    size_hw, channels = tuple(wanted["size_hw"]), wanted["channels"]

    def judge(picture: Picture) -> tuple[float, float]:
        x = prepared(picture, size_hw, channels)
        start = time.perf_counter_ns()
        with torch.no_grad():
            decision, segmentation = net(x)
            score = torch.sigmoid(decision).item()
            torch.sigmoid(segmentation).numpy()
        return score, (time.perf_counter_ns() - start) / 1e6

    return judge


def open_peer(wanted: Mapping[str, Any]) -> tuple[Judge, Mapping[str, str]]:
    torch.set_num_threads(wanted["threads"])
    return judge_with(SegDecNet(weights_in(wanted["model"])), wanted), {"precision": "fp32"}


if __name__ == "__main__":
    serve(open_peer, "torch", "numpy", "opencv-python")
