"""One point of an axis of scale.py, measured in this process, which is new: so its peak memory is the point's own.

    python benchmarks/scale_points.py '{"axis": "batch", "size": 4, …}' → a line of JSON: samples by curve

Every curve is a list of samples of one cost at this size: milliseconds, seconds, MiB.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segdec_edge.bench.child import peak_mib

Curves = dict[str, list[float]]
_BUDGET_S, _FEWEST, _MOST = 8.0, 3, 25
_SEED = 0


def timed(work: Callable[[], object], budget_s: float = _BUDGET_S) -> tuple[list[float], list[float]]:
    """Milliseconds of each call by the wall clock and of processor time: one to warm up, then as many as time allows.

    On a core that others use too only the processor time says something about the work.
    """
    work()
    spent: list[float] = []
    worked: list[float] = []
    until = time.perf_counter() + budget_s
    while len(spent) < _FEWEST or (len(spent) < _MOST and time.perf_counter() < until):
        started, before = time.perf_counter(), time.process_time()
        work()
        spent.append((time.perf_counter() - started) * 1e3)
        worked.append((time.process_time() - before) * 1e3)
    return spent, worked


def textures(count: int, size_hw: tuple[int, int]) -> Any:
    """(N, H, W, 1) uint8 of smooth noise."""
    rng = np.random.default_rng(_SEED)
    small = rng.integers(0, 255, (count, size_hw[0] // 8, size_hw[1] // 8), dtype=np.uint8)
    return np.stack([cv2.resize(one, size_hw[::-1], interpolation=cv2.INTER_CUBIC) for one in small])[..., None]


def exported(place: Path, width: float, size_hw: tuple[int, int]) -> Path:
    """A bundle of an untrained network; what is timed does not depend on its weights."""
    import torch

    from segdec_edge.deploy.export import export_checkpoint
    from segdec_edge.model.checkpoint import Checkpoint, save_checkpoint
    from segdec_edge.model.segdecnet import SegDecNet

    torch.manual_seed(_SEED)
    net = SegDecNet(width=width)
    save_checkpoint(place / "net.pt", Checkpoint(net=net.eval(), size_hw=size_hw, threshold=0.5))
    pictures = [one[..., 0] for one in textures(1, size_hw)]
    export_checkpoint(place / "net.pt", place / "net.bundle", pictures=pictures, max_difference=0.1)
    return place / "net.bundle"


def export(wanted: dict[str, Any]) -> Curves:
    """Make the bundle that the points of this size use, outside of the processes whose memory is measured."""
    bundle = Path(wanted["bundle"])
    bundle.parent.mkdir(parents=True, exist_ok=True)
    made = exported(bundle.parent, wanted["width"], tuple(wanted["size_hw"]))
    made.rename(bundle)
    return {}


def infer(wanted: dict[str, Any]) -> Curves:
    """Milliseconds a call and peak memory of one backend, for the axes resolution, width and batch."""
    from segdec_edge.bundle import read_bundle
    from segdec_edge.runtime import open_backend

    before = peak_mib()
    backend = open_backend(read_bundle(Path(wanted["bundle"])), wanted["backend"])
    pixels = textures(wanted["batch"], tuple(wanted["size_hw"]))
    spent, worked = timed(lambda: backend.infer(pixels))
    backend.close()
    name = wanted["backend"]
    return {f"{name} ms": spent, f"{name} processor ms": worked, f"{name} MiB": [peak_mib() - before]}


def cameras(wanted: dict[str, Any]) -> Curves:
    """The real station on so many replay cameras and one backend, as fast as it goes: all cameras' frames together."""
    from frame_path import station_run

    bundle, count, frames = Path(wanted["bundle"]), wanted["size"], wanted["frames"]
    spent: Curves = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, picture in enumerate(textures(4, (512, 512))):
            cv2.imwrite(str(folder / f"{number}.png"), picture)
        for mode, null in (("station with inference", False), ("station alone", True)):
            for _ in range(_FEWEST):
                # The same work whatever the number of cameras: what grows is what they cost each other.
                each = (frames * (10 if null else 1)) // count
                run = station_run(bundle, [folder] * count, each, 0.0, null=null)
                own = run["processor_ms_per_frame"]["process"]
                for curve, value in (
                    ("ms a frame", 1e3 * run["seconds"] / run["frames"]),
                    ("processor ms a frame", own),
                    ("latency p50 ms", run["latency_ms"]["p50"]),
                ):
                    spent.setdefault(f"{mode}, {curve}", []).append(value)
                if run["unknown"]:
                    raise SystemExit(f"{run['unknown']} of {run['frames']} frames are UNKNOWN: nothing was measured")
    return {**spent, "MiB": [peak_mib()]}


