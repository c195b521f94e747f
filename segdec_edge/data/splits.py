"""Splits by physical part, never by picture: reproducible from a seed, or as published. Knows no layout on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segdec_edge.data.folder import listed_name
from segdec_edge.data.published import SplitLists, read_split_file
from segdec_edge.data.samples import Dataset, Sample, without_masks
from segdec_edge.data.words import take_apart
from segdec_edge.errors import DataError
from segdec_edge.files import from_home, sha256_of

SUBSETS = ("train", "validation", "test")
SPLITS_FILE = "splits.json"


@dataclass(frozen=True)
class Split:
    """Names of pictures in each subset, and in words how they were chosen.

    withheld: defective training pictures whose mask is not to be used (mixed supervision); file_sha256: of the splits
    file that it was read from, "" without one.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    how: str
    withheld: tuple[str, ...] = ()
    file_sha256: str = field(default="", compare=False)

    def subset(self, name: str) -> tuple[str, ...]:
        """Raises DataError on a name other than train, validation, test."""
        if name not in SUBSETS:
            raise DataError(f"subset {name!r}, wanted {', '.join(SUBSETS)} or all.")
        return tuple(getattr(self, name))

    def training(self, dataset: Dataset) -> tuple[Sample, ...]:
        """The training pictures, without the masks that are withheld. Raises DataError where one is gone."""
        return without_masks(dataset.named(self.train), set(self.withheld))

    def to_json(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Split:
        """Raises DataError where a key is missing."""
        try:
            subsets = {name: tuple(values[name]) for name in SUBSETS}
            withheld, digest = tuple(values.get("withheld") or ()), str(values.get("file_sha256", ""))
            return Split(**subsets, how=str(values["how"]), withheld=withheld, file_sha256=digest)
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
    splits.json beside the pictures. By part, `items` keeps so many defective training pictures, as keep_positives.
    Raises DataError as published_split and split_by_part.
    """
    if fold is None and splits_file is None:
        split = split_by_part(dataset, seed, validation, test)
        train, how = keep_positives(dataset, split.train, items, seed, split.how)
        return replace(split, train=train, how=how)
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
    splits_file = from_home(splits_file)
    lists = read_split_file(splits_file, fold, items, _class_in(dataset))
    held_out = (False, False, True)
    train, validation, test = (
        _resolved(dataset, entries, splits_file, test)
        for entries, test in zip((lists.train, lists.validation, lists.test), held_out, strict=True)
    )
    known = _Known.of(dataset, True)
    tests = [{name for entry in entries for name in known.named(entry)} for entries in lists.all_tests]
    _refuse_overlap(splits_file, tests)
    if not train:
        raise DataError(f"{splits_file}: its list of training pictures is empty, wanted at least one. Correct it.")
    _refuse_shared(dataset, splits_file, (train, validation, test))
    unmasked = _resolved(dataset, lists.unmasked, splits_file, False)
    withheld = tuple(sample.name for sample in dataset.named(unmasked) if sample.positive and sample.has_mask)
    if lists.sized:
        _refuse_other_items(dataset, train, lists, items, splits_file)
        how = lists.how
    else:
        train, how = keep_positives(dataset, train, items, seed, lists.how)
        withheld = tuple(name for name in withheld if name in train)
    if withheld:
        how += f", {len(withheld)} defective without mask"
    return _filled(Split(train, validation, test, how, withheld, sha256_of(splits_file)))


def _class_in(dataset: Dataset) -> int | None:
    words = take_apart(dataset.spec)
    return int(words.options["class"]) if words.kind == "dagm" else None


def _refuse_other_items(
    dataset: Dataset, train: tuple[str, ...], lists: SplitLists, items: int | None, source: Path
) -> None:
    """items may repeat the size that was chosen by it, that the file's name says, or the count of its defects."""
    there = sum(sample.positive for sample in dataset.named(train))
    if items not in (None, lists.items, there):
        by_name = "" if lists.items is None else f"{lists.items} by its name, "
        raise DataError(
            f"{source}: holds training sets of one size ({by_name}{there} defective pictures), so items = {items}"
            " cannot be taken from it. Drop items (in a table choose other --rows), or give the file of that size."
        )


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
            f"items = {items}, wanted 1 to {len(positives)}, the defective pictures of {how}. Change items"
            " (in a table choose other --rows)."
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


def _resolved(dataset: Dataset, entries: Iterable[str], source: Path, for_test: bool) -> tuple[str, ...]:
    """Names of the pictures that entries stand for, in the data set's order: a name, one with suffix, a part, or a file
    name in the data set's own train or test folder, first in the one that the list is for."""
    known = _Known.of(dataset, for_test)
    found = {entry: known.named(entry) for entry in entries}
    missing = [entry for entry, names in found.items() if not names]
    if missing:
        raise DataError(
            f"{source}: {len(missing)} entries are no picture or part of {dataset.spec}, first {min(missing)}."
            " Is the data set complete, and the file made for it?"
        )
    wanted = {name for names in found.values() for name in names}
    return tuple(sample.name for sample in dataset.samples if sample.name in wanted)


@dataclass(frozen=True)
class _Known:
    """What an entry may be: a name; a part, with its pictures' names; in published folders the last part of a name."""

    names: frozenset[str]
    parts: Mapping[str, list[str]]
    last: Mapping[str, str]

    @staticmethod
    def of(dataset: Dataset, for_test: bool) -> _Known:
        parts: dict[str, list[str]] = {}
        last: dict[str, str] = {}
        for sample in dataset.samples:
            parts.setdefault(sample.part, []).append(sample.name)
        if dataset.published_test is not None:
            # Those of the wanted folder come last and win.
            for name in sorted(
                (sample.name for sample in dataset.samples),
                key=lambda name: (name in (dataset.published_test or ())) == for_test,
            ):
                last[PurePosixPath(name).name] = name
        return _Known(frozenset(sample.name for sample in dataset.samples), parts, last)

    def named(self, entry: str) -> list[str]:
        name = listed_name(entry, self.names)
        if name in self.names:
            return [name]
        if entry in self.parts:
            return self.parts[entry]
        last = self.last.get(listed_name(entry, self.last))
        return [] if last is None else [last]


def _refuse_overlap(source: Path, tests: Sequence[Set[str]]) -> None:
    """tests: the names of the pictures that each fold tests. Counted over folds, errors on shared ones count twice."""
    for (first, one), (second, other) in combinations(enumerate(tests), 2):
        if both := sorted(one & other):
            raise DataError(
                f"{source}: folds {first} and {second} test the same, {len(both)} pictures, first {both[0]}."
                " Wanted each in one fold: correct the file."
            )


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
