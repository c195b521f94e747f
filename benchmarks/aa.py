"""A against A: two copies of one bundle in the same rounds must come out equal 19 times of 20.

Each repeat is a whole measurement as segdec bench makes it (sittings that open both anew, rounds in turns, order
shuffled). Counted is how often the 95 % interval of the ratio holds 1, and how often the rule of --baseline calls the
second of two successive repeats slower than the first, which it never should.

    python benchmarks/aa.py parts.bundle --repeats 40 -o benchmarks/results/aa.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from segdec_edge.bench.baseline import TOLERANCE, slower_samples
from segdec_edge.bench.forms import Form, Wish, forms_of
from segdec_edge.bench.machine import code_of, conditions, machine_of
from segdec_edge.bench.run import ROUNDS, SITTINGS, WARM_UP, made_pictures
from segdec_edge.bench.stages import INFER, turn_of
from segdec_edge.timing import Floats, Interval, ratio_interval, sit_down, stage_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backends", default="onnxruntime,openvino")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--sittings", type=int, default=SITTINGS)
    parser.add_argument("--threads", type=int)
    parser.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args()

    results: dict[str, Any] = {}
    before = conditions()
    with tempfile.TemporaryDirectory() as folder:
        copies = tuple(Path(folder) / f"{name}.bundle" for name in "ab")
        for copy in copies:
            shutil.copytree(asked.bundle, copy)
        for backend in asked.backends.split(","):
            first, second = forms_of(Wish(copies, backends=(backend,))).forms
            results[backend] = counted(
                [repeat(first, second, number, asked) for number in range(asked.repeats)], backend
            )
    record = {
        "benchmark": "aa", "rounds": asked.rounds, "sittings": asked.sittings, "threads": asked.threads,
        "machine": machine_of().model_dump(mode="json"), "code": code_of().model_dump(mode="json"),
        "before": before.model_dump(mode="json"), "after": conditions().model_dump(mode="json"), "results": results,
    }  # fmt: skip
    asked.out.write_text(json.dumps(record, indent=1) + "\n")


def repeat(first: Form, second: Form, number: int, asked: Any) -> tuple[Floats, Floats, Interval]:
    """One measurement of both copies; milliseconds (sittings, rounds) each."""
    rng, rounds = np.random.default_rng(number), asked.rounds // asked.sittings
    spec = first.spec
    pictures = made_pictures(8, spec.size_hw, spec.channels)
    sittings = []
    for sitting in range(asked.sittings):
        with ExitStack() as opened:
            turns = {
                form.key: turn_of(opened.enter_context(closing(form.open(asked.threads))), spec, pictures, 1)
                for form in (first, second)
            }
            sittings.append(sit_down(turns, rounds, rng, warm_up=WARM_UP, first_round=sitting * rounds))
    a, b = (stage_of(sittings, form.key, INFER) for form in (first, second))
    return a, b, ratio_interval(a, b, number)


def counted(repeats: list[tuple[Floats, Floats, Interval]], backend: str) -> dict[str, Any]:
    held = sum(interval.holds(1.0) for _, _, interval in repeats)
    widths = [interval.high / interval.low for _, _, interval in repeats if interval.low and interval.high]
    successive = [slower_samples(old[0], new[0]) for old, new in pairwise(repeats)]
    alarms = sum(one.low is not None and one.low > 1 + TOLERANCE for one in successive)
    print(
        f"{backend}: {held} of {len(repeats)} intervals hold 1 (width {np.median(widths):.3f}, median);"
        f" {alarms} of {len(successive)} successive runs called slower; {time.strftime('%H:%M')}",
        flush=True,
    )
    return {
        "held": held,
        "repeats": len(repeats),
        "interval_width_median": float(np.median(widths)),
        "ratios": [[interval.ratio, interval.low, interval.high] for _, _, interval in repeats],
        "alarms_between_successive_repeats": alarms,
        "successive": len(successive),
        "milliseconds": [[np.round(a, 4).tolist(), np.round(b, 4).tolist()] for a, b, _ in repeats],
    }


if __name__ == "__main__":
    main()
