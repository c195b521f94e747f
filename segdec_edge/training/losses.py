"""The dynamically balanced loss of both stages. Knows no network and no sampler."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from segdec_edge.errors import TrainingError

Target = Literal["mask", "label"]


def segmentation_loss(logits: Tensor, mask: Tensor, weights: Tensor, has_mask: Tensor | None = None) -> Tensor:
    """Mean over all pixels of binary cross-entropy × weight, scalar, float32 or float64 as the logits.

    logits, mask in [0, 1] and weights (B, 1, h, w). has_mask (B,) bool: pictures without one contribute nothing.
    Raises TrainingError where the shapes differ. Source: Božič et al. 2020, eq. 3.
    """
    if not logits.shape == mask.shape == weights.shape:
        raise TrainingError(
            f"segmentation logits {tuple(logits.shape)}, mask {tuple(mask.shape)} and weights {tuple(weights.shape)},"
            " wanted (B, 1, h, w) of each. Reduce mask and weights with reduce_to_eighth."
        )
    values = _precise(logits)
    pixelwise = functional.binary_cross_entropy_with_logits(values, mask.to(values), reduction="none")
    pixelwise = pixelwise * weights.to(values)
    if has_mask is not None:
        pixelwise = pixelwise * has_mask.view(-1, 1, 1, 1)
    return pixelwise.mean()


def decision_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy of decision logits (B, 1) against targets (B,) in [0, 1], scalar as above."""
    values = _precise(logits).flatten()
    return functional.binary_cross_entropy_with_logits(values, target.to(values))


def mask_target(mask: Tensor) -> Tensor:
    """The soft decision target of the authors' implementation: the maximum of the reduced mask, (B, 1, h, w) → (B,)."""
    return mask.flatten(1).amax(dim=1)


def balance(epoch: int, epochs: int, delta: float, *, balanced: bool = True) -> tuple[float, float]:
    """Factors of the segmentation and the decision loss: (λ, δ·(1 − λ)), λ = 1 − epoch / epochs, epoch from 0.

    With balanced=False: (1, δ). Source: Božič et al. 2020, eq. 1 and 2.
    """
    if not balanced:
        return 1.0, delta
    mixing = 1.0 - epoch / epochs
    return mixing, delta * (1.0 - mixing)


def separate_balance(epoch: int, epochs: int, delta: float) -> tuple[float, float]:
    """Factors of the two losses in the separate scheme: segmentation alone for `epochs`, then the decision alone."""
    return (1.0, 0.0) if epoch < epochs else (0.0, delta)


def _precise(logits: Tensor) -> Tensor:
    """At least float32: autocast hands over half precision."""
    return logits if logits.dtype == torch.float64 else logits.float()


def is_runaway(loss: Tensor, w_pos: float) -> bool:
    """Whether a loss is not finite, or so large that training has left the road: a thousand times the untrained one."""
    value = float(loss.detach())
    return not math.isfinite(value) or value > 1000.0 * max(1.0, w_pos)
