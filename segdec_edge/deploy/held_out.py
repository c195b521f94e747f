"""Accuracy counts on pictures that were held out of training alone. Knows no bundle and no checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segdec_edge.data.samples import Dataset, Sample
from segdec_edge.data.splits import Split
from segdec_edge.errors import DataError, PictureError
from segdec_edge.pictures import pixels_digest, prepare
from segdec_edge.types import ModelSpec

_LOOKED_AT = 8


def require_held_out(facts: Mapping[str, Any], spec: ModelSpec, dataset: Dataset, subset: str, source: object) -> None:
    """facts: what a network says of its training, its split included; source: its file, for the message.

    Raises DataError where that subset of the data set was trained on.
    """
    if subset == "train" or (subset == "all" and _holds_training(facts, spec, dataset)):
        raise DataError(
            f"{source}: {subset!r} pictures were trained on: accuracy on them says nothing. Choose --subset test or"
            " validation."
        )


def trained_on(facts: Mapping[str, Any]) -> str | None:
    """The spec of the data set, None where it is not told."""
    settings = facts.get("settings")
    spec = settings.get("data") if isinstance(settings, Mapping) else None
    return spec if isinstance(spec, str) else None


def _holds_training(facts: Mapping[str, Any], spec: ModelSpec, dataset: Dataset) -> bool:
    """Whether it is the data set trained on, also by another path: a training picture's name with its very pixels."""
    if "split" not in facts:
        return False
    if dataset.spec == trained_on(facts):
        return True
    names, digests = set(Split.from_json(facts["split"]).train), facts.get("train_digests")
    same = [sample for sample in dataset.samples if sample.name in names][:_LOOKED_AT]
    return isinstance(digests, list | tuple) and any(_digest(sample, spec) in digests for sample in same)


def _digest(sample: Sample, spec: ModelSpec) -> str | None:
    try:
        return pixels_digest(prepare(sample.read(), spec.size_hw, spec.channels))
    except PictureError:
        return None
