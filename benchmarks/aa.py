"""A against A: two copies of one bundle in the same rounds must come out equal 19 times of 20.

Each repeat is a whole measurement as segdec bench makes it (sittings that open both anew, turns in shuffled order).
Counted is how often the 95 % interval of the ratio holds 1, and how often the rule of --baseline calls the second of
two successive repeats slower than the first, which it never should; aa_rule.py tells the same of repeats farther apart,
and what share of true slowdowns the rule finds. The result is written after every repeat; an interrupted run goes on
where it stopped, an altered one is refused.

    python benchmarks/aa.py compressed-int8.bundle -o benchmarks/results/aa.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from aa_rule import rule_on, rule_table
from entry import earlier, one_line, require_rounds
from scipy.stats import binom

from segdec_edge.bench.baseline import TOLERANCE, slower_samples
from segdec_edge.bench.forms import Form, Wish, forms_of
from segdec_edge.bench.machine import code_of, conditions, machine_of
from segdec_edge.bench.run import ROUNDS, SITTINGS, WARM_UP, made_pictures
from segdec_edge.bench.stages import INFER, turn_of
from segdec_edge.bundle import read_bundle
from segdec_edge.files import require_place, write_atomic
from segdec_edge.timing import CALLS, LEVEL, Floats, Visit, ratio_interval, sit_down, stage_of

Repeats = list[list[list[list[float]]]]
"""Of each repeat both forms' milliseconds, (sittings, calls)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backends", default="openvino", help="one or more of onnxruntime,openvino,tensorrt")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--sittings", type=int, default=SITTINGS)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--threads", type=int)
    parser.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args()
    require_rounds(asked.rounds, asked.sittings)
    require_rounds(asked.repeats, 1, "repeats")
    require_place(asked.out)
    record = begun(asked)
    with tempfile.TemporaryDirectory() as folder:
        copies = tuple(Path(folder) / f"{name}.bundle" for name in "ab")
        for copy in copies:
            shutil.copytree(asked.bundle, copy)
        for backend in asked.backends.split(","):
            first, second = pair_on(backend, copies)
            done: Repeats = record["milliseconds"].setdefault(backend, [])
            if done:
                record["results"][backend] = counted(done, backend)
            while len(done) < asked.repeats:
                done.append([np.round(one, 4).tolist() for one in repeat(first, second, len(done), asked)])
                record["results"][backend] = counted(done, backend)
                record["markdown"] = rule_table(record)
                record["after"] = conditions().model_dump(mode="json")
                write_atomic(asked.out, json.dumps(record) + "\n")


def begun(asked: Any) -> dict[str, Any]:
    """A new record, or the one that an interrupted run left."""
    bundle = read_bundle(asked.bundle)
    settings = {name: getattr(asked, name) for name in ("rounds", "sittings", "calls", "threads")}
    settings |= {"bundle": bundle.path.name, "sha256": bundle.meta.model.sha256, "size_hw": list(bundle.spec.size_hw)}
    machine, code = machine_of().model_dump(mode="json"), code_of().model_dump(mode="json")
    settings["commit"] = code["commit"]
    found = earlier(asked.out, "aa")
    if found is not None:
        differing = [name for name, value in settings.items() if found["settings"][name] != value]
        if differing or found["machine"] != machine:
            sys.exit(f"{asked.out}: was made with another {', '.join(differing) or 'machine'}. Give another -o.")
        return found
    state = conditions().model_dump(mode="json")
    return {
        "benchmark": "aa", "settings": settings, "machine": machine, "code": code,
        "before": state, "after": state, "results": {}, "milliseconds": {},
    }  # fmt: skip


def pair_on(backend: str, copies: tuple[Path, ...]) -> tuple[Form, Form]:
    """Raises ConfigError on an unknown backend; ends the process where this bundle has nothing for it."""
    found = forms_of(Wish(copies, backends=(backend,)))
    if len(found.forms) != 2:
        sys.exit(f"{backend}: {found.not_run[0].reason if found.not_run else 'wanted one form of the bundle'}")
    return found.forms[0], found.forms[1]


def repeat(first: Form, second: Form, number: int, asked: Any) -> tuple[Floats, Floats]:
    """One measurement of both copies; milliseconds (sittings, calls) each."""
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
            visit, begin = Visit(calls=asked.calls), sitting * rounds
            sittings.append(sit_down(turns, rounds, rng, visit=visit, warm_up=WARM_UP, first_round=begin))
    a, b = (stage_of(sittings, form.key, INFER) for form in (first, second))
    return a, b


def counted(repeats: Repeats, backend: str) -> dict[str, Any]:
    samples = [(np.array(a), np.array(b)) for a, b in repeats]
    intervals = [ratio_interval(a, b, number) for number, (a, b) in enumerate(samples)]
    held = sum(one.holds(1.0) for one in intervals)
    width = float(np.median([one.high / one.low for one in intervals if one.low and one.high]))
    successive = [slower_samples(old[0], new[0]) for old, new in pairwise(samples)]
    alarms = sum(one.low is not None and one.low > 1 + TOLERANCE for one in successive)
    share = held / len(repeats)
    so_few = float(binom.cdf(held, len(repeats), LEVEL))  # below 0.05 the intervals are too narrow
    print(
        f"{backend}: {held} of {len(repeats)} intervals hold 1, {100 * share:.0f} % (so few or fewer by chance where 95"
        f" % are right: {so_few:.2f}; high over low {width:.3f}, median);"
        f" {alarms} of {len(successive)} successive runs called slower; {time.strftime('%H:%M:%S')}",
        flush=True,
    )
    return {
        "held": held,
        "repeats": len(repeats),
        "share_held": share,
        "chance_of_so_few": so_few,
        "interval_width_median": width,
        "ratios": [[one.ratio, one.low, one.high] for one in intervals],
        "alarms_between_successive_repeats": alarms,
        "successive": len(successive),
        "rule": rule_on(repeats),
    }


if __name__ == "__main__":
    one_line(main)
