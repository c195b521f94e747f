"""One epoch of training, readable from top to bottom. Knows no file, no progress bar and no schedule of epochs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segdec_edge.config.train import TrainSettings
from segdec_edge.data.stream import Feed, announce, labels_of
from segdec_edge.data.targets import Example
from segdec_edge.errors import DivergedError
from segdec_edge.model.segdecnet import SegDecNet
from segdec_edge.training.augment import Augment
from segdec_edge.training.losses import (
    balance,
    decision_loss,
    is_runaway,
    mask_target,
    segmentation_loss,
    separate_balance,
)
from segdec_edge.training.parallel import ALONE, Ranks, Shared
from segdec_edge.training.sampling import Counts, epoch_order
from segdec_edge.training.setup import Hardware

StepDone = Callable[[int, int, float], None]
"""Called with (pictures done, pictures of this epoch, mean total loss so far)."""


@dataclass(frozen=True)
class EpochLosses:
    """Means over an epoch's pictures, unweighted parts and their weighted sum; images_per_s and seconds are
    of the steps alone."""

    segmentation: float
    decision: float
    total: float
    images_per_s: float
    seconds: float


class Trainer:
    """Steps of plain SGD (no momentum, no weight decay, constant rate), as published.

    Of several processes each draws the same order and takes its share of every batch; all end with the same weights.
    """

    def __init__(
        self, net: SegDecNet, examples: Feed, settings: TrainSettings, hardware: Hardware, ranks: Ranks = ALONE
    ) -> None:
        self._net, self._examples, self._settings, self._hardware = net, examples, settings, hardware
        self._ranks, self._shared = ranks, Shared(net, ranks, freezes=settings.scheme == "separate")
        self._augment = Augment(examples, settings)
        labels = labels_of(examples)
        self._positives, self._negatives = np.flatnonzero(labels), np.flatnonzero(~labels)
        self._optimizer = torch.optim.SGD(net.parameters(), lr=settings.rate)
        self.scaler = torch.amp.GradScaler(hardware.device.type, enabled=hardware.scale_gradients)
        self.use_counts: Counts = np.zeros(len(self._negatives), np.int64)

    def run_epoch(self, epoch: int, step_done: StepDone) -> EpochLosses:
        """Train one epoch (counted from 0). Its order depends on seed, epoch and use counts alone.

        Raises DivergedError where a loss is NaN or runs away, TrainingError where a kind of picture is missing.
        """
        settings = self._settings
        order, used = epoch_order(
            self._positives,
            self._negatives,
            self.use_counts,
            np.random.default_rng([settings.seed, epoch]),
            by_frequency=settings.frequency_sampling,
        )
        self._net.train()
        self._freeze_segmentation(self._settings.scheme == "separate" and epoch >= self._settings.epochs)
        batches = [order[first : first + settings.batch] for first in range(0, len(order), settings.batch)]
        mine_in_order = (int(index) for batch in batches for index in self._ranks.share(batch))
        announce(self._examples, (one for index in mine_in_order for one in self._augment.needs(index, epoch)))
        sums, done, mine = np.zeros(3), 0, 0
        started = time.perf_counter()
        for batch in batches:
            share = self._ranks.share(batch)
            sums += self._step([self._augment.example(int(i), epoch) for i in share], len(batch), epoch)
            done, mine = done + len(batch), mine + len(share)
            step_done(done, len(order), sums[2] / max(1, mine))
        self.use_counts = used
        segmentation, decision, total = (float(value) for value in self._ranks.sum(sums) / len(order))
        seconds = time.perf_counter() - started
        return EpochLosses(segmentation, decision, total, len(order) / seconds, seconds)

    def _freeze_segmentation(self, frozen: bool) -> None:
        for part in (self._net.volume, self._net.seg_mask):
            part.requires_grad_(not frozen).train(not frozen)

    def _step(self, examples: Sequence[Example], of: int, epoch: int) -> np.ndarray:
        """One update by a global batch of which these are this process's; returns their summed losses.

        The losses are (segmentation, decision, total).
        """
        self._optimizer.zero_grad(set_to_none=True)
        summed = self._settings.batch_mode == "summed"
        groups = [[example] for example in examples] if summed else [examples] if examples else []
        losses = np.zeros(3)
        for group in groups:
            share = 1.0 if summed else len(group) / of
            with nullcontext() if group is groups[-1] else self._shared.more_to_come():
                losses += self._backward(group, share, epoch) * len(group)
        if not groups:
            self.scaler.scale(self._shared.nothing()).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self._optimizer)
        self.scaler.update()
        return losses

    def _backward(self, examples: Sequence[Example], share: float, epoch: int) -> np.ndarray:
        settings, hardware = self._settings, self._hardware
        batch = hardware.batch(examples)
        with hardware.autocast():
            decision_logits, segmentation_logits = self._shared(batch.pixels)
        target = batch.label if settings.target == "label" else torch.maximum(mask_target(batch.mask), batch.unmasked)
        segmentation = segmentation_loss(segmentation_logits, batch.mask, batch.weights, batch.has_mask)
        decision = decision_loss(decision_logits, target)
        factors = self._factors(epoch)
        total = factors[0] * segmentation + factors[1] * decision
        self._refuse_runaway(total.detach(), segmentation.detach(), decision.detach(), epoch)
        self.scaler.scale(total * (share * self._shared.factor)).backward()  # type: ignore[no-untyped-call]
        return torch.stack([segmentation, decision, total]).detach().cpu().double().numpy()

    def _factors(self, epoch: int) -> tuple[float, float]:
        settings = self._settings
        if settings.scheme == "separate":
            return separate_balance(epoch, settings.epochs, settings.delta)
        return balance(epoch, settings.epochs, settings.delta, balanced=settings.balanced_loss)

    def _refuse_runaway(self, total: Tensor, segmentation: Tensor, decision: Tensor, epoch: int) -> None:
        settings = self._settings
        if not is_runaway(total, settings.w_pos):
            return
        lower_delta = not settings.gradient_stop and bool(decision > segmentation)
        advice = (
            f"Lower delta (now {settings.delta:g}), or set gradient_stop = true."
            if lower_delta
            else f"Lower rate (now {settings.rate:g}; try {settings.rate / 10:g})."
        )
        raise DivergedError(
            f"the loss is {float(total):.3g} in epoch {epoch + 1} (segmentation {float(segmentation):.3g}, decision"
            f" {float(decision):.3g}): training diverged. {advice} The last whole epoch's checkpoint is kept."
        )
