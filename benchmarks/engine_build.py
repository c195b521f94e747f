"""Size of the engine and seconds of its build, for each bundle (each of one precision) and each target GPU.

TensorRT-RTX builds for GPUs that are elsewhere; what it refuses is kept with its reason. The times say how long a build
takes here, not how fast an engine runs: kernels are chosen where the engine is first loaded.

    python benchmarks/engine_build.py parts.bundle parts-int8.bundle -o benchmarks/results/engine_build.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from entry import one_line, require_rounds

from segdec_edge import __version__
from segdec_edge.bundle import read_bundle
from segdec_edge.deploy.engine import BATCHES, build_engine
from segdec_edge.doctor import examine
from segdec_edge.errors import SegdecError
from segdec_edge.files import require_place, write_atomic
from segdec_edge.runtime.tensorrt_api import TensorRt, find_tensorrt


def measure(source: Path, target: str, repeats: int, tensorrt: TensorRt) -> dict[str, Any]:
    """One row: what was built, or why it was not. The bundle itself is not touched."""
    with TemporaryDirectory() as folder:
        bundle = read_bundle(
            shutil.copytree(source, Path(folder) / source.name, ignore=shutil.ignore_patterns("engines"))
        )
        row: dict[str, Any] = {
            "bundle": source.name,
            "precision": bundle.meta.model.precision,
            "onnx_sha256": bundle.meta.model.sha256,
            "onnx_mb": round(bundle.meta.model.size_bytes / 1e6, 1),
            "target": target,
        }
        seconds, processor_seconds, sizes = [], [], []
        for _ in range(repeats):
            before = time.process_time()
            try:
                facts = build_engine(bundle, target=target, tensorrt=tensorrt).facts
            except SegdecError as error:
                return {**row, "refused": str(error)}
            seconds.append(facts.build_seconds)
            processor_seconds.append(round(time.process_time() - before, 2))
            sizes.append(facts.plan_bytes)
    return {
        **row,
        "engine_mb": round(statistics.median(sizes) / 1e6, 1),
        "engine_bytes": sizes,
        "build_seconds": seconds,
        "processor_seconds": processor_seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--targets", default="sm75,sm86,sm89,sm120", help="GPUs, with commas; current for the one here")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/results/engine_build.json"))
    options = parser.parse_args()
    require_rounds(options.repeats, 1, "repeats")
    require_place(options.out)
    for bundle in options.bundles:
        read_bundle(bundle)

    targets = options.targets.split(",")
    tensorrt = find_tensorrt() if targets == ["current"] else find_tensorrt("tensorrt_rtx")
    machine = examine()
    rows = []
    print(f"{'bundle':<28} {'precision':<9} {'target':<8} {'ONNX MB':>8} {'engine MB':>9} {'build s':>8} {'CPU s':>8}")
    for bundle in options.bundles:
        for target in targets:
            row = measure(bundle, target, options.repeats, tensorrt)
            rows.append(row)
            start = f"{row['bundle']:<28} {row['precision']:<9} {target:<8} {row['onnx_mb']:>8}"
            if "refused" in row:
                print(f"{start} refused: {row['refused']}")
            else:
                wall, own = (statistics.median(row[key]) for key in ("build_seconds", "processor_seconds"))
                print(f"{start} {row['engine_mb']:>9} {wall:>8.1f} {own:>8.1f}")
    result = {
        "benchmark": "engine_build",
        "runtime": str(tensorrt),
        "batches": BATCHES,
        "rows": rows,
        "cpu": machine.cpu,
        "cores": machine.cores,
        "load_at_end": os.getloadavg(),
        "gpus": machine.gpus,
        "segdec-edge": __version__,
        "python": platform.python_version(),
    }
    write_atomic(options.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    one_line(main)
