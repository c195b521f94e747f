"""Split files as authors publish them. Knows no data set: entries are names of pictures or of parts, as they stand.

folds     splits.json {"train": {"33": [[…], …], "5": …}, "test": [[…], …]}: for each size of the training set and each
          fold a list (KolektorSDD's); "validation": [[…], …] may be there too.
subsets   splits.json {"train": […], "validation": […], "test": […]}, validation optional: one split.
pickled   split_N_M.pyb (N items, M of them with mask) or split_N.pyb of the method's authors: (train, test) or (train,
          test, validation) of (name or number, has mask), each one list, one a fold, or one a class (DAGM).
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segdec_edge.errors import DataError

_FULL_SIZE = "33"  # KolektorSDD's full protocol
_SIZE = re.compile(r"split_(\d+)_\d+")  # with one number it is that of the masks
_PICKLED = "wanted (train, test) or (train, test, validation), each a list of (name, has mask), or as many such lists"
_PLAIN = {("builtins", "set"): set, ("__builtin__", "set"): set, ("builtins", "frozenset"): frozenset}

_UNREADABLE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, RecursionError),
    *(MemoryError, OverflowError, SystemError),  # pickles with a bit changed
    pickle.UnpicklingError,
)


@dataclass(frozen=True)
class SplitLists:
    """Entries of one split; sized: the file itself says how large a training set is, nothing is to be drawn from it.

    unmasked: training entries whose mask is not to be used, where the file says so; items: that size, where known;
    all_tests: the entries of every fold's test, where there are folds.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    how: str
    sized: bool = False
    unmasked: frozenset[str] = frozenset()
    items: int | None = None
    all_tests: tuple[tuple[str, ...], ...] = ()


def read_split_file(path: Path, fold: int | None, items: int | None, of_class: int | None = None) -> SplitLists:
    """One fold of a split file. fold: None where there is only one; items: None for the full training set.

    of_class: from 1, for a data set of which the authors' files hold one list a class.
    Raises DataError on an unreadable file, and a fold or size that is not in it.
    """
    try:
        if path.suffix == ".pyb":
            return _pickled(path, _unpickled(path), fold, of_class)
        return _listed(path, json.loads(path.read_text(encoding="utf-8-sig")), fold, items)
    except DataError:
        raise
    except _UNREADABLE as error:
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


def _unpickled(path: Path) -> Any:
    with path.open("rb") as file:
        return _PlainUnpickler(file).load()


def _pickled(path: Path, content: Any, fold: int | None, of_class: int | None) -> SplitLists:
    if not isinstance(content, (tuple, list)) or len(content) not in (2, 3):
        raise TypeError(_PICKLED)
    train, test, validation = (*content, ()) if len(content) == 2 else content
    many = not _are_pairs(train)
    _require_alike(many, train, test, validation)
    how = f"published {path.name}"
    if many and of_class is not None:
        _fold_of(path, fold, 1)
        number = _class_of(path, of_class, len(train))
        how += f", class {of_class}"
    else:
        number = _fold_of(path, fold, len(train) if many else 1)
        how += f", fold {number}" if many else ""
    all_tests = tuple(_names(one) for one in test) if many and of_class is None else ()
    if many:
        train, test, validation = train[number], test[number], validation[number] if validation else ()
    flags: dict[str, bool] = {}
    for (_, has_mask), name in zip(train, _names(train), strict=True):
        if flags.setdefault(name, bool(has_mask)) != has_mask:
            raise ValueError(f"{name} stands there with and without mask")
    unmasked = frozenset(name for name, has_mask in flags.items() if not has_mask)
    size = _SIZE.match(path.name)
    lists = SplitLists(_names(train), _names(validation), _names(test), how, bool(many), unmasked)
    return replace(lists, items=int(size[1]) if size else None, all_tests=all_tests)


def _class_of(path: Path, of_class: int, count: int) -> int:
    if of_class > count:
        raise DataError(f"{path}: no class {of_class}, it holds lists of {count} classes. Give another file.")
    return of_class - 1


def _require_alike(many: bool, train: Any, test: Any, validation: Any) -> None:
    """Raises TypeError where the three are not of one shape: each a list of pairs, or as many lists of them."""
    subsets = [train, test, *([validation] if validation else [])]
    if not many:
        alike = all(_are_pairs(one) for one in subsets)
    else:
        alike = all(
            isinstance(one, (tuple, list)) and len(one) == len(train) and all(_are_pairs(part) for part in one)
            for one in subsets
        )
    if not alike:
        raise TypeError(_PICKLED)


def _listed(path: Path, content: Any, fold: int | None, items: int | None) -> SplitLists:
    if not isinstance(content, Mapping):
        raise TypeError("wanted train and test with lists of names")
    train, test, validation = content["train"], content["test"], content.get("validation", [])
    if not isinstance(train, Mapping):
        _fold_of(path, fold, 1)
        return SplitLists(_strings(train), _strings(validation), _strings(test), f"published {path.name}")
    size = str(items) if items is not None else _FULL_SIZE if _FULL_SIZE in train else next(iter(train), "")
    if size not in train:
        raise DataError(
            f"{path}: no training set of {items or 'any'} items, wanted {', '.join(train) or 'a file with some'}."
        )
    number = _fold_of(path, fold, len(test))
    if {len(train[size]), len(validation or test)} != {len(test)}:
        raise ValueError(f"{len(test)} folds to test on and {len(train[size])} to train on, wanted as many")
    all_tests = tuple(_strings(one) for one in test)
    checked = _strings(validation[number]) if validation else ()
    how = f"published fold {number}, {size} items"
    trained = _strings(train[size][number])
    return SplitLists(trained, checked, all_tests[number], how, True, items=items, all_tests=all_tests)


def _fold_of(path: Path, fold: int | None, count: int) -> int:
    if fold is None and count == 1:
        return 0
    if count == 0:
        raise DataError(f"{path}: its list of folds is empty, wanted at least one fold to test on. Correct it.")
    if fold is None or not 0 <= fold < count:
        wanted = f"0 to {count - 1}" if count > 1 else "0, it holds one split"
        raise DataError(f"{path}: no fold {'given' if fold is None else fold}, wanted {wanted}. Set fold.")
    return fold


def _are_pairs(entries: Any) -> bool:
    """Whether these are (name or number, has mask), each; nothing at all is."""
    return isinstance(entries, (tuple, list, set, frozenset)) and all(
        isinstance(one, (tuple, list)) and len(one) == 2 and type(one[0]) in (str, int) and one[1] in (True, False)
        for one in entries
    )


def _names(entries: Iterable[Any]) -> tuple[str, ...]:
    return _strings([str(name) if type(name) is int else name for name, _ in entries])


def _strings(entries: Any) -> tuple[str, ...]:
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise TypeError("wanted lists of names")
    return tuple(entries)
