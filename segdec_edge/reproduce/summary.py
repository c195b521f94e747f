"""Results of a table's trainings side by side with the paper: JSON and Markdown. Trains nothing.

As the paper: average precision is the mean over folds, false positives and negatives are summed over them; then mean
and spread over seeds. A seed that lacks a fold is left out and named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from segdec_edge.data.words import without_folders
from segdec_edge.evaluation.metrics import Confusion
from segdec_edge.reproduce.notes import MARK
from segdec_edge.reproduce.paper import Reported, Table
from segdec_edge.reproduce.plan import Job
from segdec_edge.reproduce.results import Result, find_result


@dataclass(frozen=True)
class Cell:
    """One row under one variant.

    average_precision in per cent: mean over seeds of the mean over folds, spread: its standard deviation over seeds
    (None with one). best_f, given: (false positives, false negatives) summed over folds, mean over seeds, at the best
    threshold of the evaluated set and at the one picked before; threshold_from: on which pictures that was. rates: true
    positive and true negative rate in per cent at the best threshold, by fold, mean over seeds. incomplete: seeds left
    out.
    """

    row: str
    variant: str
    folds: int
    seeds: tuple[int, ...]
    average_precision: float | None
    spread: float | None
    best_f: tuple[float, float] | None
    given: tuple[float, float] | None
    incomplete: tuple[int, ...]
    threshold_from: tuple[str, ...] = ()
    rates: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def summarise(table: Table, jobs: Sequence[Job], output: Path) -> tuple[Cell, ...]:
    """One cell for each row and variant that was asked for, from whatever results are there."""
    cells = []
    for row in table.rows:
        mine = [job for job in jobs if job.row == row.key]
        for variant in dict.fromkeys(name for job in mine for name, _ in job.variants):
            cells.append(_cell(row.key, variant, [job for job in mine if variant in dict(job.variants)], output))
    return tuple(cells)


def read_results(jobs: Iterable[Job], output: Path) -> list[Result]:
    """Every result that is there. Raises as find_result: a file that is no result, or one of other settings or data."""
    found = [find_result(output, job, variant) for job in jobs for variant, _ in job.variants]
    return [one[1] for one in found if one]


def to_json(table: Table, cells: Sequence[Cell], results: Sequence[Result], data: str) -> dict[str, Any]:
    """data: the spec; of its path only the last folder is kept, where the pictures lay is nobody's business."""
    return {
        "table": table.key,
        "title": table.title,
        "data": without_folders(data),
        "paper": {row.key: asdict(row.paper) for row in table.rows if row.paper},
        "cells": [asdict(cell) for cell in cells],
        "results": [_anonymous(one) for one in results],
    }


def _anonymous(result: Result) -> Result:
    settings = result["settings"]
    return {**result, "settings": {**settings, "data": without_folders(settings["data"]), "splits": None}}


def to_markdown(table: Table, cells: Sequence[Cell], notes: Sequence[str] = (), marked: Collection[str] = ()) -> str:
    """A table for people: the paper's figure, then each variant's; an incomplete cell says what is missing.

    marked: rows whose figure of the paper is not of the same pictures, as a note says.
    """
    variants = list(dict.fromkeys(cell.variant for cell in cells))
    head = ["", "paper AP", "paper FP+FN"]
    for variant in variants:
        head += [f"{variant} AP", "FP+FN, best F", f"FP+FN, threshold of {_sources(cells, variant)} pictures"]
    lines = [f"Table {table.key}: {table.title}", "", _line(head), _line(["---"] * len(head))]
    for row in table.rows:
        mine = {cell.variant: cell for cell in cells if cell.row == row.key}
        if mine:
            columns = [text for variant in variants for text in _columns(mine.get(variant), table)]
            lines.append(_line([row.title, *_paper(row.paper, MARK if row.key in marked else ""), *columns]))
    lines += _rates_lines(table, cells) if table.key == "I" else []
    return "\n".join([*lines, *(line for note in notes for line in ("", note))]) + "\n"


def _sources(cells: Sequence[Cell], variant: str) -> str:
    found = sorted({source for cell in cells if cell.variant == variant for source in cell.threshold_from})
    return " or ".join(found) or "training"


