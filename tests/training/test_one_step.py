"""One whole training step, from masks on to the weights after it, against the plain restatement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from segdec_edge.config.train import TrainSettings, train_settings
from segdec_edge.data.targets import Example, TargetRule, make_example
from segdec_edge.model.segdecnet import SegDecNet
from segdec_edge.training.loop import EpochLosses, Trainer
from segdec_edge.training.setup import Batch, Hardware
from segdec_edge.types import BoolMask, Pixels
from tests.nets import lively_net
from tests.restatement import PlainPicture, PlainStep, plain_resize, plain_step, plain_target

SIZE_HW = (128, 64)
FOUND = (150, 96)
EPOCH, EPOCHS, DELTA = 3, 8, 0.3
ONES = (np.zeros((16, 8)), np.ones((16, 8)))
WHOLE_EPOCH = 4
"""Two defective and two good pictures, and a batch of four: an epoch is one step, whatever is drawn in which order."""


class InDouble(Hardware):
    """The project's hardware, its pixels widened to float64 after they were divided."""

    def batch(self, examples: Sequence[Example]) -> Batch:
        batch = super().batch(examples)
        return replace(batch, pixels=batch.pixels.double())


class Part:
    """A sample in memory. mask: None for a good part, or for a defect that nobody drew."""

    path = None

    def __init__(self, seed: int, channels: int, *, positive: bool, mask: BoolMask | None = None) -> None:
        self.name = self.part = f"part{seed}"
        self.channels = channels
        self.positive, self.mask, self.has_mask = positive, mask, mask is not None or not positive
        self._seed = seed

    def read(self) -> Pixels:
        picture = np.random.default_rng(self._seed).normal(60 + 40 * self._seed, 20, FOUND)
        if self.mask is not None:
            picture[self.mask] += 60
        grey = picture.clip(0, 255).astype(np.uint8)
        return grey if self.channels == 1 else np.stack([grey, 255 - grey, np.roll(grey, 5)], axis=2)

    def read_mask(self) -> BoolMask | None:
        return self.mask


def parts(channels: int) -> list[Part]:
    mask = np.zeros(FOUND, bool)
    mask[60:66, 30:44] = True
    mask[130:, 90:] = True
    return [
        Part(0, channels, positive=False),
        Part(1, channels, positive=True, mask=mask),
        Part(2, channels, positive=True),
        Part(3, channels, positive=False),
    ]


def make_settings(**changes: Any) -> TrainSettings:
    values = {
        "data": "folder:none", "size_hw": SIZE_HW, "width": 0.25, "epochs": EPOCHS, "delta": DELTA, "rate": 0.2,
        "batch": WHOLE_EPOCH, "dilate": 3, "p": 2.0, "w_pos": 3.0, "precision": "fp32", "device": "cpu",
    }  # fmt: skip
    return train_settings({**values, **changes})


def examples(settings: TrainSettings) -> list[Example]:
    rule = TargetRule(
        size_hw=settings.size_hw, channels=settings.channels, boxes=settings.boxes, dilate=settings.dilate,
        weighted=settings.distance_weights, p=settings.p, w_pos=settings.w_pos, per=settings.distance_per,
    )  # fmt: skip
    return [make_example(part, rule) for part in parts(settings.channels)]


def restated(
    settings: TrainSettings, weights: dict[str, torch.Tensor], made: Sequence[Example], epoch: int
) -> PlainStep:
    """The same step from the same parts; of the package's own examples only the resized pixels are used."""
    mixing = 1 - epoch / EPOCHS
    return plain_step(
        weights,
        [restated_picture(*pair, settings) for pair in zip(parts(settings.channels), made, strict=True)],
        rate=settings.rate,
        factors=(mixing, DELTA * (1 - mixing)) if settings.balanced_loss else (1.0, DELTA),
        stop=settings.gradient_stop,
        soft=settings.target == "mask",
        summed=settings.batch_mode == "summed",
    )


