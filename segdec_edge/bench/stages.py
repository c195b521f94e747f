"""One call of one form taken apart into stages, and what opening it costs in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segdec_edge.bench.forms import Form, Peer
from segdec_edge.decision import Rule, decide
from segdec_edge.errors import BackendError
from segdec_edge.pictures import prepare, refuse_flat
from segdec_edge.timing import Times, Turn
from segdec_edge.types import ModelSpec, Pixels, Prediction

PREPARE, INFER, DECIDE = "prepare", "infer", "decide"
COPY_IN, DEVICE, COPY_OUT = "copy_in", "device", "copy_out"
STAGES = (PREPARE, COPY_IN, INFER, DEVICE, COPY_OUT, DECIDE)
"""copy_in, device and copy_out are the device's own times and lie within infer."""
_TRIAL_S = 600


def turn_of(peer: Peer, spec: ModelSpec, pictures: Sequence[Pixels], batch: int) -> Turn:
    """A function that takes `batch` pictures, from where the round's number points, from pixels to decisions.

    pictures: as the camera gives them, (H, W) or (H, W, 3). Raises BackendError, PictureError.
    """
    rule = Rule(spec.threshold)

    def turn(index: int) -> Times:
        raw = [pictures[(index * batch + offset) % len(pictures)] for offset in range(batch)]
        start = time.perf_counter_ns()
        pixels = prepared(raw, spec)
        ready = time.perf_counter_ns()
        prediction = peer.infer(pixels)
        told = time.perf_counter_ns()
        decide_all(prediction, rule)
        end = time.perf_counter_ns()
        times = {PREPARE: (ready - start) / 1e6, INFER: (told - ready) / 1e6, DECIDE: (end - told) / 1e6}
        return {**times, **_device_times(peer)}

    return turn


def prepared(raw: Sequence[Pixels], spec: ModelSpec, name: str = "picture") -> Pixels:
    """(N, H, W, C), with what the station checks on the way. Raises PictureError."""
    ready = [refuse_flat(prepare(one, spec.size_hw, spec.channels), name) for one in raw]
    return ready[0][None] if len(ready) == 1 else np.stack(ready)


def decide_all(prediction: Prediction, rule: Rule) -> None:
    for index in range(len(prediction.score)):
        decide(Prediction(prediction.score[index : index + 1], prediction.heatmap[index : index + 1]), rule)


def _device_times(peer: Peer) -> Times:
    found = getattr(peer, "device_times", None)
    if found is None:
        return {}
    return {COPY_IN: found.upload_ms, DEVICE: found.compute_ms, COPY_OUT: found.download_ms}


@dataclass(frozen=True)
class Trial:
    """How one form did in a process of its own. refused: why it does not run at all, refusals: at a batch size.

    host_mib by batch: the process's peak so far, batches from small to large; gpu_mib: of the whole GPU, beyond what
    was in use before.
    """

    import_ms: float = 0.0
    load_ms: float = 0.0
    first_verdict_ms: float = 0.0
    before_mib: float = 0.0
    host_mib: Mapping[int, float] | None = None
    gpu_mib: Mapping[int, float] | None = None
    refused: str = ""
    refusals: Mapping[int, str] | None = None


def try_form(form: Form, picture: Path, batches: Sequence[int], threads: int | None) -> Trial:
    """Open a form in a new process and run every batch size once. picture: an .npy file, as the camera gives it.

    A process that dies (of too little memory, most of all) takes nothing with it. form.source must not be None.
    """
    if form.source is None:
        raise ValueError("a peer of this process alone cannot be tried in another one")
    wanted: dict[str, Any] = {
        "source": {**asdict(form.source), "path": str(form.source.path)},
        "picture": str(picture),
        "batches": sorted(batches),
        "threads": threads,
        "threshold": form.spec.threshold,
        "started_ns": time.monotonic_ns(),
    }
    command = [sys.executable, "-m", "segdec_edge.bench.child", json.dumps(wanted)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TRIAL_S, env=_environment())
    except subprocess.TimeoutExpired as error:
        said = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout or ""
        return so_far(said, batches, f"did not finish one batch of each size in {_TRIAL_S} s")
    if done.returncode:
        return so_far(done.stdout, batches, _death(done))
    return _trial(json.loads(done.stdout.splitlines()[-1]))


def so_far(said: str, batches: Sequence[int], reason: str) -> Trial:
    """What a process told before it ended: the batches that it finished stay, the others have that reason."""
    told = [line for line in said.splitlines() if line.startswith("{") and line.endswith("}")]
    trial = _trial(json.loads(told[-1])) if told else Trial()
    if not trial.host_mib:
        return Trial(refused=reason)
    refusals = {batch: reason for batch in batches if batch not in trial.host_mib} | dict(trial.refusals or {})
    return replace(trial, refusals=refusals)


def _environment() -> dict[str, str]:
    """The child imports the package from where this process has it."""
    here = str(Path(__file__).resolve().parents[2])
    paths = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _death(done: subprocess.CompletedProcess[str]) -> str:
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if done.returncode == -9:
        return "its process was killed: most likely too little memory. Choose a smaller batch or another machine"
    return f"its process ended with {done.returncode}: {last}"


def _trial(told: Mapping[str, Any]) -> Trial:
    def by_batch(name: str) -> dict[int, Any] | None:
        return {int(batch): value for batch, value in told[name].items()} if told.get(name) else None

    plain = {key: value for key, value in told.items() if key not in ("host_mib", "gpu_mib", "refusals")}
    return Trial(**plain, host_mib=by_batch("host_mib"), gpu_mib=by_batch("gpu_mib"), refusals=by_batch("refusals"))


def require_room(forms: Sequence[Form], trials: Mapping[str, Trial], free_gib: float | None) -> None:
    """All forms are open at the same time while they take turns. Raises BackendError where they have no room."""
    needed = sum(max((trials[form.key].host_mib or {0: 0.0}).values()) for form in forms if form.key in trials) / 1024
    if free_gib is not None and needed > free_gib:
        raise BackendError(
            f"{len(forms)} forms taking turns need up to {needed:.1f} GiB, {free_gib:.1f} are free. Bench fewer at a"
            " time, or smaller batches (--batch, --backends)."
        )
