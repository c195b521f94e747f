"""Split files as authors publish them. Knows no data set: entries are names of pictures or of parts, as they stand.

folds     splits.json {"train": {"33": [[…], …], "5": …}, "test": [[…], …]}: for each size of the training set and each
          fold a list (KolektorSDD's); "validation": [[…], …] may be there too.
subsets   splits.json {"train": […], "validation": […], "test": […]}, validation optional: one split.
pickled   split_N_M.pyb of the method's authors: (train, test) or (train, test, validation) of (name, has mask), each
          one list, or one list a fold.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from segdec_edge.errors import DataError

_FULL_SIZE = "33"  # KolektorSDD's full protocol
_PLAIN = {("builtins", "set"): set, ("__builtin__", "set"): set, ("builtins", "frozenset"): frozenset}


@dataclass(frozen=True)
class SplitLists:
    """Entries of one split; sized: the file itself says how large a training set is, nothing is to be drawn from it.

    unmasked: training entries whose mask is not to be used, where the file says so.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    how: str
    sized: bool = False
    unmasked: frozenset[str] = frozenset()


def read_split_file(path: Path, fold: int | None, items: int | None) -> SplitLists:
    """One fold of a split file. fold: None where there is only one; items: None for the full training set.

    Raises DataError on an unreadable file, a fold or size that is not in it, and folds whose test sets overlap.
    """
    try:
        content = _unpickled(path) if path.suffix == ".pyb" else json.loads(path.read_text(encoding="utf-8"))
        return (
            _pickled(path, content, fold, items) if isinstance(content, tuple) else _listed(path, content, fold, items)
        )
    except DataError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path}: not a readable splits file ({reason}). Mend it, or give another: --splits FILE; to train"
            " --set 'splits=\"FILE\"'."
        ) from error


class _PlainUnpickler(pickle.Unpickler):
    """Containers, strings and numbers only: a pickle that names anything else could run code, and is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        raise pickle.UnpicklingError(f"it holds {module}.{name}, wanted plain lists")


def _unpickled(path: Path) -> tuple[Any, ...]:
    with path.open("rb") as file:
        return tuple(_PlainUnpickler(file).load())


def _pickled(path: Path, content: Sequence[Any], fold: int | None, items: int | None) -> SplitLists:
    train, test, validation = (*content, ()) if len(content) == 2 else content
    if isinstance(train, Sequence) and train and not _is_pair(next(iter(train))):
        if items is not None:
            raise DataError(f"{path}: holds folds of one size, items = {items} cannot be taken from it. Drop items.")
        number = _fold_of(path, fold, len(train))
        _refuse_overlap(path, [_names(one) for one in test])
        train, test, validation = train[number], test[number], validation[number] if validation else ()
        sized = True
    else:
        number, sized = _fold_of(path, fold, 1), False
    how = f"published {path.name}" + (f", fold {number}" if sized else "")
    unmasked = frozenset(name for name, has_mask in train if not has_mask)
    return SplitLists(_names(train), _names(validation), _names(test), how, sized, unmasked)


def _listed(path: Path, content: Mapping[str, Any], fold: int | None, items: int | None) -> SplitLists:
    train, test, validation = content["train"], content["test"], content.get("validation", [])
    if not isinstance(train, Mapping):
        _fold_of(path, fold, 1)
        return SplitLists(_strings(train), _strings(validation), _strings(test), f"published {path.name}")
    size = str(items) if items is not None else _FULL_SIZE if _FULL_SIZE in train else next(iter(train))
    if size not in train:
        raise DataError(f"{path}: no training set of {items} items, wanted {', '.join(train)}.")
    number = _fold_of(path, fold, len(test))
    _refuse_overlap(path, [_strings(one) for one in test])
    checked = _strings(validation[number]) if validation else ()
    how = f"published fold {number}, {size} items"
    return SplitLists(_strings(train[size][number]), checked, _strings(test[number]), how, True)


def _fold_of(path: Path, fold: int | None, count: int) -> int:
    if fold is None and count == 1:
        return 0
    if fold is None or not 0 <= fold < count:
        wanted = f"0 to {count - 1}" if count > 1 else "0, it holds one split"
        raise DataError(f"{path}: no fold {'given' if fold is None else fold}, wanted {wanted}. Set fold.")
    return fold


def _refuse_overlap(path: Path, tests: Sequence[tuple[str, ...]]) -> None:
    for (first, one), (second, other) in combinations(enumerate(tests), 2):
        if both := sorted({*one} & {*other}):
            raise DataError(
                f"{path}: folds {first} and {second} test the same, {len(both)} entries, first {both[0]}."
                " Wanted each in one fold: correct the file."
            )


def _is_pair(value: object) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[0], str)


def _names(entries: Iterable[Any]) -> tuple[str, ...]:
    return _strings([name for name, _ in entries])


def _strings(entries: Any) -> tuple[str, ...]:
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise TypeError("wanted lists of names")
    return tuple(entries)
