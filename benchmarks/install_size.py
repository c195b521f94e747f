"""What an installation takes on the disk: a fresh virtual environment for each, with nothing else in it.

    python -m benchmarks.install_size . '.[openvino]' '.[line]' -o benchmarks/results/install_size.json

Megabytes (10^6 bytes) of site-packages as the disk holds them, byte code included; pip itself is outside.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from benchmarks.entry import one_line
from benchmarks.peers.install import ROOT, size_mb
from segdec_edge.files import require_place, write_atomic

GOAL_MB = 250.0
LARGEST = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requirements", nargs="+", help="each as pip takes it, from the repository's root; + joins two")
    parser.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args()
    require_place(asked.out)
    found = {one: measured(one.split("+")) for one in asked.requirements}
    record = {
        "benchmark": "install_size", "goal_mb": GOAL_MB, "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}", "installations": found,
    }  # fmt: skip
    record["markdown"] = markdown(found)
    write_atomic(asked.out, json.dumps(record, indent=1) + "\n")
    print(record["markdown"])


def markdown(found: Mapping[str, Any]) -> str:
    lines = [f"| installed | MB (goal {GOAL_MB:.0f}) | of it |", "|---|---|---|"]
    for name, one in found.items():
        largest = ", ".join(f"{package} {size:.0f}" for package, size in list(one["packages_mb"].items())[:LARGEST])
        lines.append(f"| `pip install '{name}'` | {one['mb']:.0f} | {largest} |")
    return "\n".join(lines) + "\n"


def measured(requirements: Sequence[str]) -> dict[str, Any]:
    """Raises CalledProcessError where it cannot be installed."""
    with tempfile.TemporaryDirectory(prefix="segdec_size_") as folder:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(Path(folder) / "bin" / "python"), "install", "--quiet"]
        subprocess.run([*pip, *requirements], check=True, cwd=ROOT)
        packages = next(Path(folder).glob("lib/python*/site-packages"))
        sizes = {one.metadata["Name"]: files_mb(one) for one in distributions(path=[str(packages)])}
        versions = {one.metadata["Name"]: one.version for one in distributions(path=[str(packages)])}
        ordered = dict(sorted(sizes.items(), key=lambda item: -item[1]))
        return {"mb": size_mb(packages), "packages_mb": ordered, "versions": versions}


def files_mb(one: Distribution) -> float:
    """Of the files that a package says are its own, byte code among them."""
    paths = [Path(str(one.locate_file(file))) for file in one.files or ()]
    return sum(path.stat().st_blocks for path in paths if path.is_file()) * 512 / 1e6


if __name__ == "__main__":
    one_line(main)
