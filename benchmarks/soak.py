"""The loop without a network: 200 000 frames of 512x512 through the real station and ledger, at full speed.

Measures what the station itself costs: frames a second, time from grab to ledger hand-off, CPU a frame, and whether
memory and file descriptors stay flat. The peer sees the same frames in the same run, before and after, each in a
process of its own: a plain OpenCV loop that prepares them for cv2.dnn, asks the same null backend, compares with the
threshold and writes a CSV line; it has no deadline, no supervision, no second thread and nothing durable. At full speed
the hand-off includes the wait in a queue of 8; the paced run shows it without. Run it on one core: taskset -c 0.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from entry import one_line, require_rounds

from segdec_edge.decision import Rule
from segdec_edge.errors import EndOfStream
from segdec_edge.files import require_place, write_atomic
from segdec_edge.outputs.archive import Archive
from segdec_edge.outputs.ledger import Ledger, counts
from segdec_edge.station.grab import Source
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.judging import Judges
from segdec_edge.station.loop import Station, new_run_id
from segdec_edge.station.recorder import Recorder
from segdec_edge.station.setup import StationSource
from segdec_edge.station.statistics import LatencyHistogram
from segdec_edge.types import Frame, ModelSpec, Pixels, Prediction, Verdict

SIDE = 512
RESULT = Path(__file__).with_name("results") / "soak.json"
SPEC = ModelSpec((SIDE, SIDE), 1, (SIDE // 8, SIDE // 8), 0.5, "0" * 64)
PICTURES = [np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), dtype=np.uint8) for seed in range(4)]


class NullBackend:
    """Answers at once, always the same."""

    name, spec = "null", SPEC

    def __init__(self) -> None:
        self._answer = Prediction(np.full(1, 0.1, np.float32), np.full((1, *SPEC.heatmap_hw), 0.1, np.float32))

    def infer(self, pixels: Pixels) -> Prediction:
        return self._answer

    def close(self) -> None:
        """Nothing is open."""


class NullCamera:
    """A new picture at each read, as a driver copies its buffer."""

    def __init__(self, frames: int, rate_hz: float = 0.0) -> None:
        self._frames, self._rate_hz, self._next, self._began = frames, rate_hz, 0, time.monotonic()

    def read(self, timeout_s: float) -> Frame:
        number, self._next = self._next, self._next + 1
        if number >= self._frames:
            raise EndOfStream("all shown")
        if self._rate_hz:
            time.sleep(max(0.0, self._began + number / self._rate_hz - time.monotonic()))
        return Frame(PICTURES[number % 4].copy(), number, time.time_ns(), time.monotonic_ns(), "null")

    def __enter__(self) -> NullCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class TimedRecorder(Recorder):
    """Notes how old each frame is when the recorder has it."""

    def __init__(self, ledger: Ledger, archive: Archive) -> None:
        super().__init__(ledger, archive)
        self.handed = LatencyHistogram()

    def put(self, verdict: Verdict, frame: Frame | None) -> None:
        super().put(verdict, frame)
        if frame is not None:
            self.handed.add((time.monotonic_ns() - frame.captured_monotonic_ns) / 1e6)


class Memory(threading.Thread):
    """Resident memory in MB and file descriptors, four times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float, int]] = []
        self._ended = threading.Event()

    def run(self) -> None:
        self._look()  # a run may be over within the first quarter of a second
        while not self._ended.wait(0.25):
            self._look()

    def _look(self) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
        self.samples.append((time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE") / 1e6, descriptors))

    def end(self) -> None:
        self._ended.set()
        self.join()


def station_run(folder: Path, frames: int, rate_hz: float = 0.0) -> dict[str, object]:
    run_id, backend = new_run_id(), NullBackend()
    ledger = Ledger(folder / "ledger.sqlite", run_id)
    recorder = TimedRecorder(ledger, Archive(folder / "archive", "none"))
    inspector = Inspector(backend, Rule(0.5), "0" * 64)
    camera = NullCamera(frames, rate_hz)
    source = StationSource(Source(finite=True), lambda: camera)
    station = Station([source], {"backend": lambda: Judges(backend, {"camera": inspector})}, recorder, run_id=run_id)
    memory = Memory()
    memory.start()
    began, cpu = time.monotonic(), time.process_time()
    summary = station.run()
    seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu
    memory.end()
    ledger.close()
    rows = sum(counts(folder / "ledger.sqlite", run_id).values())
    if rows != frames or summary.parts != frames:
        raise SystemExit(f"{frames} frames, {summary.parts} verdicts, {rows} rows: they must agree")
    return {
        "frames": frames,
        "rate_hz": rate_hz,
        "frames_per_s": frames / seconds,
        "wall_ms_per_frame": 1e3 * seconds / frames,
        "cpu_ms_per_frame": 1e3 * cpu_s / frames,
        "grab_to_ledger_hand_off_ms": {
            "p50": recorder.handed.quantile_ms(0.5),
            "p99": recorder.handed.quantile_ms(0.99),
        },
        "stages_ms": {one.stage: {"p50": one.p50_ms, "p99": one.p99_ms} for one in summary.stages},
        "memory": flatness(memory.samples),
    }


def flatness(samples: list[tuple[float, float, int]]) -> dict[str, object]:
    """The second quarter of the run against the last one: the first quarter fills caches and queues."""
    quarter = max(1, len(samples) // 4)
    early, late = samples[quarter : 2 * quarter] or samples, samples[-quarter:]
    first = sum(one[1] for one in early) / len(early)
    last = sum(one[1] for one in late) / len(late)
    return {
        "resident_mb_second_quarter": first,
        "resident_mb_last_quarter": last,
        "growth_percent": 100 * (last / first - 1),
        "descriptors": sorted({one[2] for one in early + late}),
        "samples_mb": [round(one[1], 2) for one in samples[:: max(1, len(samples) // 100)]],
    }


def opencv_loop(folder: Path, frames: int) -> dict[str, float]:
    backend, spent = NullBackend(), LatencyHistogram()
    cpu, began = time.process_time(), time.monotonic()
    with (folder / "peer.csv").open("w") as file:
        for number in range(frames):
            picture = PICTURES[number % 4].copy()
            grabbed = time.monotonic_ns()
            blob = cv2.dnn.blobFromImage(picture, 1 / 255, (SIDE, SIDE))
            score = float(backend.infer(blob).score[0])
            file.write(f"{number},{time.time_ns()},{'DEFECT' if score >= 0.5 else 'OK'},{score:.6f}\n")
            file.flush()
            spent.add((time.monotonic_ns() - grabbed) / 1e6)
    seconds = time.monotonic() - began
    return {
        "frames": frames,
        "frames_per_s": frames / seconds,
        "cpu_ms_per_frame": 1e3 * (time.process_time() - cpu) / frames,
        "p50_ms": spent.quantile_ms(0.5) or 0.0,
        "p99_ms": spent.quantile_ms(0.99) or 0.0,
    }


def alone(work: Callable[..., object], *arguments: object) -> object:
    """In a process of its own: what one leaves in the memory allocator made the next one six times slower."""
    with get_context("spawn").Pool(1, cv2.setNumThreads, (1,)) as pool:
        return pool.apply(work, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--paced", type=int, default=20_000, help="frames at 250 a second, where no queue fills")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    require_rounds(options.frames, 10, "frames", "tenths")
    require_rounds(options.paced, 1, "paced")
    require_place(options.out)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = alone(opencv_loop, folder, options.frames // 10)
        full = alone(station_run, folder, options.frames)
        after = alone(opencv_loop, folder, options.frames // 10)
        paced = alone(station_run, folder, options.paced, 250.0)
    result = {
        "machine": f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} core(s) used",
        "load_average": os.getloadavg(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "sqlite": sqlite3.sqlite_version,
        },
        "station_full_speed": full,
        "station_paced": paced,
        "plain_opencv_loop": [before, after],
    }
    write_atomic(options.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "versions"}, indent=1)[:3000])


if __name__ == "__main__":
    one_line(main)
