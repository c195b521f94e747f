"""Training settings: the published presets, and what a user may change. Knows no data set's content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from segdec_edge.config.load import Settings, check
from segdec_edge.errors import ConfigError
from segdec_edge.files import from_home

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class TrainSettings(Settings):
    """Everything that shapes a training run; written beside its checkpoints. Sizes are (height, width) in pixels.

    The four components of the paper each have a switch: balanced_loss, gradient_stop, frequency_sampling,
    distance_weights.
    """

    data: str
    preset: str = "own"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1337

    fold: Annotated[int, Field(ge=0)] | None = None
    # Size of a published training set: KolektorSDD's item folders (33, 25, …, 5), else so many defective pictures
    # (Severstal's 3000, …, 300). None: all of it.
    items: Annotated[int, Field(ge=1)] | None = None
    splits: Annotated[Path, AfterValidator(from_home)] | None = None
    # Mixed supervision: so many defective training pictures keep their mask, drawn by seed; the others contribute the
    # decision loss alone. None: all of them.
    masks: Annotated[int, Field(ge=0)] | None = None
    validation: Share = 0.0
    test: Share = 0.3

    size_hw: tuple[int, int] = (512, 512)
    channels: Literal[1, 3] = 1
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    norm: Literal["feature", "batch"] = "feature"

    # "separate" is the earlier scheme: `epochs` of segmentation alone, then as many of the decision part on frozen
    # weights, twice the steps; delta weighs the decision loss there too.
    scheme: Literal["end-to-end", "separate"] = "end-to-end"
    epochs: Annotated[int, Field(ge=1)] = 50
    rate: Positive = 0.1
    delta: Positive = 0.1
    batch: Annotated[int, Field(ge=1)] = 1
    # Pictures a step, over all processes of a training together.
    # "summed": B single pictures, gradients added, as the authors run it (the effective rate grows with B);
    # "mean": one true batch, the mean of its losses.
    batch_mode: Literal["summed", "mean"] = "summed"
    balanced_loss: bool = True
    gradient_stop: bool = True
    frequency_sampling: bool = True
    distance_weights: bool = True

    boxes: bool = False
    dilate: Annotated[int, Field(ge=1)] = 1
    p: Annotated[float, Field(ge=0)] = 2.0
    w_pos: Positive = 1.0
    # "region" is the paper's text; the authors' release behind the published numbers had "image".
    distance_per: Literal["region", "image"] = "region"
    # "mask" (the maximum of the reduced mask, softer for small defects) is what produced the published numbers;
    # "label" is the paper's text.
    target: Literal["mask", "label"] = "mask"

    # Beyond the paper: mirrored pictures, and the mean of the weights after each of the last so many epochs.
    flips: bool = False
    # The chance that a defective picture is replaced by its defect laid on a good training picture; as often a good
    # picture gets a piece of another good one of a defect's outline, so that being pasted means nothing.
    paste: Annotated[float, Field(ge=0, le=1)] = 0.0
    average_epochs: Annotated[int, Field(ge=0)] = 0

    keep: Literal["last", "best"] = "last"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "auto"
    channels_last: bool = True
    # Memory for decoded pictures, shared by all processes of this machine; None: half of what is free at the start.
    # Pictures beyond it are decoded again by `workers` threads a process; None: as many as it has cores, at most 8.
    cache_gib: Annotated[float, Field(ge=0)] | None = None
    workers: Annotated[int, Field(ge=0, le=256)] | None = None
    tensorboard: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> TrainSettings:
        if self.preset not in PRESETS:
            raise ValueError(f"preset {self.preset!r}, wanted {', '.join(PRESETS)}.")
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} and test {self.test} leave nothing to train on. Lower one.")
        published = self.fold is not None or self.splits is not None
        if self.keep == "best" and self.validation == 0 and not published:
            raise ValueError("keep = 'best' needs a validation share above 0. Set validation, or keep = 'last'.")
        if self.validation > 0 and published:
            raise ValueError(f"validation {self.validation} has no effect on a published split. Set validation = 0.")
        if self.paste > 0 and self.masks == 0:
            raise ValueError(
                f"paste = {self.paste:g} cuts defects out by their masks, masks = 0 leaves none. Set one of them."
            )
        if self.average_epochs > 0 and self.keep == "best":
            raise ValueError(
                "average_epochs and keep = 'best' exclude each other. Set average_epochs = 0, or keep = 'last'."
            )
        if self.average_epochs > 0 and self.norm == "batch":
            raise ValueError("average_epochs averages no running statistics, wanted norm = 'feature'. Set one of them.")
        if self.average_epochs > self.epochs:
            there = "epochs there are" if self.scheme == "end-to-end" else "epochs that train the decision part"
            raise ValueError(f"average_epochs {self.average_epochs}, wanted at most the {self.epochs} {there}.")
        return self

    @property
    def total_epochs(self) -> int:
        """How many epochs run: the separate scheme has two stages of `epochs` each."""
        return 2 * self.epochs if self.scheme == "separate" else self.epochs


_KOLEKTOR: Mapping[str, Any] = {
    "size_hw": [1408, 512], "rate": 0.5, "delta": 0.01, "p": 2.0, "w_pos": 1.0, "dilate": 1, "boxes": True,
    "epochs": 35, "batch": 1,
}  # fmt: skip

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Mild settings for a user's own parts; dilation and w_pos as the successor paper's KolektorSDD2.
    "own": {"rate": 0.1, "delta": 0.1, "p": 2.0, "w_pos": 3.0, "dilate": 7, "epochs": 40, "batch": 1},
    "dagm": {
        "size_hw": [512, 512], "rate": 0.01, "delta": 1.0, "p": 1.0, "w_pos": 20.0, "dilate": 1, "epochs": 50,
        "batch": 5,
    },
    "kolektor": _KOLEKTOR,
    "severstal": {
        "size_hw": [256, 1600], "rate": 0.1, "delta": 0.1, "p": 2.0, "w_pos": 1.0, "dilate": 1, "epochs": 40,
        "batch": 10,
    },
    "dagm-comind": {
        "size_hw": [512, 512], "rate": 0.05, "delta": 1.0, "p": 1.0, "w_pos": 10.0, "dilate": 7, "epochs": 70,
        "batch": 1,
    },
    "kolektor-comind": {**_KOLEKTOR, "rate": 1.0, "dilate": 7, "boxes": False, "epochs": 50},
    "kolektor2-comind": {
        "size_hw": [640, 232], "channels": 3, "rate": 0.01, "delta": 1.0, "p": 2.0, "w_pos": 3.0, "dilate": 15,
        "epochs": 50, "batch": 1,
    },
}  # fmt: skip
"""Settings by name; ICPR paper without suffix, its journal successor with -comind (reference: both papers' tables)."""

KOLEKTOR_EPOCHS = {33: 35, 25: 40, 20: 50, 15: 70, 10: 90, 5: 150}
"""KolektorSDD epochs by number of item folders, so that the number of steps stays about the same (ICPR paper, IV-D)."""

SEVERSTAL_EPOCHS = {3000: 40, 1500: 50, 750: 70, 300: 90}
"""Severstal epochs by number of defective training pictures (ICPR paper, IV-E)."""

_EPOCHS_BY_ITEMS = {"kolektor": KOLEKTOR_EPOCHS, "severstal": SEVERSTAL_EPOCHS}


def train_settings(values: Mapping[str, Any], source: str = "settings") -> TrainSettings:
    """Lay values over their preset and check them. Raises ConfigError with one line per mistake."""
    name = values.get("preset", "own")
    preset = PRESETS.get(name) if isinstance(name, str) else None
    if preset is None:
        raise ConfigError(f"{source}: preset {name!r}, wanted {', '.join(PRESETS)}.")
    merged = {**preset, **values}
    by_items = _EPOCHS_BY_ITEMS.get(str(name), {})
    if "epochs" not in values and merged.get("items") in by_items:
        merged["epochs"] = by_items[merged["items"]]
    return check(TrainSettings, merged, source)
