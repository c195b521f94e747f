"""What a frame costs from the file to the durable row, stage by stage, in the real station with a real bundle.

    python benchmarks/frame_path.py PARTS.bundle --pictures FOLDER --peer CHECKPOINT.pt \
        -o benchmarks/results/frame_path.json

The station replays pictures at a rate below what the backend takes, so nothing waits in a queue. Stages are medians of
wall time; `around` is each frame's own time from capture to verdict less its own inference, the median of all frames
with an interval over the turns. Wall time leaves out what other
threads do meanwhile, so the processor time of each thread is told too, and once more with a backend that answers at
once: all that is left then is the station's own. The peer is the plain PyTorch inference of the network as trained; the
goal is 5 % of it for everything around inference. --before: another checkout of the package, in the same turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from entry import one_line, require_rounds
from turns import Contender, serve

from segdec_edge.bench.machine import code_of, conditions, machine_of
from segdec_edge.bundle import read_bundle
from segdec_edge.config.load import check
from segdec_edge.config.station import StationConfig
from segdec_edge.outputs.archive import open_archive
from segdec_edge.outputs.ledger import Ledger
from segdec_edge.runtime import open_backend
from segdec_edge.station import run
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.part import new_run_id
from segdec_edge.station.recipes import Recipes
from segdec_edge.station.recorder import Recorder
from segdec_edge.station.statistics import LatencyHistogram
from segdec_edge.types import Frame, Pixels, Prediction

SIZES = ("704x256", "512x512")
BACKENDS = ("openvino", "null")
_GOAL = 0.05
_WARM_UP = 3
_Threads = dict[str, float]


class TimedCamera:
    """A camera that notes how long each read took from its trigger: reading and decoding, without waiting for it."""

    def __init__(self, camera: Any, spent: LatencyHistogram) -> None:
        self._camera, self._spent = camera, spent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera, name)

    def read(self, timeout_s: float) -> Frame:
        before = time.thread_time_ns()
        frame: Frame = self._camera.read(timeout_s)
        self._spent.add((time.thread_time_ns() - before) / 1e6)
        return frame

    def __enter__(self) -> TimedCamera:
        self._camera.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._camera.__exit__(*error)


class FrameTimes:
    """The station's statistics, which also keep what each judged frame took around its inference, ms.

    Frame by frame: two quantiles of a histogram with buckets of 1 % cannot tell a millisecond apart from latencies.
    """

    def __init__(self, statistics: Any) -> None:
        self._statistics = statistics
        self.around_ms: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._statistics, name)

    def add(self, verdict: Any, *, lost: bool = False, stage_ms: Mapping[str, float] | None = None) -> None:
        infer_ms = (stage_ms or {}).get("infer")
        if not lost and infer_ms is not None:
            self.around_ms.append(verdict.latency_ms - infer_ms)
        self._statistics.add(verdict, lost=lost, stage_ms=stage_ms)


class NullBackend:
    """Answers at once with the first answer of a real backend."""

    name = "null"

    def __init__(self, backend: Any) -> None:
        self.spec = backend.spec
        self._answer = backend.infer(np.zeros((1, *self.spec.size_hw, self.spec.channels), np.uint8))
        backend.close()

    def infer(self, pixels: Pixels) -> Prediction:
        count = len(pixels)
        return Prediction(np.repeat(self._answer.score, count), np.repeat(self._answer.heatmap, count, axis=0))

    def close(self) -> None:
        """Nothing is open."""


def station_run(
    bundle: Path, folders: Sequence[Path], frames: int, rate_hz: float, *, null: bool = False, settings: Any = None
) -> dict[str, Any]:
    """Run the real station on one replay camera a folder until each has shown `frames`: times and processor time."""
    reads, kept = LatencyHistogram(), (run.open_camera, run.Recipes)
    run.open_camera = lambda camera: TimedCamera(kept[0](camera), reads)
    if null:
        run.Recipes = partial(Recipes, opener=lambda *given: NullBackend(open_backend(*given)))
    try:
        with tempfile.TemporaryDirectory() as name:
            return _station_run(Path(name), bundle, folders, frames, rate_hz, settings or {}, reads)
    finally:
        run.open_camera, run.Recipes = kept


def _station_run(
    place: Path,
    bundle: Path,
    folders: Sequence[Path],
    frames: int,
    rate_hz: float,
    settings: dict[str, Any],
    reads: LatencyHistogram,
) -> dict[str, Any]:
    cameras = []
    for number, folder in enumerate(folders):
        pictures = sorted(folder.iterdir())
        listed = place / f"pictures{number}.txt"
        listed.write_text("\n".join(str(pictures[n % len(pictures)]) for n in range(frames + _WARM_UP)))
        cameras.append({"name": f"camera{number}", "kind": "replay", "path": str(listed), "rate_hz": rate_hz})
    config = check(
        StationConfig,
        {
            "station": {"bundle": str(bundle), "backend": "openvino", "any_size": True, **settings},
            "cameras": cameras,
            "ledger": {"path": str(place / "ledger.sqlite")},
            "archive": {"path": str(place / "archive"), "keep": "none"},
        },
        "benchmark",
    )
    run_id, alarms = new_run_id(), Alarms()
    ledger = Ledger(config.ledger.path, run_id)
    recorder = Recorder(ledger, open_archive(config.archive), alarms=alarms)
    station = run.make_station(config, recorder, run_id, alarms)
    station._statistics = frames_kept = FrameTimes(station._statistics)
    meter = ThreadMeter()
    began = time.monotonic()
    summary = station.run(on_ready=meter.start)
    seconds = time.monotonic() - (meter.started or began)
    ledger.close()
    count = summary.parts
    stages = {one.stage: {"p50": one.p50_ms, "p99": one.p99_ms} for one in summary.stages}
    return {
        "frames": count,
        "unknown": summary.unknown,
        "seconds": seconds,
        "latency_ms": {"p50": summary.latency_p50_ms, "p99": summary.latency_p99_ms},
        "read_and_decode_ms": {"p50": reads.quantile_ms(0.5), "p99": reads.quantile_ms(0.99)},
        "stages_ms": stages,
        "around_ms": [round(one, 4) for one in frames_kept.around_ms],
        "processor_ms_per_frame": {name: spent * 1e3 / count for name, spent in meter.stop().items()},
    }


class ThreadMeter:
    """Processor seconds by Python thread since start(), "process" for all together; threads that end are kept."""

    def __init__(self) -> None:
        self.started: float | None = None
        self._before: _Threads = {}
        self._latest: _Threads = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="meter", daemon=True)

    def start(self) -> None:
        self.started, self._before = time.monotonic(), _processor_times()
        self._thread.start()

    def stop(self) -> _Threads:
        self._latest.update(_processor_times())
        self._ended.set()
        self._thread.join()
        return {name: spent - self._before.get(name, 0.0) for name, spent in self._latest.items() if name != "meter"}

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self._latest.update(_processor_times())


def _processor_times() -> _Threads:
    found = {"process": time.process_time()}
    for thread in threading.enumerate():
        try:
            text = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text()
        except OSError:  # it ended meanwhile
            continue
        found[thread.name] = int(text.split()[0]) / 1e9
    return found


def make_pictures(found: Sequence[Path], size: str, place: Path) -> Path:
    height, width = (int(side) for side in size.split("x"))
    folder = place / size
    folder.mkdir()
    for number, path in enumerate(found):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(folder / f"{number:03d}.png"), cv2.resize(grey, (width, height)))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pictures", type=Path, required=True, help="a folder, searched for .jpg and .png")
    parser.add_argument("--peer", type=Path, help="a checkpoint, for the plain PyTorch inference")
    parser.add_argument("--before", type=Path, help="another checkout of this project")
    parser.add_argument("--frames", type=int, default=100, help="a turn")
    parser.add_argument("--rate-hz", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    paths = sorted(path for path in asked.pictures.rglob("*") if path.suffix in (".jpg", ".png"))[:16]
    from segdec_edge.files import require_place, write_atomic  # not at the top: an earlier checkout has none

    require_rounds(asked.rounds, 1)
    require_rounds(asked.frames, 1, "frames")
    read_bundle(asked.bundle)
    if asked.output:
        require_place(asked.output)
    if not paths:
        raise SystemExit(f"{asked.pictures}: holds no .jpg or .png")
    if asked.peer and not asked.peer.is_file():
        raise SystemExit(f"{asked.peer}: no such checkpoint")
    before = conditions()
    checkouts = {"ours": None} | ({"before": asked.before.resolve()} if asked.before else {})
    with tempfile.TemporaryDirectory() as name:
        folders = {size: make_pictures(paths, size, Path(name)) for size in SIZES}
        samples = _in_turns(asked, checkouts, folders)
    report = _report(samples, asked)
    print(json.dumps(report, indent=1))
    if asked.output:
        record = {
            "benchmark": "frame_path", "rate_hz": asked.rate_hz, "frames_a_turn": asked.frames,
            "bundle_sha256": read_bundle(asked.bundle).meta.model.sha256, "machine": machine_of().model_dump(),
            "before": before.model_dump(), "after": conditions().model_dump(), "code": code_of().model_dump(),
            "report": report, "turns": samples,
        }  # fmt: skip
        write_atomic(asked.output, json.dumps(record, indent=1, default=str) + "\n")


def _in_turns(asked: argparse.Namespace, checkouts: dict[str, Path | None], folders: dict[str, Path]) -> dict[str, Any]:
    samples: dict[str, list[Any]] = {}
    for _ in range(asked.rounds):
        for size, folder in folders.items():
            for backend in BACKENDS:
                for name, checkout in checkouts.items():
                    words = [str(asked.bundle), str(folder), str(asked.frames), str(asked.rate_hz), backend]
                    with Contender(Path(__file__), words, checkout) as contender:
                        samples.setdefault(f"{name}, {size}, {backend}", []).append(contender.turn())
        if asked.peer:
            with Contender(Path(__file__), [str(asked.peer), str(folders[SIZES[0]])]) as contender:
                samples.setdefault("plain PyTorch", []).append(contender.turn())
    return samples


def over_turns(turns: Sequence[Sequence[float]]) -> tuple[float, tuple[float, float] | None]:
    """The median of all frames, and its 95 % interval, for which whole turns are drawn; None with one turn.

    Turns with more frames than the shortest give their first ones.
    """
    from segdec_edge.timing import cluster_error, student  # not at the top: an earlier checkout has none

    count = min(map(len, turns))
    values = np.array([one[:count] for one in turns])
    middle, error = float(np.median(values)), cluster_error(values)
    if error is None:
        return middle, None
    reach = student(len(turns) - 1) * error
    return middle, (middle - reach, middle + reach)


def _report(samples: dict[str, Any], asked: argparse.Namespace) -> dict[str, Any]:
    peer_ms = median(one for turn in samples.get("plain PyTorch", [[0.0]]) for one in turn)
    report: dict[str, Any] = {"plain_pytorch_ms": peer_ms} if asked.peer else {}
    for name, turns in samples.items():
        if name == "plain PyTorch":
            continue
        around_ms, interval = over_turns([one["around_ms"] for one in turns])
        row: dict[str, Any] = {"around_ms": around_ms, "around_ms_interval": interval}
        row["read_and_decode_ms"] = median(one["read_and_decode_ms"]["p50"] for one in turns)
        row["stages_ms"] = {
            stage: median(one["stages_ms"][stage]["p50"] for one in turns) for stage in turns[0]["stages_ms"]
        }
        threads = sorted({thread for one in turns for thread in one["processor_ms_per_frame"]})
        row["processor_ms_per_frame"] = {
            thread: median(one["processor_ms_per_frame"].get(thread, 0.0) for one in turns) for thread in threads
        }
        if asked.peer:
            row["around_share_of_peer"] = row["around_ms"] / peer_ms
            row["within_goal"] = row["around_share_of_peer"] <= _GOAL
        report[name] = row
    return report


def _serve(words: list[str]) -> None:
    cv2.setNumThreads(1)
    if len(words) == 2:
        serve(partial(_peer_turn, Path(words[0]), Path(words[1])))
        return
    bundle, folder, frames, rate_hz, backend = words
    serve(lambda: station_run(Path(bundle), [Path(folder)], int(frames), float(rate_hz), null=backend == "null"))


def _peer_turn(checkpoint: Path, folder: Path) -> list[float]:
    from segdec_edge.model.backend import open_checkpoint
    from segdec_edge.pictures import prepare, read_picture

    peer = open_checkpoint(checkpoint)
    spent = []
    for path in sorted(folder.iterdir())[:5]:
        pixels = prepare(read_picture(path), peer.spec.size_hw, peer.spec.channels)[None]
        started = time.perf_counter()
        peer.infer(pixels)
        spent.append((time.perf_counter() - started) * 1e3)
    return spent


if __name__ == "__main__":
    import sys

    if sys.argv[1:2] == ["--serve"]:
        _serve(sys.argv[2:])
    else:
        one_line(main)
