"""Splits by physical part, never by picture: reproducible from a seed, or as published. Knows no layout on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segdec_edge.data.published import read_split_file
from segdec_edge.data.samples import Dataset, Sample
from segdec_edge.errors import DataError
from segdec_edge.pictures import SUFFIXES

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
    items: int | None = None,
    splits_file: Path | None = None,
) -> Split:
    """A published split where a fold or a splits file is asked for, else one by part.

    Published: the splits file if one is given, else the data set's own train and test folders (fold 0), else
    splits.json beside the pictures. Raises DataError as published_split and split_by_part.
    """
    if fold is None and splits_file is None:
        return split_by_part(dataset, seed, validation, test)
    if splits_file is None and dataset.published_test is not None:
        return _folders_split(dataset, fold or 0, items, seed)
    return published_split(dataset, splits_file or dataset.root / SPLITS_FILE, fold, items, seed)


def split_by_part(dataset: Dataset, seed: int, validation: float, test: float) -> Split:
    """Divide a data set's parts at random, parts with and without a defect in the same proportion.

    validation and test are shares of the parts, in [0, 1), together below 1; a share above 0 takes at least one part of
    each kind where there are three. The same parts and seed give the same split, in whatever order pictures come.
    Raises DataError where training would get no part.
    """
    if not (validation >= 0 and test >= 0 and validation + test < 1):  # NaN is none of these
        raise DataError(f"shares validation {validation} and test {test}, wanted at least 0, together below 1.")
    if seed < 0:
        raise DataError(f"seed {seed}, wanted 0 or more.")
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


def published_split(
    dataset: Dataset, splits_file: Path, fold: int | None, items: int | None = None, seed: int = 0
) -> Split:
    """The split that a file holds, in one of published.py's forms; fold None where it holds only one.

    items: the size of the training set. Where the file holds sets of several sizes it names one of them (None: the
    full one); where it holds one list, so many of its defective pictures stay (None: all), as keep_positives.
    Raises DataError on an unusable file, entries that no picture has, subsets that share pictures or parts.
    """
    lists = read_split_file(splits_file, fold, items)
    train, validation, test = (
        _resolved(dataset, entries, splits_file) for entries in (lists.train, lists.validation, lists.test)
    )
    _refuse_shared(dataset, splits_file, (train, validation, test))
    unused = [
        sample.name for sample in dataset.named(_resolved(dataset, lists.unmasked, splits_file)) if sample.positive
    ]
    if unused:
        raise DataError(
            f"{splits_file}: {len(unused)} defective training pictures are to be used without mask, first {unused[0]}."
            " Use the file that keeps all masks, and say how many with masks."
        )
    if not lists.sized:
        train, how = keep_positives(dataset, train, items, seed, lists.how)
    else:
        how = lists.how
    return _filled(Split(train, validation, test, how))


def keep_positives(
    dataset: Dataset, train: tuple[str, ...], items: int | None, seed: int, how: str
) -> tuple[tuple[str, ...], str]:
    """Of a training subset all good pictures and `items` defective ones, and how in words; None keeps all.

    Which ones depends on seed and names alone, and a smaller number keeps a subset of a larger one's.
    Raises DataError where there are fewer, or on a number below 1.
    """
    if items is None:
        return train, how
    positives = sorted(sample.name for sample in dataset.named(train) if sample.positive)
    if not 1 <= items <= len(positives):
        raise DataError(
            f"items = {items}, wanted 1 to {len(positives)}, the defective pictures of {how}. Change items."
        )
    kept = set(np.random.default_rng([seed, 3]).permutation(positives).tolist()[:items])
    left = set(positives) - kept
    return tuple(name for name in train if name not in left), f"{how}, {items} defective, seed {seed}"


def _folders_split(dataset: Dataset, fold: int, items: int | None, seed: int) -> Split:
    if fold != 0:
        raise DataError(f"{dataset.spec}: no fold {fold}, its folders are one published split. Set fold = 0.")
    held_out = dataset.published_test or frozenset()
    train = tuple(sample.name for sample in dataset.samples if sample.name not in held_out)
    test = tuple(sample.name for sample in dataset.samples if sample.name in held_out)
    train, how = keep_positives(dataset, train, items, seed, "published train and test folders")
    return _filled(Split(train, (), test, how))


def _resolved(dataset: Dataset, entries: Iterable[str], source: Path) -> tuple[str, ...]:
    """Names of the pictures that entries stand for, in the data set's order: a name, one with suffix, or a part."""
    by_part: dict[str, list[str]] = {}
    for sample in dataset.samples:
        by_part.setdefault(sample.part, []).append(sample.name)
    names = {sample.name for sample in dataset.samples}
    wanted: set[str] = set()
    missing = []
    for entry in entries:
        known = next((one for one in (entry, _without_suffix(entry)) if one in names), None)
        found = [known] if known is not None else by_part.get(entry, [])
        wanted.update(found)
        missing += [] if found else [entry]
    if missing:
        raise DataError(
            f"{source}: {len(missing)} entries are no picture or part of {dataset.spec}, first {min(missing)}."
            " Is the data set complete, and the file made for it?"
        )
    return tuple(sample.name for sample in dataset.samples if sample.name in wanted)


def _without_suffix(entry: str) -> str:
    path = PurePosixPath(entry)
    return str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES else entry


def _refuse_shared(dataset: Dataset, source: Path, subsets: tuple[tuple[str, ...], ...]) -> None:
    seen: dict[str, str] = {}
    for subset, names in zip(SUBSETS, subsets, strict=True):
        for part in {sample.part: None for sample in dataset.named(names)}:
            if seen.setdefault(part, subset) != subset:
                raise DataError(
                    f"{source}: {part} is in {seen[part]} and in {subset}, wanted each part in one subset. Correct it."
                )


def _share(count: int, share: float) -> int:
    wanted = round(count * share)
    return 1 if share > 0 and wanted == 0 and count >= 3 else wanted


def _collect(samples: Iterable[Sample], subset_of: Mapping[str, str], how: str) -> Split:
    names: dict[str, list[str]] = {name: [] for name in SUBSETS}
    for sample in samples:
        if sample.part in subset_of:
            names[subset_of[sample.part]].append(sample.name)
    return _filled(Split(tuple(names["train"]), tuple(names["validation"]), tuple(names["test"]), how))


def _filled(split: Split) -> Split:
    if not split.train:
        raise DataError("the split leaves no part for training. Add pictures, or lower the shares.")
    return split
