"""Small tables to train, and results of made-up figures, that the tests of reproduce share."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from segdec_edge.reproduce.paper import open_table
from segdec_edge.reproduce.plan import Job, plan
from segdec_edge.reproduce.results import FREE
from segdec_edge.reproduce.run import Asked

SMALL = {
    "size_hw": [64, 128], "width": 0.25, "epochs": 2, "precision": "fp32", "device": "cpu", "tensorboard": False,
    "test": 0.3,
}  # fmt: skip


def asked(parts: Path, output: Path, **changes: object) -> Asked:
    values: dict[str, object] = {
        "table": "V", "data": f"folder:{parts}", "output": output, "rows": ("none", "all"), "variants": ("ours",),
        "folds": None, "seeds": (1,), "changes": SMALL,
    }  # fmt: skip
    return Asked(**(values | changes))  # type: ignore[arg-type]


def jobs_of(wanted: Asked) -> tuple[Job, ...]:
    table = open_table(wanted.table, wanted.data.partition(":")[0])
    return plan(table, wanted.data, rows=wanted.rows, seeds=wanted.seeds, changes=wanted.changes)


def write_result(
    output: Path, job: Job, variant: str = "ours", ap: float = 1.0, fp: int = 0, fn: int = 0, **more: object
) -> Path:
    """A result as run_job leaves it, of figures made up; without what earlier versions did not write."""
    point = {"confusion": {"tp": 5, "fp": fp, "fn": fn, "tn": 7}, "source": "best F-measure on the 9 training pictures"}
    values = {
        "row": job.row, "variant": variant, "fold": job.fold, "seed": job.seed,
        "settings": job.settings.model_dump(mode="json", exclude=set(FREE)),
        "versions": {"segdec-edge": "0.1.0"}, "device": "cpu", "precision": "fp32", "positives": 6, "negatives": 8,
        "evaluation": {"average_precision": ap, "best_f": point, "given": point},
    }  # fmt: skip
    path = output / job.folder / f"result-{variant}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values | more))
    return path


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)
