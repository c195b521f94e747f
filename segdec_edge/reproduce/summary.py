"""Results of a table's trainings, summed up as the paper does. Trains nothing.

As the paper: average precision is the mean over folds, false positives and negatives are summed over them; then mean
and spread over seeds. A seed that lacks a fold is left out and named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from segdec_edge.data.words import without_folders
from segdec_edge.evaluation.metrics import Confusion
from segdec_edge.reproduce.paper import Table
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
    """Every result that is there, under the row and variant that it is asked for as: the same settings may have been
    trained for another table. Raises as find_result: a file that is no result, or one of other settings or data.
    """
    found = [(job, variant, find_result(output, job, variant)) for job in jobs for variant, _ in job.variants]
    return [{**one[1], "row": job.row, "variant": variant} for job, variant, one in found if one]


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
