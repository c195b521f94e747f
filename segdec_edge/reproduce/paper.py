"""What the paper's tables hold: their rows as settings, and the figures it reports. Knows no file and trains nothing.

Source: Božič, Tabernik, Skočaj, End-to-end training of a two-stage neural network for defect detection, ICPR 2020,
tables I to V. Figures are per cent; errors are false positives + false negatives, summed over folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from segdec_edge.errors import ConfigError

SWITCHES = ("balanced_loss", "gradient_stop", "frequency_sampling", "distance_weights")
_WORDS = ("dynamically balanced loss", "gradient stop", "frequency-of-use sampling", "distance weights")


@dataclass(frozen=True)
class Reported:
    """A figure of the paper: average precision in per cent, errors as printed there ("1+0" is one false positive).

    pictures: what it is of, (defective, good) ones trained on and tested on, where the paper says.
    """

    average_precision: float | None
    errors: str = ""
    pictures: tuple[tuple[int, int], tuple[int, int]] | None = None


@dataclass(frozen=True)
class Row:
    """One line of a table. key: short and fit for a folder's name; values: settings laid over the preset's."""

    key: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    paper: Reported | None = None


@dataclass(frozen=True)
class Table:
    """title as the paper has it, shortened; folds: the published ones of its data set, or its classes, see `unit`.

    values: settings laid over the preset's for all rows; notes: what a reader of the table has to know, by the setting
    that it is about.
    """

    key: str
    title: str
    kind: str
    preset: str
    folds: tuple[int | None, ...]
    rows: tuple[Row, ...]
    unit: Literal["fold", "class"] = "fold"
    values: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


FOLDS: Mapping[str, tuple[int | None, ...]] = {
    "kolektor": (0, 1, 2),
    "dagm": (0,),
    "kolektor2": (0,),
    "severstal": (0,),
}
"""Published folds by kind of data set; others are split by part and seed."""

PRESET_OF: Mapping[str, str] = {
    "kolektor": "kolektor", "dagm": "dagm", "severstal": "severstal", "kolektor2": "kolektor2-comind",
}  # fmt: skip

# Source: table II, first and second line.
_KOLEKTOR_END_TO_END = {33: 100.0, 25: 99.78, 20: 100.0, 15: 99.88, 10: 99.31, 5: 96.71}
_KOLEKTOR_SEPARATE = {33: 99.0, 25: 97.5, 20: 99.5, 15: 97.4, 10: 98.8, 5: 95.8}
# Source: table IV; false positives + false negatives.
_SEVERSTAL = {3000: (99.04, "34+54"), 1500: (99.0, "41+70"), 750: (98.91, "52+65"), 300: (97.78, "95+77")}
_SEVERSTAL_TEST = (1200, 1200)
# Source: IV-F; the epochs are those of the authors' scripts. IV-E takes the best epoch, IV-F has "identical settings".
_SEVERSTAL_SMALL: Mapping[str, Any] = {"items": 1000, "epochs": 50}
_BEST: Mapping[str, Any] = {"keep": "best"}
_BEST_NOTE = "As in the paper, the epoch of the best AP on the validation pictures is evaluated."
_SEVERSTAL_NOTE = (
    "`items` leaves so many defective training pictures, drawn by seed, and every good one: the paper's very pictures"
    " need the authors' lists (--set 'splits=\"split_1000_1000.pyb\"', one --rows at a time in table IV)."
)
_ONE_CLASS_NOTE = "One class of ten. The paper's figures are of all ten together, and not shown beside it."
DAGM_CLASSES = tuple(range(1, 11))

# Source: table III, by the switch that is off; table V, by how many are on, from the left.
_DISABLED = {
    "dagm": ((99.95, "2+2"), (91.88, "471+68"), (99.996, "0+1"), (100.0, "0+0"), (100.0, "0+0")),
    "kolektor": ((99.75, "1+0"), (99.88, "1+0"), (99.77, "0+1"), (99.88, "1+0"), (100.0, "0+0")),
    "severstal": ((98.32, "73+64"), (97.80, "57+60"), (98.54, "36+75"), (98.24, "52+58"), (98.74, "59+40")),
}
_INCLUDED = {
    "dagm": ((90.84, "661+45"), (97.60, "26+24"), (99.998, "1+0"), (100.0, "0+0"), (100.0, "0+0")),
    "kolektor": ((99.77, "0+1"), (99.88, "1+0"), (99.90, "1+0"), (99.88, "1+0"), (100.0, "0+0")),
    "severstal": ((95.90, "59+102"), (97.43, "76+72"), (97.59, "65+61"), (98.24, "52+58"), (98.74, "59+40")),
}


def open_table(key: str, kind: str, *, one_class: bool = False) -> Table:
    """A table of the paper for a kind of data set. Tables III and V take any kind, I, II and IV the paper's own.

    DAGM's ten classes count as folds do elsewhere; with one_class its one class has the published fold alone.

    Raises ConfigError on another name, or a table whose data set is another one.
    """
    makers = {"I": _dagm, "II": _kolektor, "III": _disabled, "IV": _severstal, "V": _included}
    if key not in makers:
        raise ConfigError(f"table {key!r}, wanted {', '.join(makers)} of the paper.")
    own = {"I": "dagm", "II": "kolektor", "IV": "severstal"}.get(key, kind)
    if kind != own:
        raise ConfigError(f"table {key} is about {own}, got data of kind {kind!r}. Give --data {own}:PATH.")
    title, rows = makers[key](kind)
    table = Table(key, title, kind, PRESET_OF.get(kind, "own"), FOLDS.get(kind, (None,)), rows)
    match kind:
        case "dagm" if one_class:
            return replace(table, rows=tuple(replace(row, paper=None) for row in rows), notes={"data": _ONE_CLASS_NOTE})
        case "dagm":
            return replace(table, folds=DAGM_CLASSES, unit="class")
        case "severstal":
            values = _BEST if key == "IV" else {**_BEST, **_SEVERSTAL_SMALL}
            return replace(table, values=values, notes={"keep": _BEST_NOTE, "splits": _SEVERSTAL_NOTE})
        case "kolektor" if key != "II":
            return replace(table, values={"items": max(_KOLEKTOR_END_TO_END)})  # so that "all" is table II's first row
        case _:
            return table


def _dagm(kind: str) -> tuple[str, tuple[Row, ...]]:
    row = Row("end-to-end", "end to end", {}, Reported(100.0, "0+0"))
    return "DAGM, true positive and true negative rate of each class", (row,)


def _kolektor(kind: str) -> tuple[str, tuple[Row, ...]]:
    # The earlier scheme as the paper compares with it: the same boxes, none of the four components.
    plain = {"scheme": "separate", "frequency_sampling": False, "distance_weights": False}
    ours = [
        Row(f"end-to-end-{n}", f"end to end, {n} items", {"items": n}, Reported(ap, "0+0" if n == 33 else ""))
        for n, ap in _KOLEKTOR_END_TO_END.items()
    ]
    earlier = [
        Row(f"separate-{n}", f"separate, {n} items", {"items": n, **plain}, Reported(ap))
        for n, ap in _KOLEKTOR_SEPARATE.items()
    ]
    return "KolektorSDD, by number of items trained on", (*ours, *earlier)


def _severstal(kind: str) -> tuple[str, tuple[Row, ...]]:
    rows = (
        Row(f"positives-{n}", f"{n} positives", {"items": n}, Reported(ap, errors, ((n, 4143), _SEVERSTAL_TEST)))
        for n, (ap, errors) in _SEVERSTAL.items()
    )
    return "Severstal steel, by number of positives trained on", tuple(rows)


def _disabled(kind: str) -> tuple[str, tuple[Row, ...]]:
    rows = [
        Row(f"without-{switch}", f"without {words}", {switch: False}, _reported(_DISABLED, kind, index))
        for index, (switch, words) in enumerate(zip(SWITCHES, _WORDS, strict=True))
    ]
    return "each component disabled", (*rows, Row("all", "all four", {}, _reported(_DISABLED, kind, 4)))


def _included(kind: str) -> tuple[str, tuple[Row, ...]]:
    rows = []
    for count in range(len(SWITCHES) + 1):
        values = dict.fromkeys(SWITCHES[count:], False)
        key = "none" if count == 0 else f"with-{SWITCHES[count - 1]}" if count < len(SWITCHES) else "all"
        title = "none of the four" if count == 0 else f"+ {_WORDS[count - 1]}"
        rows.append(Row(key, title, values, _reported(_INCLUDED, kind, count)))
    return "components gradually included", tuple(rows)


def _reported(figures: Mapping[str, tuple[tuple[float, str], ...]], kind: str, index: int) -> Reported | None:
    if kind not in figures:
        return None
    pictures = ((1000, 1000), (1000, 1000)) if kind == "severstal" else None
    return Reported(*figures[kind][index], pictures=pictures)
