"""Accuracy and latency of one network in every form it can be deployed in, against plain torch in float32.

Each form is scored on the same held-out pictures through each runtime, and all of them are timed in turns, picture by
picture, in one run. The peer is the checkpoint as torch runs it in float32. Host time of one inference, batch 1; the
preparation of the picture is not in it, casting and scaling are.

    python benchmarks/deploy_table.py runs/kolektor/checkpoint.pt kolektor.bundle kolektor-folded.bundle ... \
        --data kolektor:PATH -o benchmarks/results/deploy_kolektor_fold0.json
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from segdec_edge import __version__
from segdec_edge.bundle import read_bundle
from segdec_edge.deploy.gate import Marks, compare, exam_for, sit
from segdec_edge.deploy.graph_read import read_network
from segdec_edge.deploy.network import operations
from segdec_edge.doctor import examine
from segdec_edge.errors import BackendError, BundleError
from segdec_edge.model.backend import open_checkpoint
from segdec_edge.pictures import prepare
from segdec_edge.runtime import backend_classes, open_backend
from segdec_edge.types import Backend

PICTURES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+", help="the first one: as exported")
    parser.add_argument("--data")
    parser.add_argument("--subset", default="test")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args()

    opened: dict[tuple[str, str], Backend] = {("checkpoint", "torch"): open_checkpoint(asked.checkpoint)}
    for path in asked.bundles:
        for runtime in backend_classes():
            with suppress(BackendError):
                opened[path.name.removesuffix(".bundle"), runtime] = open_backend(path, runtime)
    exam = exam_for(read_bundle(asked.bundles[0]), asked.data, asked.subset)
    marks: dict[tuple[str, str], Marks] = {}
    for key, backend in opened.items():
        marks[key] = sit(backend, exam)
        print(*key, marks[key].accuracy.ap, flush=True)
    samples = timed(opened, exam.samples[:PICTURES], asked.rounds)
    rows = [row(key, marks, samples, asked.bundles) for key in opened]
    asked.out.write_text(json.dumps(record(asked, rows, samples), indent=1) + "\n")
    print(table(rows))


def timed(opened: dict[tuple[str, str], Backend], samples: Any, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of each inference, all forms by turns."""
    spec = next(iter(opened.values())).spec
    pictures = [prepare(sample.read(), spec.size_hw, spec.channels)[None] for sample in samples]
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in opened}
    for index in range(rounds + 2):
        for key, backend in opened.items():
            start = time.perf_counter_ns()
            backend.infer(pictures[index % len(pictures)])
            if index >= 2:
                taken[key].append((time.perf_counter_ns() - start) / 1e6)
    return taken


def row(key: tuple[str, str], marks: dict[tuple[str, str], Marks], samples: Any, bundles: list[Path]) -> dict[str, Any]:
    name, runtime = key
    peer = ("checkpoint", "torch")
    found = compare(marks[peer], marks[key])
    ratios = np.array(samples[peer]) / np.array(samples[key])
    accuracy = found.after.accuracy
    facts: dict[str, Any] = {}
    if name != "checkpoint":
        bundle = read_bundle(next(path for path in bundles if path.name.removesuffix(".bundle") == name))
        facts = {"precision": bundle.meta.model.precision, "size_mb": bundle.meta.model.size_bytes / 1e6}
        with suppress(BundleError):
            counted = operations(read_network(bundle.model_path.read_bytes()), bundle.spec.size_hw)
            facts["gflop"] = sum(counted.values()) / 1e9
    return {
        "form": name,
        "runtime": runtime,
        **facts,
        "ap": accuracy.ap,
        "fp": accuracy.fp,
        "fn": accuracy.fn,
        "flips": len(found.flips),
        "score_rms": found.score_rms,
        "median_ms": float(np.median(samples[key])),
        "times_faster": float(np.median(ratios)),
        "times_faster_quartiles": [float(one) for one in np.percentile(ratios, (25, 75))],
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| form | runtime | precision | MB | GFLOP | AP | FP | FN | verdicts changed | ms | × torch |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        size, gflop = (f"{one[key]:.1f}" if key in one else "" for key in ("size_mb", "gflop"))
        lines.append(
            f"| {one['form']} | {one['runtime']} | {one.get('precision', 'fp32')} | {size} | {gflop} |"
            f" {one['ap']:.4f} | {one['fp']} | {one['fn']} | {one['flips']} | {one['median_ms']:.1f} |"
            f" {one['times_faster']:.1f} |"
        )
    return "\n".join(lines)


def record(asked: Any, rows: list[dict[str, Any]], samples: Any) -> dict[str, Any]:
    return {
        "segdec_edge": __version__,
        "data": (asked.data or "").split(":")[0],
        "subset": asked.subset,
        "pictures_timed": PICTURES,
        "rows": rows,
        "milliseconds": {f"{name} {runtime}": values for (name, runtime), values in samples.items()},
        "cpu": examine().cpu,
        "cores": examine().cores,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "onnx", "onnxruntime", "openvino", "numpy")},
    }


if __name__ == "__main__":
    main()
