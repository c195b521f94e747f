"""What each step from checkpoint to bundle scored on the same held-out pictures, of several bundles in one table.

Measures nothing: it reads what fold, compress and quantize noted in each bundle when their gate scored it.

    python -m benchmarks.lineages fold0.bundle fold1.bundle fold2.bundle -o benchmarks/results/optimize_folds.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.entry import one_line
from segdec_edge import __version__
from segdec_edge.bundle import read_bundle
from segdec_edge.deploy.lineage import LineageStep, bundle_facts, value_at
from segdec_edge.files import require_place, write_atomic

KEPT = ("subset", "backend", "ap", "fp", "fn", "threshold", "pictures", "when")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args()
    require_place(asked.out)
    found = [_bundle(path) for path in asked.bundles]
    lines = [line for one in found for line in _lines(one)]
    head = ["| trained on | step | model | AP | good rejected | missed | pictures |", "|---|---|---|---|---|---|---|"]
    table = "\n".join([*head, *lines]) + "\n"
    record = {"segdec_edge": __version__, "bundles": found, "markdown": table}
    write_atomic(asked.out, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(table, end="")


def _bundle(path: Path) -> dict[str, Any]:
    bundle = read_bundle(path)
    facts = bundle_facts(path)
    kind = str(value_at(facts.meta, "training", "settings", "data") or "").partition(":")[0]
    fold = value_at(facts.meta, "training", "settings", "fold")
    return {
        "data": kind if fold is None else f"{kind}, fold {fold}",
        "size_hw": bundle.meta.input.size_hw,
        "versions": dict(bundle.meta.versions),
        "steps": [_step(step) for step in facts.lineage],
    }


def _step(step: LineageStep) -> dict[str, Any]:
    """Without the data set's place on the machine that measured."""
    plain = asdict(step)
    plain["accuracy"] = [{key: one[key] for key in KEPT if key in one} for one in step.accuracy]
    return plain


def _lines(bundle: dict[str, Any]) -> list[str]:
    told = [(step, step["accuracy"][-1]) for step in bundle["steps"] if step["accuracy"]]
    return [
        f"| {bundle['data']} | {step['step']} | {step['sha256'][:12]} | {mark['ap']:.4f} | {mark['fp']} |"
        f" {mark['fn']} | {mark['pictures']} |"
        for step, mark in told
    ]


if __name__ == "__main__":
    one_line(main)
