"""What keeping a part's pictures costs (keep = "all"), step by step, and how many parts a second one archive takes.

Peer, in turns on the same disk: cv2.imwrite of the same two files, which does not wait for the disk and may leave half
a file after a power cut. The pictures are smooth surfaces with a camera's noise, which a PNG hardly shortens.

    python benchmarks/archive_pace.py --folder /data -o benchmarks/results/archive_pace.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from entry import one_line, require_folder

from segdec_edge import __version__
from segdec_edge.data.synthetic.canvas import smooth_noise
from segdec_edge.files import require_place, write_atomic, write_together
from segdec_edge.outputs.archive import Archive
from segdec_edge.pictures import overlay
from segdec_edge.types import Frame, Label, Pixels, Verdict

SIDES = (512, 1024)
PARTS = 40
ROUNDS = 5


def picture(side: int) -> Pixels:
    rng = np.random.default_rng(0)
    grey = 128 + 25 * smooth_noise(rng, (side, side), side / 12) + 2 * rng.standard_normal((side, side), np.float32)
    return np.clip(np.round(grey), 0, 255).astype(np.uint8)


def verdict(number: int, heatmap: np.ndarray) -> Verdict:
    part = f"20260102T030405Z-0a1b2c-{number:06d}"
    times = 1_760_000_000_000_000_000, 1_760_000_000_009_000_000
    return Verdict(part, number, Label.OK, 0.1, 0.5, "score below 0.5", *times, 9.0, "ab" * 32, "x", heatmap)


def median_ms(step: Callable[[], object], clock: Callable[[], float], times: int = 15) -> float:
    spent = []
    for _ in range(times):
        began = clock()
        step()
        spent.append((clock() - began) * 1e3)
    return round(statistics.median(spent), 3)


def steps(folder: Path, pixels: Pixels, heatmap: np.ndarray) -> dict[str, float]:
    """Milliseconds of each: computing on the processor's clock, the disk on the wall's."""
    shown = overlay(pixels, heatmap)
    png, jpeg = (bytes(cv2.imencode(end, one)[1]) for end, one in ((".png", pixels), (".jpg", shown)))
    files = {"a.png": png, "a_overlay.jpg": jpeg}

    def one_by_one() -> None:
        for name, content in files.items():
            write_atomic(folder / name, content)

    return {
        "png_processor_ms": median_ms(lambda: cv2.imencode(".png", pixels), time.process_time),
        "overlay_processor_ms": median_ms(lambda: overlay(pixels, heatmap), time.process_time),
        "jpeg_processor_ms": median_ms(lambda: cv2.imencode(".jpg", shown), time.process_time),
        "disk_together_ms": median_ms(lambda: write_together(folder, files), time.perf_counter),
        "disk_one_by_one_ms": median_ms(one_by_one, time.perf_counter),
        "bytes": len(png) + len(jpeg),
    }


def parts_per_s(folder: Path, pixels: Pixels, heatmap: np.ndarray) -> dict[str, list[float]]:
    """Archive and peer in turns."""
    archive, found = Archive(folder / "archive", "all", reserve_bytes=0), {"archive": [], "imwrite": []}
    plain = folder / "plain"
    plain.mkdir()
    for turn in range(ROUNDS):
        began = time.perf_counter()
        for number in range(turn * PARTS, (turn + 1) * PARTS):
            archive.write(verdict(number, heatmap), Frame(pixels, number, 1, 1, "x"))
        found["archive"].append(round(PARTS / (time.perf_counter() - began), 1))
        began = time.perf_counter()
        for number in range(turn * PARTS, (turn + 1) * PARTS):
            cv2.imwrite(str(plain / f"{number}.png"), pixels)
            cv2.imwrite(str(plain / f"{number}.jpg"), overlay(pixels, heatmap))
        found["imwrite"].append(round(PARTS / (time.perf_counter() - began), 1))
    if archive.failures:
        raise SystemExit(f"{archive.failures} parts were not kept: {archive.problem}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write; on the disk to be measured")
    parser.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args()
    require_folder(asked.folder)
    require_place(asked.out)
    cv2.setNumThreads(1)
    record: dict[str, object] = {
        "segdec_edge": __version__,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
    }
    for side in SIDES:
        pixels = picture(side)
        heatmap = np.random.default_rng(0).random((side // 8, side // 8)).astype(np.float32)
        with TemporaryDirectory(dir=asked.folder) as place:
            taken = steps(Path(place), pixels, heatmap)
            found = {"steps": taken, "parts_per_s": parts_per_s(Path(place), pixels, heatmap)}
        record[f"{side}x{side}"] = found
        print(side, json.dumps(found, indent=1), flush=True)
    write_atomic(asked.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    one_line(main)
