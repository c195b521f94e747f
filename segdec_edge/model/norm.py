"""FeatureNorm: each channel of each picture by its own mean and the square root of its own standard deviation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

EPSILON = 1e-3


class FeatureNorm(nn.Module):
    """y = scale · (x − mean) / sqrt(std + 0.001) + bias, over H×W of each sample and channel.

    x (B, C, H, W) → same shape. std is unbiased. It divides by the root of the *standard deviation*: not instance norm.
    Reductions run in at least float32: n/(n − 1) and the sums overflow half precision above 65 504 pixels.
    Source: authors' implementation, see Božič et al. 2020.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and _is_single_on_cpu(x):
            return _SinglePictureNorm.apply(x, self.scale, self.bias)  # type: ignore[no-any-return,no-untyped-call]
        return feature_norm(x, self.scale, self.bias)


def feature_norm(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """FeatureNorm in plain operations: the reference, and the form that is exported.

    x (B, C, H, W); scale and bias (1, C, 1, 1).
    """
    wide = x if x.dtype == torch.float64 else x.float()
    deviation, mean = torch.std_mean(wide, dim=(2, 3), keepdim=True)
    gain = scale / (deviation + EPSILON).sqrt()
    return (wide * gain + (bias - mean * gain)).to(x.dtype)


def _is_single_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.shape[0] == 1 and x.dtype in (torch.float32, torch.bfloat16)


class _SinglePictureNorm(torch.autograd.Function):
    """feature_norm of one picture with a hand-written gradient.

    Autograd walks over a float32 copy of every activation about eight times. The gradient is g·A + x·B + C with
    constants per channel, so two sums and two passes do; batch_norm's inference kernel makes such a pass in bfloat16
    with float32 constants. benchmarks/train_step.py measures a training step with it, and with the wide convolution's
    own gradient, against the plain one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        deviation, mean = _deviation_and_mean(x)
        root = (deviation + EPSILON).rsqrt()
        gain = scale.flatten() * root
        ctx.save_for_backward(x, mean, deviation, root, gain)
        return _affine(x, gain, bias.flatten() - mean * gain)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, mean, deviation, root, gain = ctx.saved_tensors
        count = x.shape[2] * x.shape[3]
        ones = torch.ones_like(mean)
        # With inverse deviation 1 this kernel's "weight gradient" is Σ g·(x − mean), summed in float32.
        _, centred_sum, gradient_sum = torch.ops.aten.native_batch_norm_backward(
            gradient, x, ones, None, None, mean, ones, True, 0.0, [False, True, True]
        )
        slope = -0.5 * gain * root.square() / ((count - 1) * deviation) * centred_sum
        slope = torch.where(deviation > 0, slope, torch.zeros_like(slope))  # a constant channel: 0 / 0
        grad_x = _affine(gradient, gain, -gain * gradient_sum / count - slope * mean)
        grad_x += _affine(x, slope, torch.zeros_like(slope))
        shape = (1, -1, 1, 1)
        return grad_x, (root * centred_sum).view(shape), gradient_sum.view(shape)


def _deviation_and_mean(x: Tensor) -> tuple[Tensor, Tensor]:
    """Unbiased deviation and mean (C,) of each channel of one picture (1, C, H, W), float32.

    torch.std_mean walks a channels_last tensor slowly (38 ms for 32 channels of 704×256 on one core), batch_norm's
    statistics take 1.2 ms. They add up one number after the other, so each column is taken by itself first: sums of H
    numbers lose less, and a constant channel's deviation is 0.
    """
    _, channels, height, width = x.shape
    columns = x.permute(0, 2, 3, 1).reshape(1, height, 1, width * channels).permute(0, 3, 1, 2)
    scratch = torch.zeros(width * channels), torch.zeros(width * channels)  # float32, so that the result is too
    means, variances = (one.view(width, channels) for one in torch.batch_norm_update_stats(columns, *scratch, 0.0))
    mean = means.mean(dim=0)
    squares = variances.mean(dim=0) + (means - mean).square().mean(dim=0)
    count = height * width
    return (squares * (count / (count - 1))).sqrt(), mean


def _affine(x: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """x · gain + offset per channel, in one pass, at x's dtype with float32 constants."""
    return functional.batch_norm(x, torch.zeros_like(gain), torch.ones_like(gain), gain, offset, eps=0.0)
