"""How much a split gives away: MagneticTile by tile and by picture, judged by the most similar training picture alone.

    python benchmarks/leak.py magnetic:PATH -o benchmarks/results/leak_magnetic.json

Nothing is trained. A test picture's score: the correlation of its thumbnail (32×32, grey) with the most similar
defective training picture less that with the most similar good one. What this scores above chance, which is the share
of defective pictures, a split by picture gives to any method.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from entry import one_line

from segdec_edge.bench.machine import code_of
from segdec_edge.data.samples import Dataset, Sample
from segdec_edge.data.spec import open_dataset
from segdec_edge.data.splits import choose_split
from segdec_edge.data.twins import thumbnail_of
from segdec_edge.evaluation.metrics import average_precision
from segdec_edge.files import require_place, write_atomic

SIDE = 32
GROUPS = {"tile": "no tile divided", "picture": "by picture"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="magnetic:PATH")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--test", type=float, default=0.3, help="share of the test pictures")
    parser.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args()
    require_place(asked.out)
    rows = []
    for group in GROUPS:
        dataset = open_dataset(f"{asked.data},group={group}")
        vectors = {sample.name: thumbnail(sample) for sample in dataset.samples}
        rows += [{"group": group, "seed": seed, **judged(dataset, vectors, seed, asked.test)} for seed in asked.seeds]
    record = {
        "benchmark": "leak", "data": asked.data.partition(":")[0], "test": asked.test, "rows": rows,
        "code": code_of().model_dump(mode="json"), "markdown": markdown(rows, asked.seeds),
    }  # fmt: skip
    write_atomic(asked.out, json.dumps(record, indent=1) + "\n")
    print(record["markdown"])


def thumbnail(sample: Sample) -> Any:
    pixels = sample.read()
    grey = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    return thumbnail_of(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float64))


def judged(dataset: Dataset, vectors: dict[str, Any], seed: int, test: float) -> dict[str, Any]:
    """Average precision of the look-up on the test pictures of a split, and the share of defective ones in it."""
    split = choose_split(dataset, seed=seed, validation=0.0, test=test)
    trained, tested = dataset.named(split.train), dataset.named(split.test)
    seen = {kind: np.stack([vectors[one.name] for one in trained if one.positive is kind]) for kind in (True, False)}
    asked = np.stack([vectors[one.name] for one in tested])
    scores = (asked @ seen[True].T).max(axis=1) - (asked @ seen[False].T).max(axis=1)
    labels = np.array([one.positive for one in tested])
    return {"ap": round(float(average_precision(labels, scores)), 4), "chance": round(float(labels.mean()), 4)}


def markdown(rows: Sequence[dict[str, Any]], seeds: Sequence[int]) -> str:
    lines = [
        "| divided | " + " | ".join(f"AP, seed {seed}" for seed in seeds) + " | chance |",
        "|---" * (len(seeds) + 2) + "|",
    ]
    for group, words in GROUPS.items():
        own = [row for row in rows if row["group"] == group]
        chance = f"{min(row['chance'] for row in own):.2f} to {max(row['chance'] for row in own):.2f}"
        lines.append(f"| {words} | " + " | ".join(f"{row['ap']:.3f}" for row in own) + f" | {chance} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    one_line(main)
