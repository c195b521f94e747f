"""How a network and what was made of it do when the light changes: each bundle on the same held-out pictures.

FeatureNorm adapts to the light by itself. A folded network has constants in its place and sees each picture brought to
the training brightness and contrast as a whole; what a camera cuts off at black and white stays lost to both.

    python -m benchmarks.lighting parts.bundle folded.bundle compressed-int8.bundle --data kolektor:PATH -o F.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.entry import one_line
from segdec_edge import __version__
from segdec_edge.bundle import Bundle, read_bundle
from segdec_edge.deploy.gate import Exam, Marks, compare, exam_for, marks_of
from segdec_edge.deploy.lighting import CHANGES, exams_in_light
from segdec_edge.files import require_place, write_atomic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+", help="the network as it was trained first")
    parser.add_argument("--data", required=True)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args()
    require_place(asked.out)
    bundles = [read_bundle(path) for path in asked.bundles]
    exam = exam_for(bundles[0], asked.data, "test", asked.backend)
    rows: list[dict[str, Any]] = []
    for change, lit in exams_in_light(exam):
        rows.extend(_rows(change, bundles, lit))
    changes = [{"name": name, "gain": gain, "offset": offset} for name, gain, offset in CHANGES]
    record = {"segdec_edge": __version__, "data": asked.data.partition(":")[0], "changes": changes, "rows": rows}
    write_atomic(asked.out, json.dumps({**record, "markdown": markdown(rows)}, indent=1, ensure_ascii=False) + "\n")


def _rows(change: str, bundles: list[Bundle], lit: Exam) -> list[dict[str, Any]]:
    found, first = [], None
    for bundle in bundles:
        marks = marks_of(bundle, lit)
        first = first or marks
        found.append(_row(change, bundle, first, marks))
        print(json.dumps(found[-1]), flush=True)
    return found


def _row(change: str, bundle: Bundle, first: Marks, marks: Marks) -> dict[str, Any]:
    """flips: verdicts that differ from the first bundle's in the same light."""
    accuracy = marks.accuracy
    return {
        "light": change, "bundle": bundle.path.stem, "sha256": bundle.meta.model.sha256, "backend": accuracy.backend,
        "ap": accuracy.ap, "fp": accuracy.fp, "fn": accuracy.fn, "pictures": accuracy.pictures,
        "flips": len(compare(first, marks).flips),
    }  # fmt: skip


def markdown(rows: list[dict[str, Any]]) -> str:
    """A line for each light, a column for each bundle: AP, good rejected + missed."""
    names = dict.fromkeys(row["bundle"] for row in rows)
    lines = [f"| light | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for light in dict.fromkeys(row["light"] for row in rows):
        cells = [f"{row['ap']:.4f}, {row['fp']}+{row['fn']}" for row in rows if row["light"] == light]
        lines.append(f"| {' | '.join([light, *cells])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    one_line(main)
