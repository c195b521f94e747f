from __future__ import annotations

import math

import pytest
import torch

from segdec_edge.errors import TrainingError
from segdec_edge.training.losses import balance, decision_loss, is_runaway, mask_target, segmentation_loss


def bce(logit: float, target: float) -> float:
    probability = 1 / (1 + math.exp(-logit))
    return -(target * math.log(probability) + (1 - target) * math.log(1 - probability))


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(2, 1, 4, 3, generator=generator)
    mask[1] = 0
    return {
        "decision_logits": torch.tensor([[1.5], [-0.5]]),
        "segmentation_logits": torch.randn(2, 1, 4, 3, generator=generator),
        "mask": mask,
        "weights": torch.rand(2, 1, 4, 3, generator=generator) * 3,
    }


def mixed_loss(
    decision_logits: torch.Tensor,
    segmentation_logits: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    *,
    epoch: int,
    epochs: int,
    delta: float,
    balanced: bool = True,
    target: torch.Tensor | None = None,
) -> torch.Tensor:
    """The loss of one batch, of the parts that the loop puts together."""
    factors = balance(epoch, epochs, delta, balanced=balanced)
    decision = decision_loss(decision_logits, mask_target(mask) if target is None else target)
    return factors[0] * segmentation_loss(segmentation_logits, mask, weights) + factors[1] * decision


def restated(batch: dict[str, torch.Tensor], mixing: float, decision_factor: float) -> float:
    pixels = [
        bce(logit, target) * weight
        for logit, target, weight in zip(
            batch["segmentation_logits"].flatten().tolist(),
            batch["mask"].flatten().tolist(),
            batch["weights"].flatten().tolist(),
            strict=True,
        )
    ]
    decisions = [
        bce(logit, float(mask.max()))
        for logit, mask in zip(batch["decision_logits"].flatten().tolist(), batch["mask"], strict=True)
    ]
    return mixing * sum(pixels) / len(pixels) + decision_factor * sum(decisions) / len(decisions)


@pytest.mark.parametrize("epoch", [0, 7, 34])
def test_total_loss_is_the_published_mixture(batch: dict[str, torch.Tensor], epoch: int) -> None:
    mixing = 1 - epoch / 35
    loss = mixed_loss(**batch, epoch=epoch, epochs=35, delta=0.01)
    assert float(loss) == pytest.approx(restated(batch, mixing, 0.01 * (1 - mixing)), rel=1e-5)


def test_without_balancing_both_losses_count_from_the_start(batch: dict[str, torch.Tensor]) -> None:
    loss = mixed_loss(**batch, epoch=3, epochs=35, delta=0.1, balanced=False)
    assert float(loss) == pytest.approx(restated(batch, 1.0, 0.1), rel=1e-5)


def test_balance_moves_from_segmentation_to_decision() -> None:
    assert balance(0, 50, 0.5) == (1.0, 0.0)
    assert balance(25, 50, 0.5) == (0.5, 0.25)


def test_the_label_replaces_the_soft_target(batch: dict[str, torch.Tensor]) -> None:
    hard = mixed_loss(**batch, epoch=1, epochs=2, delta=1, target=torch.tensor([1.0, 0.0]))
    soft = mixed_loss(**batch, epoch=1, epochs=2, delta=1)
    assert not torch.isclose(hard, soft)
    assert mask_target(batch["mask"])[1] == 0


def test_a_defect_without_a_mask_adds_no_segmentation_loss(batch: dict[str, torch.Tensor]) -> None:
    both = segmentation_loss(batch["segmentation_logits"], batch["mask"], batch["weights"])
    logits = batch["segmentation_logits"].clone().requires_grad_()
    only_second = segmentation_loss(logits, batch["mask"], batch["weights"], torch.tensor([False, True]))
    only_second.backward()
    assert float(only_second.detach()) < float(both)
    assert logits.grad is not None
    assert (logits.grad[0] == 0).all()
    assert (logits.grad[1] != 0).all()


def test_half_precision_logits_are_computed_in_float32(batch: dict[str, torch.Tensor]) -> None:
    batch["segmentation_logits"] = batch["segmentation_logits"].bfloat16()
    assert mixed_loss(**batch, epoch=1, epochs=2, delta=1).dtype == torch.float32


@pytest.mark.parametrize(("loss", "runaway"), [(0.7, False), (float("nan"), True), (float("inf"), True), (2e4, True)])
def test_a_runaway_loss_is_seen(loss: float, runaway: bool) -> None:
    assert is_runaway(torch.tensor(loss), w_pos=10.0) is runaway


def test_float64_stays_float64_and_its_gradient_is_right(batch: dict[str, torch.Tensor]) -> None:
    wide = {key: value.double() for key, value in batch.items()}
    logits = [wide.pop(key).requires_grad_() for key in ("decision_logits", "segmentation_logits")]
    assert torch.autograd.gradcheck(lambda a, b: mixed_loss(a, b, **wide, epoch=3, epochs=10, delta=0.5), logits)
    loss = mixed_loss(*logits, **wide, epoch=3, epochs=10, delta=0.5)
    assert float(loss.detach()) == pytest.approx(restated(batch, 0.7, 0.15), rel=1e-12)


@pytest.mark.parametrize("name", ["mask", "weights"])
def test_maps_of_another_shape_are_refused_not_broadcast(batch: dict[str, torch.Tensor], name: str) -> None:
    batch[name] = batch[name][:, 0]
    with pytest.raises(TrainingError, match=r"wanted \(B, 1, h, w\)"):
        mixed_loss(**batch, epoch=0, epochs=2, delta=1)
