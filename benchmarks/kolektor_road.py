"""The whole road on one KolektorSDD fold through the command line; does the ledger say what the evaluation says?

    python benchmarks/kolektor_road.py KolektorSDD --work runs/fold0 -o benchmarks/results/kolektor_fold0.json

A finished training in --work is reused (segdec train --resume). The peer is the plain prototype of the method: AP 0.997
with one error of 135 after 35 epochs at 704×256, 1.18 s a step on other 2-core hardware.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from entry import one_line

from segdec_edge.data.spec import open_dataset
from segdec_edge.doctor import examine
from segdec_edge.files import make_folder, require_place, write_atomic
from segdec_edge.outputs.ledger import read_rows

PACKAGES = ("segdec-edge", "torch", "onnx", "onnxruntime", "openvino", "numpy", "opencv-python")
STATION = """\
[station]
bundle = "kolektor.bundle"
backend = "{backend}"
timeout_s = 60.0
[camera]
path = "lists/test.txt"
[ledger]
path = "{backend}.sqlite"
[archive]
path = "archive-{backend}"
"""


def segdec(commands: list[str], *arguments: object) -> None:
    words = [str(argument) for argument in arguments]
    commands.append("segdec " + shlex.join(words))
    print("$", commands[-1], flush=True)
    subprocess.run([sys.executable, "-c", "from segdec_edge.cli import main; main()", *words], check=True)


def scores(folder: Path) -> dict[str, float]:
    with (folder / "scores.csv").open() as file:
        return {row["path"]: float(row["score"]) for row in csv.DictReader(file)}


def compare(work: Path, backend: str) -> dict[str, Any]:
    """Station against evaluation, picture by picture."""
    evaluation = json.loads((work / f"by-{backend}" / "evaluation.json").read_text())
    threshold = evaluation["given"]["threshold"]
    wanted = {str(Path(path).resolve()): score for path, score in scores(work / f"by-{backend}").items()}
    rows = list(read_rows(work / f"{backend}.sqlite"))
    latest = max(row.run_id for row in rows)
    rows = [row for row in rows if row.run_id == latest]
    verdicts = {row.source: row for row in rows}
    return {
        "evaluation": evaluation,
        "station_rows": len(rows),
        "sources_equal": set(verdicts) == set(wanted),
        "verdicts_that_differ": sum(
            row.verdict != ("DEFECT" if wanted[row.source] >= threshold else "OK") for row in rows
        ),
        "largest_score_difference": max(abs((row.score or 0.0) - wanted[row.source]) for row in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--size", default="704x256")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    require_place(arguments.output)
    open_dataset(f"kolektor:{arguments.data}")
    make_folder(arguments.work)
    work, spec, commands = arguments.work, f"kolektor:{arguments.data}", []
    segdec(
        commands, "train", "--data", spec, "--preset", "kolektor", "--fold", arguments.fold, "--size", arguments.size,
        "--precision", "bf16", "-o", work, "--resume",
    )  # fmt: skip
    segdec(commands, "evaluate", work / "checkpoint.pt", "-o", work / "by-torch")
    segdec(commands, "export", work / "checkpoint.pt", "-o", work / "kolektor.bundle")
    segdec(commands, "data", "split", spec, "--fold", arguments.fold, "-o", work / "lists")
    compared = {}
    for backend in ("openvino", "onnxruntime"):
        segdec(commands, "evaluate", work / "kolektor.bundle", "--backend", backend, "-o", work / f"by-{backend}")
        (work / f"{backend}.toml").write_text(STATION.format(backend=backend))
        segdec(commands, "run", work / f"{backend}.toml")
        compared[backend] = compare(work, backend)
    log = [json.loads(line) for line in (work / "log.jsonl").read_text().splitlines()]
    report = examine()
    record = {
        "benchmark": "kolektor_road",
        "commands": commands,
        "torch": json.loads((work / "by-torch" / "evaluation.json").read_text()),
        "backends": compared,
        "training_log": log,
        "machine": {"cpu": report.cpu, "cores": report.cores},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    # Where the pictures lay on the machine that measured is nobody's business.
    text = json.dumps(record, indent=1).replace(str(arguments.data.resolve()), "KolektorSDD")
    write_atomic(arguments.output, text.replace(str(arguments.data), "KolektorSDD") + "\n")
    for backend, one in compared.items():
        ap = one["evaluation"]["average_precision"]
        print(f"{backend}: AP {ap:.4f}, {one['station_rows']} rows, {one['verdicts_that_differ']} verdicts differ")


if __name__ == "__main__":
    one_line(main)
