"""A table of the paper from a data spec to results.json and table.md. Knows no row and no figure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from segdec_edge.data.words import take_apart, with_absolute_path
from segdec_edge.errors import ConfigError
from segdec_edge.files import make_folder, write_atomic
from segdec_edge.reproduce.execute import run_all
from segdec_edge.reproduce.notes import marked, notes
from segdec_edge.reproduce.paper import open_table
from segdec_edge.reproduce.pictures import Lookup
from segdec_edge.reproduce.plan import plan
from segdec_edge.reproduce.summary import read_results, summarise, to_json
from segdec_edge.reproduce.text import to_markdown
from segdec_edge.training.progress import TerminalObserver

RESULTS, TABLE = "results.json", "table.md"


@dataclass(frozen=True)
class Asked:
    """What a user asked for; rows and folds None: all of them; changes: settings for every training."""

    table: str
    data: str
    output: Path
    rows: tuple[str, ...] | None
    variants: tuple[str, ...]
    folds: tuple[int, ...] | None
    seeds: tuple[int, ...]
    changes: Mapping[str, Any]


def reproduce_table(asked: Asked, console: Console, side_by_side: int | None) -> str:
    """Run what is missing of a table and tell the whole of it, as Markdown; side_by_side None: run nothing.

    results.json and table.md are written anew in the end. Raises ConfigError, and as training and evaluation.
    """
    words = take_apart(asked.data)
    table = open_table(asked.table, words.kind, one_class="class" in words.options)
    planned = plan(
        table,
        with_absolute_path(asked.data),
        rows=asked.rows,
        variants=asked.variants,
        folds=asked.folds,
        seeds=asked.seeds,
        changes=asked.changes,
    )
    if side_by_side is None and not asked.output.is_dir():
        raise ConfigError(f"{asked.output}: no such folder, wanted one with trainings of a table. Mend --out.")
    _refuse_other_table(asked.output / RESULTS, table.key)
    lookup = Lookup()
    jobs = lookup.with_digests(planned)
    if side_by_side is not None:

        def say(text: str) -> None:
            console.print(text, markup=False)

        run_all(
            jobs,
            asked.output,
            lambda job: TerminalObserver(job.settings.total_epochs, console),
            say,
            side_by_side,
            lookup,
        )
    cells = summarise(table, jobs, asked.output)
    results = read_results(jobs, asked.output)
    make_folder(asked.output)
    told = notes(table, jobs, asked.changes, results)
    markdown = to_markdown(table, cells, results, told, marked(table, results))
    record = to_json(table, cells, results, asked.data) | {"notes": told, "markdown": markdown}
    write_atomic(asked.output / RESULTS, json.dumps(record, indent=1) + "\n")
    write_atomic(asked.output / TABLE, markdown)
    return markdown


def _refuse_other_table(path: Path, key: str) -> None:
    try:
        there = json.loads(path.read_text(encoding="utf-8"))["table"]
    except (OSError, ValueError, LookupError, TypeError):  # not there, or cut off: it is written anew
        return
    if there != key:
        raise ConfigError(
            f"{path}: holds table {there}, table {key} would take its place. Choose another folder: --out."
        )