def restated_picture(part: Part, example: Example, settings: TrainSettings) -> PlainPicture:
    picture = part.read().reshape(*FOUND, -1)
    for channel in range(settings.channels):
        assert np.abs(example.pixels[:, :, channel] - plain_resize(picture[:, :, channel], SIZE_HW)).max() < 1
    if not part.has_mask:
        return PlainPicture(example.pixels, part.positive, None, None)
    if part.mask is None:
        return PlainPicture(example.pixels, part.positive, *ONES)
    rule = {"dilate": settings.dilate, "p": settings.p, "w_pos": settings.w_pos}
    mask, emphasis = plain_target(part.mask, SIZE_HW, **rule, per=settings.distance_per)
    assert 0 < mask.max() < 1  # a soft target
    emphasis = emphasis if settings.distance_weights else ONES[1]
    # Kept in float32: decision gradients of several pictures nearly cancel, which would show the rounding.
    mask, emphasis = (one.astype(np.float32).astype(np.float64) for one in (mask, emphasis))
    return PlainPicture(example.pixels, part.positive, mask, emphasis)


def step(
    settings: TrainSettings, hardware: Hardware, dtype: torch.dtype, epoch: int = EPOCH, seed: int = 0
) -> tuple[SegDecNet, EpochLosses, PlainStep]:
    net = lively_net(settings.channels, settings.width, seed=seed, gradient_stop=settings.gradient_stop).to(dtype)
    made = examples(settings)
    wanted = restated(settings, {key: value.double() for key, value in net.state_dict().items()}, made, epoch)
    losses = Trainer(net, made, settings, hardware).run_epoch(epoch, lambda *_: None)
    return net, losses, wanted


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Relative, by norm; of zero, absolute."""
    return float((found.double() - wanted).norm() / (wanted.norm() or 1.0))


def furthest(net: SegDecNet, losses: EpochLosses, wanted: PlainStep) -> float:
    """The largest relative distance of any loss, gradient or updated weight from the restatement's."""
    parameters = dict(net.named_parameters())
    assert parameters.keys() == wanted.gradients.keys()
    found = [abs(getattr(losses, name) / getattr(wanted, name) - 1) for name in ("segmentation", "decision", "total")]
    for key, parameter in parameters.items():
        assert parameter.grad is not None, key
        found.append(distance(parameter.grad, wanted.gradients[key]))
        found.append(distance(parameter.detach(), wanted.after[key]))
    return max(found)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gradient_stop": False},
        {"target": "label"},
        {"balanced_loss": False, "distance_per": "image"},
        {"distance_weights": False},
        {"batch_mode": "mean", "dilate": 7},
        {"channels": 3, "gradient_stop": False, "channels_last": False},
    ],
    ids=["as published", "no stop", "hard target", "no balance", "no distance weights", "mean of the batch", "colour"],
)
def test_a_step_is_the_published_one(changes: dict[str, Any]) -> None:
    settings = make_settings(**changes)
    hardware = InDouble(torch.device("cpu"), "fp32", settings.channels_last)
    assert furthest(*step(settings, hardware, torch.float64)) < 1e-6


@pytest.mark.parametrize("epoch", [0, EPOCHS - 1])
def test_the_first_and_the_last_epoch(epoch: int) -> None:
    net, losses, wanted = step(make_settings(), InDouble(torch.device("cpu"), "fp32", True), torch.float64, epoch)
    assert furthest(net, losses, wanted) < 1e-6
    assert (float(wanted.gradients["fc.weight"].norm()) == 0) is (epoch == 0)


def test_a_step_of_the_full_network_is_the_published_one() -> None:
    settings = make_settings(width=1.0, gradient_stop=False)
    assert furthest(*step(settings, InDouble(torch.device("cpu"), "fp32", True), torch.float64)) < 1e-6


@pytest.mark.parametrize("stop", [True, False])
def test_a_step_in_float32_with_its_own_gradients_is_near(stop: bool) -> None:
    """Single pictures on CPU take hand-written gradients in float32, which no float64 step does.

    Rounding decides a ReLU beside zero or a tie of a maximum otherwise now and then, which moves all gradients before
    it by some 1e-2 (seed 0 here; seed 2 in a float32 restatement), not with each seed.
    """
    settings, hardware = make_settings(gradient_stop=stop), Hardware(torch.device("cpu"), "fp32", True)
    distances = [furthest(*step(settings, hardware, torch.float32, seed=seed)) for seed in range(3)]
    assert min(distances) < 1e-4
    assert max(distances) < 0.1