def _rates_lines(table: Table, cells: Sequence[Cell]) -> list[str]:
    """Table I as the paper prints it: 100 % of both rates on every class; ours at the best F-measure."""
    head = ["class", "paper TPR", "paper TNR"] + [f"{cell.variant} {rate}" for cell in cells for rate in ("TPR", "TNR")]
    lines = ["", _line(head), _line(["---"] * len(head))]
    for fold in table.folds if table.unit == "class" else ():
        ours = [f"{rate:.2f}" for cell in cells for rate in cell.rates.get(str(fold), ())]
        lines.append(_line([str(fold), "100", "100", *(ours or [""] * 2 * len(cells))]))
    if table.unit != "class":
        lines.append(
            _line(["", "", "", *(f"{rate:.2f}" for cell in cells for one in cell.rates.values() for rate in one)])
        )
    return lines


def _cell(row: str, variant: str, jobs: Sequence[Job], output: Path) -> Cell:
    folds = {job.fold for job in jobs}
    whole, incomplete = {}, []
    for seed in dict.fromkeys(job.seed for job in jobs):
        results = read_results((only(job, variant) for job in jobs if job.seed == seed), output)
        if len(results) == len(folds):
            whole[seed] = results
        else:
            incomplete.append(seed)
    aps = [100 * fmean(one["evaluation"]["average_precision"] for one in results) for results in whole.values()]
    return Cell(
        row=row,
        variant=variant,
        folds=len(folds),
        seeds=tuple(whole),
        average_precision=fmean(aps) if aps else None,
        spread=stdev(aps) if len(aps) > 1 else None,
        best_f=_errors(whole.values(), "best_f"),
        given=_errors(whole.values(), "given"),
        incomplete=tuple(incomplete),
        threshold_from=tuple(sorted({_threshold_from(one) for results in whole.values() for one in results})),
        rates=_rates([one for results in whole.values() for one in results]),
    )


def only(job: Job, variant: str) -> Job:
    return replace(job, variants=((variant, dict(job.variants)[variant]),))


def _errors(seeds: Iterable[Sequence[Result]], point: str) -> tuple[float, float] | None:
    counts = [
        sum((Confusion(**_counts(one["evaluation"][point]["confusion"])) for one in results), Confusion(0, 0, 0, 0))
        for results in seeds
    ]
    return (fmean(one.fp for one in counts), fmean(one.fn for one in counts)) if counts else None


def _threshold_from(result: Result) -> str:
    words = str(result["evaluation"]["given"].get("source", ""))
    return next((kind for kind in ("training", "validation") if kind in words), "unknown")


def _rates(results: Sequence[Result]) -> dict[str, tuple[float, float]]:
    found: dict[str, list[Confusion]] = {}
    for one in results:
        found.setdefault(str(one["fold"]), []).append(Confusion(**_counts(one["evaluation"]["best_f"]["confusion"])))
    return {
        fold: (100 * fmean(one.tpr or 0.0 for one in all_of), 100 * fmean(one.tnr or 0.0 for one in all_of))
        for fold, all_of in found.items()
    }


def _counts(values: Mapping[str, int]) -> dict[str, int]:
    return {key: values[key] for key in ("tp", "fp", "fn", "tn")}


def _columns(cell: Cell | None, table: Table) -> tuple[str, str, str]:
    if cell is None or cell.average_precision is None:
        return ("", "", "")
    spread = f" ± {cell.spread:.2f}" if cell.spread is not None else ""
    notes = [f"{len(cell.seeds)} seeds"] if len(cell.seeds) > 1 else []
    if cell.folds < len(table.folds):
        notes.append(f"{cell.folds} of {len(table.folds)} {'classes' if table.unit == 'class' else 'folds'}")
    if cell.incomplete:
        notes.append(f"without seed {', '.join(map(str, cell.incomplete))}: not finished")
    note = f" ({'; '.join(notes)})" if notes else ""
    return (f"{cell.average_precision:.2f}{spread}{note}", _sum(cell.best_f), _sum(cell.given))


def _sum(errors: tuple[float, float] | None) -> str:
    return "" if errors is None else f"{errors[0]:g}+{errors[1]:g}"


def _paper(reported: Reported | None, mark: str) -> tuple[str, str]:
    if reported is None or reported.average_precision is None:
        return ("", "")
    return (f"{reported.average_precision:g}{mark}", reported.errors)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
