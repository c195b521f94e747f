"""How long the command line takes to load, and a station from its start to the first durable verdict, and why.

    python benchmarks/startup.py parts.bundle pictures -o benchmarks/results/startup.json [--before OTHER_CHECKOUT]

Every start is a new process; what is compared takes turns in shuffled order. Time to the first verdict: from starting
`segdec run` to the moment when another process sees the first row in the ledger. Its stages come from that row:
until the picture was taken, until it was decided, until the row was durable. Byte code is compiled beforehand, as an
installation has it. CPU seconds are the process's own: they hold on a busy machine, wall time does not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from compileall import compile_dir
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segdec_edge.bench.machine import code_of, conditions, machine_of
from segdec_edge.bundle import read_bundle
from segdec_edge.files import require_place, write_atomic
from segdec_edge.timing import COLD, Times, ratio_interval, sit_down, stage_of

IMPORTS = {
    "python -c pass": "pass",
    "import typer": "import typer",
    "import rich.console, typer": "import rich.console, typer",
    "import segdec_edge.cli": "import segdec_edge.cli",
}
HERE = Path(__file__).resolve().parents[1]
PATIENCE_S = 60.0
STATION = """\
[station]
bundle = {bundle}
backend = "{backend}"
[camera]
path = "list.txt"
rate_hz = 10.0
[ledger]
path = "ledger.sqlite"
"""
_IMPORT = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)$", re.MULTILINE)


def main() -> None:
    from entry import require_rounds  # a script's own folder; a test imports this as a package

    asked = arguments().parse_args()
    require_rounds(asked.rounds, asked.sittings)
    if asked.before is not None and not (asked.before / "segdec_edge").is_dir():
        sys.exit(f"{asked.before}: is no checkout of this project. Make one: git worktree add {asked.before} COMMIT")
    read_bundle(asked.bundle)
    require_place(asked.out)
    if not pictures_in(asked.pictures):
        sys.exit(f"{asked.pictures}: holds no .jpg or .png")
    with tempfile.TemporaryDirectory(prefix="segdec_startup_") as folder:
        work = Path(folder)
        trees = {"": HERE, **({"before, ": asked.before.resolve()} if asked.before else {})}
        for tree in trees.values():  # a fresh checkout has none, and PYTHONDONTWRITEBYTECODE leaves none
            compile_dir(tree / "segdec_edge", quiet=1)
        record: dict[str, Any] = {
            "benchmark": "startup", "rounds": asked.rounds // asked.sittings * asked.sittings,
            "sittings": asked.sittings,
            "machine": machine_of().model_dump(mode="json"), "code": code_of().model_dump(mode="json"),
            "conditions": conditions().model_dump(mode="json"),
        }  # fmt: skip
        names = [f"{prefix}{name}" for prefix in trees for name in IMPORTS]
        turns = {f"{prefix}{name}": partial(loaded, code, tree, work)
                 for prefix, tree in trees.items() for name, code in IMPORTS.items()}  # fmt: skip
        record["imports"] = measured(turns, asked, names)
        station = written(work, asked)
        turns = {f"{prefix}segdec run": partial(first_verdict, tree, station) for prefix, tree in trees.items()}
        record["first_verdict"] = measured(turns, asked, list(turns))
        record["loading_ms_by_package"] = {
            prefix or "now": by_package(import_times(tree, station)) for prefix, tree in trees.items()
        }
    record["markdown"] = in_words(record) + "\n"
    write_atomic(asked.out, json.dumps(record, indent=1) + "\n")
    print(in_words(record))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("pictures", type=Path, help="a folder")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--before", type=Path, help="another checkout, measured in the same rounds")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--sittings", type=int, default=6)
    parser.add_argument("-o", "--out", type=Path, required=True)
    return parser


def pictures_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.resolve().rglob("*") if path.suffix in (".jpg", ".png"))


def written(work: Path, asked: Any) -> Path:
    pictures = pictures_in(asked.pictures)[:3]
    (work / "list.txt").write_text("".join(f"{path}\n" for path in pictures), encoding="utf-8")
    station = work / "station.toml"
    bundle = json.dumps(str(asked.bundle.resolve()))
    station.write_text(STATION.format(bundle=bundle, backend=asked.backend), encoding="utf-8")
    return station


def measured(turns: Mapping[str, Any], asked: Any, names: Sequence[str]) -> dict[str, Any]:
    """Milliseconds of each stage by name: medians, raw samples, and the ratio to the same before."""
    rng, rounds = np.random.default_rng(0), asked.rounds // asked.sittings
    sittings = [
        sit_down(turns, rounds, rng, visit=COLD, warm_up=2 if number == 0 else 0, first_round=number * rounds)
        for number in range(asked.sittings)
    ]
    found = {}
    for name in names:
        stages = {stage: stage_of(sittings, name, stage) for stage in sittings[0].samples[name][0]}
        found[name] = {
            "median_ms": {stage: round(float(np.median(values)), 2) for stage, values in stages.items()},
            "least_ms": {stage: round(float(values.min()), 2) for stage, values in stages.items()},
            "samples_ms": {stage: np.round(values, 3).tolist() for stage, values in stages.items()},
        }
        if f"before, {name}" in names:
            ratio = ratio_interval(stage_of(sittings, f"before, {name}", "wall"), stages["wall"])
            found[name]["times_faster"] = [ratio.ratio, ratio.low, ratio.high]
    return found


def loaded(code: str, tree: Path, work: Path, _: int = 0) -> Times:
    start, before = time.perf_counter(), _children_s()
    subprocess.run([sys.executable, "-c", code], check=True, env=environment(tree, work), cwd=work)
    return {"wall": (time.perf_counter() - start) * 1000, "cpu": (_children_s() - before) * 1000}


def first_verdict(tree: Path, station: Path, _: int = 0) -> Times:
    """One start of segdec run, to its first row. Raises TimeoutError."""
    work = station.parent
    for old in work.glob("ledger.sqlite*"):
        old.unlink()
    started_ns, start, before = time.time_ns(), time.perf_counter(), _children_s()
    command = [sys.executable, "-m", "segdec_edge", "run", station.name]
    process = subprocess.Popen(command, cwd=work, env=environment(tree, work), stdout=subprocess.DEVNULL)
    captured_ns, decided_ns = _first_row(work / "ledger.sqlite", process)
    seen_ns = time.time_ns()
    wall = (time.perf_counter() - start) * 1000
    process.wait()
    return {
        "wall": wall,
        "until the picture": (captured_ns - started_ns) / 1e6,
        "until decided": (decided_ns - captured_ns) / 1e6,
        "until durable and seen": (seen_ns - decided_ns) / 1e6,
        "cpu of the whole run": (_children_s() - before) * 1000,
    }


def _first_row(ledger: Path, process: subprocess.Popen[bytes]) -> tuple[int, int]:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as opened:
                row = opened.execute("SELECT captured_ns, decided_ns FROM parts ORDER BY sequence LIMIT 1").fetchone()
            opened.close()
            if row is not None:
                return int(row[0]), int(row[1])
        except sqlite3.OperationalError:
            pass  # not there yet
        if process.poll():
            raise TimeoutError(f"segdec run ended with {process.returncode} before its first row")
        time.sleep(0.002)
    raise TimeoutError(f"no row within {PATIENCE_S} s")


def import_times(tree: Path, station: Path) -> dict[str, float]:
    """Milliseconds that loading each module took by itself, in one whole run. -X importtime itself costs some."""
    command = [sys.executable, "-X", "importtime", "-m", "segdec_edge", "run", station.name]
    done = subprocess.run(
        command, cwd=station.parent, env=environment(tree, station.parent), capture_output=True, text=True, check=True
    )
    return parsed(done.stderr)


def parsed(text: str) -> dict[str, float]:
    """What -X importtime says, as milliseconds by module."""
    return {name: int(microseconds) / 1000 for microseconds, name in _IMPORT.findall(text)}


def by_package(modules: Mapping[str, float]) -> dict[str, float]:
    """Summed over each top package, the largest first; what takes less than 1 ms is together under "other"."""
    sums: Counter[str] = Counter()
    for name, milliseconds in modules.items():
        sums[name.split(".")[0]] += milliseconds
    large = {name: round(value, 1) for name, value in sums.most_common() if value >= 1}
    return {**large, "other": round(sum(value for value in sums.values() if value < 1), 1)}


def environment(tree: Path, work: Path) -> dict[str, str]:
    """A process that imports that checkout, with byte code kept between the starts."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")}
    return {**kept, "PYTHONPATH": str(tree), "PYTHONPYCACHEPREFIX": str(work / "pycache")}


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def in_words(record: Mapping[str, Any]) -> str:
    lines = ["| start | stage | median ms | least ms | times faster than before |", "|---|---|---|---|---|"]
    for name, found in {**record["imports"], **record["first_verdict"]}.items():
        for stage, value in found["median_ms"].items():
            ratio = found.get("times_faster") if stage == "wall" else None
            words = f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})" if ratio and ratio[1] else ""
            lines.append(f"| {name} | {stage} | {value:.1f} | {found['least_ms'][stage]:.1f} | {words} |")
    for name, packages in record["loading_ms_by_package"].items():
        lines.append(f"\nLoading, {name} (ms): " + ", ".join(f"{one} {value}" for one, value in packages.items()))
    return "\n".join(lines)


if __name__ == "__main__":
    from entry import one_line

    one_line(main)
