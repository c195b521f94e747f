"""What a training refuses to start on, or to go on with. Knows samples and splits, no picture and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segdec_edge.config.train import TrainSettings
from segdec_edge.data.samples import Sample
from segdec_edge.data.splits import SUBSETS, Split
from segdec_edge.errors import ConfigError, DataError


def refuse_one_kind(samples: Sequence[Sample], spec: str) -> None:
    positives = sum(sample.positive for sample in samples)
    if not 0 < positives < len(samples):
        raise DataError(
            f"{spec}: {positives} defective and {len(samples) - positives} good pictures to train on, wanted at least"
            " one of each. Add the missing kind, or change the split."
        )


def refuse_other_split(split: Split, stored: Mapping[str, Any] | None, path: Path) -> None:
    """Pictures added, removed or renamed since would move others between the subsets: trained ones into test."""
    earlier = Split.from_json(stored) if stored else split
    for subset in SUBSETS:
        now, before = set(split.subset(subset)), set(earlier.subset(subset))
        if now != before:
            raise ConfigError(
                f"{path}: the data set changed since it was trained: {len(now - before)} pictures new in {subset},"
                f" {len(before - now)} gone, first {min(now ^ before)}. Restore it, or choose another folder."
            )
    known = stored is not None and "withheld" in stored  # earlier versions did not note them
    if known and (other := {*split.withheld} ^ {*earlier.withheld}):
        raise ConfigError(
            f"{path}: the masks to be used changed since it was trained: of {len(other)} pictures, first {min(other)}."
            " Restore them, or choose another folder."
        )


def refuse_other_content(what: str, digests: Sequence[str], stored: Sequence[str] | None, path: Path) -> None:
    """what: pixels or masks. stored: None where an earlier version did not note them."""
    if stored is not None and list(digests) != list(stored):
        changed = sum(now != before for now, before in zip(digests, stored, strict=False))
        raise ConfigError(
            f"{path}: {max(changed, 1)} pictures have other {what} than when it was trained. Restore them, or choose"
            " another folder."
        )


def refuse_unable_to_judge(validation: Sequence[Sample]) -> None:
    positives = sum(sample.positive for sample in validation)
    if not 0 < positives < len(validation):
        raise DataError(
            f"keep = 'best' with {positives} defective and {len(validation) - positives} good validation pictures,"
            " wanted at least one of each. Raise validation, or set keep = 'last'."
        )


def refuse_nothing_to_paste(samples: Sequence[Sample], settings: TrainSettings) -> None:
    if settings.paste > 0 and not any(sample.positive and sample.has_mask for sample in samples):
        raise ConfigError(
            f"paste = {settings.paste:g} cuts defects out by their masks, but no defective training picture has one."
            " Add masks, or set paste = 0."
        )
