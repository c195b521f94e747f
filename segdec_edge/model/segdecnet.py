"""SegDecNet, the two-stage segmentation + decision network. Knows no loss, no data set and no file.

picture ─► volume (1/8, 1024 channels) ─► seg_mask ─► segmentation logits
                    └──────── concat ◄───────┘
                                 └─► extractor ─► max, mean ─► fc ─► decision logit
Source: Božič et al. 2020, figure 1; the names in the state_dict are those of the authors' implementation, so that its
checkpoints load.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from segdec_edge.errors import ModelError, SizeError
from segdec_edge.model.convolution import SameConv2d
from segdec_edge.model.norm import FeatureNorm

NormKind = Literal["feature", "batch"]
STRIDE = 8
_LAST_STRIDE = 64


class SegDecNet(nn.Module):
    """Decision and segmentation logits of a picture.

    in_channels: 1 (grey) or 3 (BGR). width scales every inner channel count; at 1.0 the network is the published one
    (15 637 213 parameters with one channel). norm: "feature" as published (statistics of the picture itself), or
    "batch" (running statistics, can be folded into the convolutions). gradient_stop: the decision part sends no
    gradient into the segmentation part.
    Raises ModelError on an unusable setting.
    """

    def __init__(
        self, in_channels: int = 1, width: float = 1.0, norm: NormKind = "feature", *, gradient_stop: bool = True
    ) -> None:
        super().__init__()
        if in_channels not in (1, 3):
            raise ModelError(f"in_channels is {in_channels}, wanted 1 (grey) or 3 (colour).")
        if not 0.0 < width <= 4.0:
            raise ModelError(f"width is {width}, wanted more than 0 and at most 4. The published network has 1.")
        if norm not in ("feature", "batch"):
            raise ModelError(f"norm is {norm!r}, wanted 'feature' (as published) or 'batch' (foldable).")
        self.in_channels, self.width, self.norm, self.gradient_stop = in_channels, width, norm, gradient_stop
        thin, wide, deep = (_scaled(channels, width) for channels in (32, 64, 1024))
        self.volume = nn.Sequential(
            _block(in_channels, thin, 5, norm),
            nn.MaxPool2d(2),
            _block(thin, wide, 5, norm),
            _block(wide, wide, 5, norm),
            _block(wide, wide, 5, norm),
            nn.MaxPool2d(2),
            *(_block(wide, wide, 5, norm) for _ in range(4)),
            nn.MaxPool2d(2),
            _block(wide, deep, 15, norm),
        )
        self.seg_mask = nn.Sequential(nn.Conv2d(deep, 1, 1, bias=False), _norm(1, norm))
        small, middle, last = (_scaled(channels, width) for channels in (8, 16, 32))
        self.extractor = nn.Sequential(
            nn.MaxPool2d(2),
            _block(deep + 1, small, 5, norm),
            nn.MaxPool2d(2),
            _block(small, middle, 5, norm),
            nn.MaxPool2d(2),
            _block(middle, last, 5, norm),
        )
        self.fc = nn.Linear(2 * last + 2, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W) float in [0, 1] → decision logits (B, 1), segmentation logits (B, 1, H/8, W/8).

        Raises ModelError on another number of channels or axes, SizeError where H or W cannot be taken, naming the
        nearest legal size.
        """
        if x.dim() != 4 or int(x.shape[1]) != self.in_channels:
            raise ModelError(
                f"input of shape {tuple(x.shape)}, wanted (B, {self.in_channels}, H, W). Convert it first."
            )
        check_size((int(x.shape[-2]), int(x.shape[-1])))
        volume = self.volume(x)
        segmentation = self.seg_mask(volume)
        seen, seen_segmentation = volume, segmentation
        if self.gradient_stop:
            seen, seen_segmentation = volume.detach(), segmentation.detach()
        features = self._features(seen, seen_segmentation)
        pooled = [
            features.amax(dim=(2, 3)),
            features.mean(dim=(2, 3)),
            seen_segmentation.amax(dim=(2, 3)),
            seen_segmentation.mean(dim=(2, 3)),
        ]
        with torch.autocast(x.device.type, enabled=False):  # 8 bits of mantissa in the score would tie pictures
            decision = self.fc(torch.cat(pooled, dim=1).to(self.fc.weight.dtype))
        return decision, segmentation

    def _features(self, volume: Tensor, segmentation: Tensor) -> Tensor:
        """The decision part's maps. In training each is pooled by itself, then joined: the same numbers 20 ms sooner,
        for 1025 joined channels are copied to another layout and pool one by one.
        """
        if not self.training:
            joined: Tensor = self.extractor(torch.cat([volume, segmentation], dim=1))
            return joined
        pool = self.extractor[0]
        features: Tensor = self.extractor[1:](torch.cat([pool(volume), pool(segmentation)], dim=1))
        return features


def check_size(size_hw: tuple[int, int]) -> None:
    """Raise SizeError unless H and W divide by 8 and the last feature map (floor of H/64 × W/64) has 2 elements."""
    height, width = size_hw
    legal = nearest_legal_size(size_hw)
    if legal != size_hw:
        raise SizeError(
            f"input size {height}x{width} (HxW) is not possible: both must divide by {STRIDE} and be at least"
            f" {_LAST_STRIDE}, one of them {2 * _LAST_STRIDE}. Nearest legal size: {legal[0]}x{legal[1]}."
        )


def nearest_legal_size(size_hw: tuple[int, int]) -> tuple[int, int]:
    """The legal input size (H, W) nearest to the asked one, each side rounded to the nearest multiple of 8."""
    height, width = (max(_LAST_STRIDE, STRIDE * round(side / STRIDE)) for side in size_hw)
    if (height // _LAST_STRIDE) * (width // _LAST_STRIDE) < 2:  # FeatureNorm over one element has no deviation: NaN
        return (2 * _LAST_STRIDE, width) if height >= width else (height, 2 * _LAST_STRIDE)
    return height, width


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def _norm(channels: int, norm: NormKind) -> nn.Module:
    return FeatureNorm(channels) if norm == "feature" else nn.BatchNorm2d(channels, eps=1e-3)


def _block(in_channels: int, out_channels: int, kernel: int, norm: NormKind) -> nn.Sequential:
    return nn.Sequential(
        SameConv2d(in_channels, out_channels, kernel), _norm(out_channels, norm), nn.ReLU(inplace=True)
    )
