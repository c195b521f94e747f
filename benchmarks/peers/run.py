"""Ours against what else there is, on the same pictures in the same run, each in an environment of its own.

    python benchmarks/peers/install.py plain_torch torch_compile plain_onnxruntime plain_openvino \\
        anomalib_efficientad ultralytics_segment segdec
    python -m benchmarks.peers.run parts.pt parts.bundle parts-int8.bundle --data folder:parts -o peers.json \\
        --markdown peers.md

Timed: from the decoded uint8 picture in the process's memory to the verdict, so preparing counts for all alike. All
peers are open at the same time, each in its own process, and take turns in shuffled order. Just before each timed call
the same peer makes an untimed one on the same picture, so that none pays for the caches that another left behind
(--cold leaves it out). Threads that still spin are waited for, not forbidden: OMP_WAIT_POLICY=passive would slow down
torch's own waking, to our advantage. All have the same number of threads. Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.entry import one_line, require_rounds
from benchmarks.peers.child import Child, PeerError, settle
from benchmarks.peers.install import HERE, VENVS, python_of, site_packages, size_mb
from benchmarks.peers.known import PLAIN, Entrant, chosen, other_methods, our_forms, plain_peers
from benchmarks.peers.prepare import (
    Material,
    anomalib_export,
    material,
    plain_export,
    require_its_checkpoint,
    ultralytics_training,
)
from benchmarks.peers.table import (
    INFER,
    TOTAL,
    Marks,
    Row,
    changed_verdicts,
    lines_of,
    markdown,
    marks_of,
    picked_threshold,
    plain_values,
    samples_of,
    timed_row,
)
from segdec_edge.bench.machine import code_of, condition_flags, conditions, machine_of
from segdec_edge.bench.run import WARM_UP
from segdec_edge.bundle import Bundle, read_bundle
from segdec_edge.data.words import without_folders
from segdec_edge.files import make_folder, require_place, write_atomic
from segdec_edge.timing import COLD, Sitting, Times, Turn, drift_flag, sit_down, stage_of

PICTURES = 8
PLAIN_VENV = "plain_torch"


@dataclass
class Found:
    """What a run gathers. scores: of the judged subset, by peer; told, opened: answers to "open"."""

    not_run: dict[str, str] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)
    marks: dict[str, Marks] = field(default_factory=dict)
    opened: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    peak_mib: dict[str, float] = field(default_factory=dict)
    windows: dict[str, list[float]] = field(default_factory=dict)
    waited_s: float = 0.0


def main() -> None:
    asked = arguments().parse_args()
    require_rounds(asked.rounds, asked.sittings)
    for path in (asked.out, asked.markdown):
        if path is not None:
            require_place(path)
    bundles = [read_bundle(path) for path in asked.bundles]
    require_its_checkpoint(bundles[0], asked.checkpoint)
    if not python_of(PLAIN_VENV).exists():
        raise PeerError(f"what all are compared with is not installed: python benchmarks/peers/install.py {PLAIN_VENV}")
    before = conditions()
    make_folder(asked.work)
    given = material(bundles[0], asked.data, asked.subset, asked.work.resolve(), asked.limit)
    found = Found()
    entrants = made_ready(asked, bundles, given, found)
    entrants = all_judged(entrants, given, asked.threads, found)
    sittings = [sitting(entrants, given, asked, number, found) for number in range(asked.sittings)]
    if asked.seconds:
        windows(entrants, given, asked, found)
    write(asked, entrants, sittings, found, before)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "bundles", type=Path, nargs="+", help="ours; the first names split, size and the checkpoint's threshold"
    )
    parser.add_argument("--data", help="the data set; none: the one trained on")
    parser.add_argument("--subset", default="test")
    parser.add_argument("--limit", type=int, help="judge so many defective and so many good pictures alone, for a try")
    parser.add_argument("--peers", default="all", help="all, or some of the scripts here, comma-separated")
    parser.add_argument("--backends", default="openvino,onnxruntime", help="of ours")
    parser.add_argument("--rounds", type=int, default=48)
    parser.add_argument("--sittings", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a throughput window, 0 for none")
    parser.add_argument("--passes", type=int, default=3, help="throughput windows of each peer")
    parser.add_argument("--epochs", type=int, default=30, help="of the Ultralytics training")
    parser.add_argument("--cold", action="store_true", help="no untimed call before each timed one")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--markdown", type=Path)
    return parser


def made_ready(asked: Any, bundles: Sequence[Bundle], given: Material, found: Found) -> list[Entrant]:
    """All that was asked for and can be prepared; the reasons of the others go into found.not_run."""
    thresholds = [one.spec.threshold for one in bundles]
    entrants = [
        *plain_peers(asked.checkpoint.resolve(), given.work / "plain.onnx", thresholds[0]),
        *other_methods(given.work, asked.epochs),
        *our_forms([path.resolve() for path in asked.bundles], thresholds, asked.backends.split(",")),
    ]
    try:
        entrants = chosen(entrants, asked.peers)
    except ValueError as error:
        raise PeerError(f"--peers {error}") from None
    steps = {
        "plain_onnxruntime": lambda: plain_export(asked.checkpoint.resolve(), given),
        "plain_openvino": lambda: plain_export(asked.checkpoint.resolve(), given),
        "anomalib_efficientad": lambda: anomalib_export(given),
        "ultralytics_segment": lambda: ultralytics_training(given, bundles[0], asked.data, asked.epochs, asked.limit),
    }
    failed: dict[str, str] = {}
    for script in dict.fromkeys(one.script for one in entrants if one.script in steps):
        print("preparing", script, flush=True)
        try:
            steps[script]()
        except PeerError as error:
            failed[script] = told(str(error), given)
    found.not_run |= {one.name: failed[one.script] for one in entrants if one.script in failed}
    return [one for one in entrants if one.script not in failed]


def opened(one: Entrant, given: Material, threads: int, place: int = 0) -> tuple[Child, dict[str, Any]]:
    """place: which share of the cores is its own, where several instances run. Raises PeerError."""
    child = Child(one.script, one.venv, given.work)
    try:
        answer = child.ask(
            "open", model=str(one.model), threshold=one.threshold, options=dict(one.options), threads=threads,
            cores=share(sorted(os.sched_getaffinity(0)), threads, place), size_hw=given.size_hw,
            channels=given.channels,
        )  # fmt: skip
    except PeerError:
        child.close()
        raise
    return child, answer


def share(cores: Sequence[int], threads: int, place: int) -> list[int]:
    """`threads` cores of their own for each place; all where there are not so many."""
    return list(cores[place * threads : (place + 1) * threads]) or list(cores)


def all_judged(entrants: Sequence[Entrant], given: Material, threads: int, found: Found) -> list[Entrant]:
    """Those that run. Raises PeerError as soon as the plain one, which all are compared with, does not."""
    ready = []
    for one in sorted(entrants, key=lambda one: one.name != PLAIN):
        if (scored := judged(one, given, threads, found)) is not None:
            ready.append(scored)
        elif one.name == PLAIN:
            raise PeerError(f"{PLAIN}, which all are compared with, does not run: {found.not_run[PLAIN]}")
    return ready


def judged(one: Entrant, given: Material, threads: int, found: Found) -> Entrant | None:
    """Score the subset; a threshold that is not given is picked on training pictures. None where it does not run."""
    print("scoring", one.name, flush=True)
    try:
        child, _ = opened(one, given, threads)
        with child:
            if not one.unjudged:
                if one.threshold is None:
                    scores = scores_of(child, given.train_files)
                    one = replace(one, threshold=picked_threshold(given.train_labels, scores))
                assert one.threshold is not None
                found.scores[one.name] = scores_of(child, given.files)
                found.marks[one.name] = marks_of(given.labels, found.scores[one.name], one.threshold)
            else:
                scores_of(child, given.files[:1])
    except PeerError as error:
        found.not_run[one.name] = told(str(error), given)
        return None
    return one


def scores_of(child: Child, files: Sequence[Path]) -> list[float]:
    return [child.ask("score", file=str(path))["score"] for path in files]


def sitting(entrants: Sequence[Entrant], given: Material, asked: Any, number: int, found: Found) -> Sitting[str]:
    """One opening of all of them, in turns."""
    print(f"sitting {number + 1} of {asked.sittings}", flush=True)
    rounds = asked.rounds // asked.sittings
    files = [str(path) for path in given.files[:PICTURES]]
    with ExitStack() as stack:
        turns: dict[str, Turn] = {}
        children: dict[str, Child] = {}
        for one in entrants:
            child, answer = opened(one, given, asked.threads)
            stack.enter_context(child)
            found.opened.setdefault(one.name, []).append(answer)
            child.ask("pictures", files=files)
            children[one.name] = child
        pids = [child.pid for child in children.values()]
        for name, child in children.items():
            turns[name] = turn_of(child, pids, 0 if asked.cold else 1, found)
        rng = np.random.default_rng(number)
        done = sit_down(turns, rounds, rng, visit=COLD, warm_up=WARM_UP, first_round=number * rounds)
        for name, child in children.items():  # a fresh process that holds the timed pictures alone, alike for all
            found.peak_mib[name] = max(found.peak_mib.get(name, 0.0), child.ask("memory")["peak_mib"])
        return done


def turn_of(child: Child, pids: Sequence[int], before: int, found: Found) -> Turn:
    def turn(index: int) -> Times:
        found.waited_s = max(found.waited_s, settle(pids))
        answer = child.ask("judge", index=index, before=before)
        times = {TOTAL: answer["total_ms"]}
        return times if answer["infer_ms"] is None else {**times, INFER: answer["infer_ms"]}

    return turn


def windows(entrants: Sequence[Entrant], given: Material, asked: Any, found: Found) -> None:
    """Flat out, in turns: as many instances as there are cores for, with one thread each."""
    files = [str(path) for path in given.files[:PICTURES]]
    for number in range(asked.passes):
        print(f"throughput, pass {number + 1} of {asked.passes}", flush=True)
        for one in entrants:
            with ExitStack() as stack:
                crew = [stack.enter_context(opened(one, given, 1, place)[0]) for place in range(asked.threads)]
                for child in crew:
                    child.ask("pictures", files=files)
                    child.ask("judge", index=0)
                for child in crew:
                    child.tell("flat_out", seconds=asked.seconds)
                rate = sum(child.hear()["pictures_per_s"] for child in crew)
            found.windows.setdefault(one.name, []).append(rate)


def rows_of(entrants: Sequence[Entrant], sittings: Sequence[Sitting[str]], found: Found) -> list[Row]:
    plain = next(one for one in entrants if one.name == PLAIN)
    rows = []
    for one in entrants:
        answers = found.opened[one.name]
        row = timed_row(one.name, PLAIN, sittings, answers[0]["told"], answers)
        row.marks, row.peak_mib = found.marks.get(one.name), found.peak_mib[one.name]
        if row.marks and one.name != PLAIN and one.script != "ultralytics_segment":
            assert plain.threshold is not None
            changed = changed_verdicts(
                found.scores[PLAIN], plain.threshold, found.scores[one.name], row.marks.threshold
            )
            row.marks = replace(row.marks, changed=changed)
        rates = found.windows.get(one.name, [])
        row.pictures_per_s = median(rates) if rates else None
        row.pictures_per_s_samples = [round(rate, 3) for rate in rates]
        folder = site_packages(one.venv)
        row.install_mb = size_mb(folder) if folder else None
        row.lines = lines_of((HERE / "snippets" / f"{one.script}.py").read_text(encoding="utf-8"))
        row.notes += [note for note in (one.unjudged, one.note) if note]
        rows.append(row)
    return rows


def write(asked: Any, entrants: Sequence[Entrant], sittings: Sequence[Sitting[str]], found: Found, before: Any) -> None:
    machine, after = machine_of(), conditions()
    rows = rows_of(entrants, sittings, found)
    totals = {one.name: stage_of(sittings, one.name, TOTAL) for one in entrants}
    flags = [flag for flag in (*condition_flags(before, after, machine.cores), drift_flag(totals)) if flag]
    settings = {
        "rounds": rounds_run(asked), "sittings": asked.sittings,
        "threads": asked.threads, "warm_up": WARM_UP, "cold": asked.cold, "seconds": asked.seconds,
        "passes": asked.passes, "pictures_timed": PICTURES,
        "data": without_folders(asked.data or "") or None, "subset": asked.subset,
        "limit": asked.limit,
        "epochs": asked.epochs, "longest_wait_for_spinning_threads_s": found.waited_s,
    }  # fmt: skip
    record = {
        "benchmark": "peers", "settings": settings, "machine": machine.model_dump(mode="json"),
        "code": code_of().model_dump(mode="json"), "before": before.model_dump(mode="json"),
        "after": after.model_dump(mode="json"), "flags": flags, "not_run": found.not_run,
        "rows": [plain_values(row) for row in rows], "scores": found.scores,
        "milliseconds": {one.name: samples_of(sittings, one.name) for one in entrants},
        "order": [list(drawn) for one in sittings for drawn in one.order],
    }  # fmt: skip
    text = markdown(rows, found.not_run, notes(asked, machine, flags))
    record["markdown"] = text
    write_atomic(asked.out, json.dumps(record, indent=1) + "\n")
    if asked.markdown:
        write_atomic(asked.markdown, text)
    print(text)


def notes(asked: Any, machine: Any, flags: Sequence[str]) -> list[str]:
    before = "no call before it (--cold)" if asked.cold else "one untimed call on the same picture just before it"
    return [
        f"a picture from decoded pixels in memory to the verdict, {asked.threads} threads each, {before};"
        f" {rounds_run(asked)} rounds in {asked.sittings} sittings, in turns, shuffled; every peer in its own process"
        " and environment",
        f"peak MiB: of a process that was opened anew, with the {PICTURES} timed pictures alone in its memory",
        f"pictures/s: {asked.threads} instances with one thread each",
        f"times faster: than {PLAIN}, whole picture: the ratio of the two p50, its interval from whole sittings",
        "install MB: all of the peer's site-packages, nothing else in them; lines: benchmarks/peers/snippets/, from a"
        " trained file to the verdict on one picture, the network's own definition not counted",
        f"{machine.cpu}, {machine.cores} cores",
        *(f"DOUBT: {flag}" for flag in flags),
    ]


def rounds_run(asked: Any) -> int:
    """As many in every sitting."""
    return int(asked.rounds // asked.sittings * asked.sittings)


def told(reason: str, given: Material) -> str:
    """Without this machine's folders: a record travels."""
    for folder in (given.work, VENVS, HERE.parents[1]):
        reason = reason.replace(f"{folder}/", "")
    return reason


if __name__ == "__main__":
    try:
        one_line(main)
    except PeerError as error:
        raise SystemExit(f"run.py: {error}") from None