def training(wanted: dict[str, Any]) -> Curves:
    """A folder of so many small pictures, one in twenty defective: what set-up, a step and memory cost."""
    from segdec_edge.config.train import train_settings
    from segdec_edge.data.spec import open_dataset
    from segdec_edge.data.splits import choose_split
    from segdec_edge.model.segdecnet import SegDecNet
    from segdec_edge.training.feeding import open_examples, survey
    from segdec_edge.training.loop import Trainer
    from segdec_edge.training.parallel import ALONE
    from segdec_edge.training.setup import choose_hardware

    count = wanted["size"]
    with tempfile.TemporaryDirectory() as name:
        _write_folder(Path(name), count)
        before, spec = peak_mib(), f"folder:{name}"
        settings = train_settings(
            {"data": spec, "size_hw": [128, 64], "width": 0.125, "device": "cpu", "precision": "bf16", "workers": 0}
        )
        started = time.perf_counter()
        dataset = open_dataset(spec)
        opened = time.perf_counter()
        split = choose_split(dataset, seed=_SEED, validation=0.1, test=0.1)
        chosen = time.perf_counter()
        samples = dataset.named(split.train)
        train, validation = open_examples(settings, ALONE, samples, dataset.named(split.validation))
        with train, validation:
            survey(train, ALONE, lambda *_: None)
            surveyed = time.perf_counter()
            after_survey = peak_mib()
            net = SegDecNet(width=0.125)
            trainer = Trainer(net, train, settings, choose_hardware(settings))
            times: list[float] = []
            worked: list[float] = []

            def step_done(*_: object) -> None:
                times.append(time.perf_counter())
                worked.append(time.process_time())

            trainer.run_epoch(0, step_done)
    return {
        "open the data set, s": [opened - started],
        "split, s": [chosen - opened],
        "survey, s": [surveyed - chosen],
        "from survey to first step, s": [times[0] - surveyed],
        "step, ms": _steps(times),
        "step, processor ms": _steps(worked),
        "set-up MiB": [max(after_survey - before, 0.1)],
        "peak MiB": [peak_mib() - before],
    }


def _steps(ends: list[float]) -> list[float]:
    return [(later - earlier) * 1e3 for earlier, later in pairwise(ends)][-500:]


def _write_folder(root: Path, count: int) -> None:
    rng = np.random.default_rng(_SEED)
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for number in range(count):
        picture = rng.integers(60, 200, (128, 64), dtype=np.uint8)
        if number % 20 == 0:
            mask = np.zeros((128, 64), np.uint8)
            mask[40:60, 20:40] = 255
            picture[mask > 0] = 250
            cv2.imwrite(str(root / "masks" / f"{number:06d}.png"), mask)
        cv2.imwrite(str(root / "images" / f"{number:06d}.png"), picture)


def ledger(wanted: dict[str, Any]) -> Curves:
    """ledger_scale.py's own measure of a ledger that grew to so many rows."""
    from ledger_scale import growth

    return ledger_curves(growth(Path(wanted["folder"]), (wanted["size"],))[0])


def ledger_curves(grown: Any) -> Curves:
    seconds = {name: [max(value, 5e-4)] for name, value in grown["seconds"].items()}
    return {
        **{f"{name}, s": value for name, value in seconds.items()},
        "a row when filled, s": [1 / grown["filling_rows_per_s"]],
        "commit of 512, s": [grown["commit_of_512_ms"]["p50"] / 1e3],
        "commit of 1, s": [grown["commit_of_1_ms"]["p50"] / 1e3],
    }


KINDS: dict[str, Callable[[dict[str, Any]], Curves]] = {
    "export": export,
    "resolution": infer,
    "width": infer,
    "batch": infer,
    "cameras": cameras,
    "training": training,
    "ledger": ledger,
}


def main() -> None:
    wanted = json.loads(sys.argv[1])
    cv2.setNumThreads(1)
    load, began, work = os.getloadavg(), time.monotonic(), time.process_time()
    curves = KINDS[wanted["axis"]](wanted)
    faults = resource.getrusage(resource.RUSAGE_SELF)
    about = {
        "seconds": time.monotonic() - began,
        "processor_s": time.process_time() - work,
        "load_before": load,
        "load_after": os.getloadavg(),
        "page_faults": faults.ru_minflt,
        "switched_out": faults.ru_nivcsw,
    }
    sys.stdout.write("\n" + json.dumps({"curves": curves, **about}) + "\n")


if __name__ == "__main__":
    main()
