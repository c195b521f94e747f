"""Fine-tuning by distillation: a changed network learns to give the logits that the original gives. Needs no label.

Plain training after folding diverges or forgets (KolektorSDD fold 0: SGD at 0.1 diverges, at 0.002 AP falls to 0.78).
The original's logits on training pictures say more than the labels do, and small steps of Adam towards them repair what
folding and factorising lost. Each picture comes with another brightness and contrast each time, but with the logits of
the picture as it is: what FeatureNorm did by itself, a folded network has to learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from segdec_edge.deploy.network import Network, float32
from segdec_edge.deploy.operating_point import operating_point
from segdec_edge.deploy.torch_network import TorchNetwork, planes_of
from segdec_edge.errors import TrainingError
from segdec_edge.training.setup import auto_precision
from segdec_edge.types import Pixels

StepProgress = Callable[[int, int, float], None]
"""Called with (steps done, steps in all, loss, smoothed over some 50 steps)."""


@dataclass(frozen=True)
class Targets:
    """What the original says of each picture: decision logits (N,), segmentation logits (N, h, w), all float32."""

    decision: NDArray[np.float32]
    segmentation: NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """steps of one picture each; rate: of Adam at its peak, warmed up and cooled down; brightness in grey values of
    [0, 1] and contrast as a factor's logarithm: standard deviations of what is done to the pictures."""

    steps: int = 600
    rate: float = 3e-4
    brightness: float = 0.05
    contrast: float = 0.15
    seed: int = 0


DEFAULT = Recipe()
NONE = Recipe(steps=0)
_DECISION, _SEGMENTATION = 1.0, 0.3
_DEFECTS = 20.0
_EVERY_SECOND = 2
_SMOOTH = 50
_ALIKE = 1e-3


def targets_of(network: Network, pixels: Pixels, progress: Callable[[int, int], None] | None = None) -> Targets:
    """The logits of a network on pixels (N, H, W, C) uint8."""
    teacher = _channels_last(network)
    decisions, segmentations = [], []
    with torch.inference_mode():
        for index, one in enumerate(pixels):
            decision, segmentation = teacher(planes_of(one[None]))
            decisions.append(decision[0, 0].item())
            segmentations.append(segmentation[0, 0].numpy())
            if progress is not None:
                progress(index + 1, len(pixels))
    return Targets(np.array(decisions, np.float32), np.stack(segmentations))


def distilled(
    network: Network,
    pixels: Pixels,
    defective: NDArray[np.bool_],
    targets: Targets,
    recipe: Recipe = DEFAULT,
    progress: StepProgress | None = None,
) -> Network:
    """The network after recipe.steps steps towards `targets`, on training pictures alone.

    pixels (N, H, W, C) uint8; defective (N,): every second step takes one of them, where there are any.
    Raises TrainingError where the loss is no number any more.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    student = _channels_last(network)
    optimiser = torch.optim.Adam(student.parameters(), lr=recipe.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=recipe.steps)
    fast = auto_precision(torch.device("cpu")) == "bf16"
    spread = float(np.var(targets.segmentation)) + 1e-6
    smooth = 0.0
    for step in range(recipe.steps):
        index = _draw(rng, defective, step)
        x = _lit(planes_of(pixels[index][None]), rng, recipe)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            decision, segmentation = student(x)
        loss = _loss(decision, segmentation, targets, index, spread)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"distillation diverged at step {step} of {recipe.steps}. Lower --rate {recipe.rate:g}."
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        smooth += (loss.item() - smooth) / min(step + 1, _SMOOTH)
        if progress is not None:
            progress(step + 1, recipe.steps, smooth)
    return student.network()


def aligned(network: Network, pixels: Pixels, defective: NDArray[np.bool_], targets: Targets) -> Network:
    """The network with its score's logit on a line: no order of scores changes, but the shipped threshold means again
    what it meant.

    Slope: of the line nearest to the targets, defective pictures and good ones weighing the same; pictures of one kind
    alone, or that all score alike, say nothing of it: scores are moved then, not stretched. Offset: so that the rule
    which picks thresholds picks the same one from these pictures for both networks; of one kind, the mean difference.
    """
    found = targets_of(network, pixels).decision.astype(np.float64)
    counts = np.where(defective, max(1, defective.sum()), max(1, (~defective).sum()))
    slope, offset = 1.0, float(np.mean(targets.decision - found))
    if defective.any() and not defective.all() and np.ptp(found) > _ALIKE:
        slope, offset = np.polyfit(found, targets.decision, 1, w=np.sqrt(1 / counts))
    if not (np.isfinite([slope, offset]).all() and slope > 0):
        return network
    if 0 < defective.sum() < len(defective):
        offset = operating_point(defective, targets.decision) - operating_point(defective, slope * found)
    bias = float32(slope * network.fc_bias + offset)
    return replace(network, fc_weight=float32(slope * network.fc_weight), fc_bias=bias)


def _draw(rng: np.random.Generator, defective: NDArray[np.bool_], step: int) -> int:
    kind = defective if step % _EVERY_SECOND == 0 else ~defective
    able = np.flatnonzero(kind)
    return int(rng.choice(able if len(able) else np.arange(len(defective))))


def _lit(x: Tensor, rng: np.random.Generator, recipe: Recipe) -> Tensor:
    gain, offset = np.exp(rng.normal(0, recipe.contrast)), rng.normal(0, recipe.brightness)
    return (x * float(gain) + float(offset)).clamp(0, 1)


def _loss(decision: Tensor, segmentation: Tensor, targets: Targets, index: int, spread: float) -> Tensor:
    wanted = torch.from_numpy(targets.segmentation[index])
    weights = 1 + _DEFECTS * wanted.sigmoid()
    apart = (weights * (segmentation[0, 0].float() - wanted).square()).mean() / spread
    wanted_decision = torch.tensor(targets.decision[index])
    return _DECISION * functional.smooth_l1_loss(decision[0, 0].float(), wanted_decision) + _SEGMENTATION * apart


def _channels_last(network: Network) -> TorchNetwork:
    made = TorchNetwork(network)
    made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return made
