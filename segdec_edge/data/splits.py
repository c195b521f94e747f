"""Splits by physical part, never by picture: reproducible from a seed, or as published. Knows no layout on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segdec_edge.data.samples import Dataset, Sample
from segdec_edge.errors import DataError

SUBSETS = ("train", "validation", "test")
SPLITS_FILE = "splits.json"


@dataclass(frozen=True)
class Split:
    """Names of pictures in each subset, and in words how they were chosen."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    how: str

    def subset(self, name: str) -> tuple[str, ...]:
        """Raises DataError on a name other than train, validation, test."""
        if name not in SUBSETS:
            raise DataError(f"subset {name!r}, wanted {', '.join(SUBSETS)} or all.")
        return tuple(getattr(self, name))

    def to_json(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Split:
        """Raises DataError where a key is missing."""
        try:
            subsets = {name: tuple(values[name]) for name in SUBSETS}
            return Split(**subsets, how=str(values["how"]))
        except (KeyError, TypeError) as error:
            raise DataError(f"not a split: {error} is missing, wanted {', '.join(SUBSETS)} and how.") from error


def choose_split(
    dataset: Dataset,
    *,
    seed: int,
    validation: float,
    test: float,
    fold: int | None = None,
    items: int = 33,
    splits_file: Path | None = None,
) -> Split:
    """A published fold where one is asked for (its file by default splits.json beside the pictures), else by part.

    Raises DataError as published_split and split_by_part.
    """
    if fold is None:
        return split_by_part(dataset, seed, validation, test)
    return published_split(dataset, splits_file or dataset.root / SPLITS_FILE, fold, items)


def split_by_part(dataset: Dataset, seed: int, validation: float, test: float) -> Split:
    """Divide a data set's parts at random, parts with and without a defect in the same proportion.

    validation and test are shares of the parts, in [0, 1), together below 1; a share above 0 takes at least one part of
    each kind where there are three. The same parts and seed give the same split, in whatever order pictures come.
    Raises DataError where training would get no part.
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise DataError(f"shares validation {validation} and test {test}, wanted at least 0, together below 1.")
    defective = {sample.part for sample in dataset.samples if sample.positive}
    subset_of: dict[str, str] = {}
    for kind, parts in enumerate((defective, {sample.part for sample in dataset.samples} - defective)):
        order = np.random.default_rng([seed, kind]).permutation(sorted(parts)).tolist()
        for_test = _share(len(order), test)
        for_validation = _share(len(order), validation)
        for index, part in enumerate(order):
            subset_of[part] = SUBSETS[2 if index < for_test else 1 if index < for_test + for_validation else 0]
    how = f"by part, seed {seed}, validation {validation:g}, test {test:g}"
    return _collect(dataset.samples, subset_of, how)


def published_split(dataset: Dataset, splits_file: Path, fold: int, items: int = 33) -> Split:
    """A published fold: splits_file holds train[items][fold] and test[fold], lists of parts (KolektorSDD's folds).

    There is no validation subset in it. Raises DataError on an unreadable file, or a fold or size that is not in it.
    """
    try:
        folds = json.loads(splits_file.read_text(encoding="utf-8"))
        train, test = folds["train"], folds["test"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{splits_file}: not a readable splits file ({error}). Give it with --splits FILE.") from error
    if str(items) not in train:
        raise DataError(f"{splits_file}: no training set of {items} items, wanted {', '.join(train)}.")
    if not 0 <= fold < len(test):
        raise DataError(f"{splits_file}: no fold {fold}, wanted 0 to {len(test) - 1}.")
    subset_of = dict.fromkeys(test[fold], "test") | dict.fromkeys(train[str(items)][fold], "train")
    return _collect(dataset.samples, subset_of, f"published fold {fold}, {items} items")


def _share(count: int, share: float) -> int:
    wanted = round(count * share)
    return 1 if share > 0 and wanted == 0 and count >= 3 else wanted


def _collect(samples: Iterable[Sample], subset_of: Mapping[str, str], how: str) -> Split:
    names: dict[str, list[str]] = {name: [] for name in SUBSETS}
    for sample in samples:
        if sample.part in subset_of:
            names[subset_of[sample.part]].append(sample.name)
    if not names["train"]:
        raise DataError("the split leaves no part for training. Add pictures, or lower the shares.")
    return Split(tuple(names["train"]), tuple(names["validation"]), tuple(names["test"]), how)
