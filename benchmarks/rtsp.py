"""How old are the frames that an RTSP camera gives, when the server freezes and when the reader stalls?

A server on this host (tests/clock_server.py, under the system's python3) draws the time into every picture, so that the
age comes from the pixels. Three things happen to each way: the reader is busy for two seconds; its whole process stands
still for two seconds (SIGSTOP), so that frames pile up in the sockets; the server stands still for one second. The peer
is the plain loop, cv2.VideoCapture.read(), through the same. Ages in ms, every frame's in the result.

    python benchmarks/rtsp.py -o benchmarks/results/rtsp.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
from entry import one_line

from segdec_edge import __version__
from segdec_edge.cameras.opencv import open_rtsp
from segdec_edge.config.camera import RtspConfig
from segdec_edge.errors import CameraLost
from segdec_edge.files import require_place, write_atomic
from segdec_edge.types import Pixels

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.live_sources import ClockServer, stamp_ms

WAYS = (("h264", "tcp"), ("mjpeg", "tcp"), ("mjpeg", "udp"))
MAX_AGE_S = 0.25
UNEVENTFUL_S, WATCH_S, STALL_S, FREEZE_S = 4.0, 4.0, 2.0, 1.0

Read = Callable[[], Pixels | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--consume", nargs=3, metavar=("URL", "TRANSPORT", "READER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.consume:
        consume(*asked.consume)
        return
    if asked.out is not None:
        require_place(asked.out)
    runs = [measure(codec, transport, reader) for codec, transport in WAYS for reader in ("segdec", "plain")]
    record = {
        "segdec_edge": __version__,
        "opencv": cv2.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "max_age_ms": MAX_AGE_S * 1e3,
        "stall_s": STALL_S,
        "freeze_s": FREEZE_S,
        "runs": runs,
    }
    for run in runs:
        print(told(run))
    if asked.out is not None:
        write_atomic(asked.out, json.dumps(record, indent=1) + "\n")


def measure(codec: str, transport: str, reader: str) -> dict[str, Any]:
    """One reader in a process of its own, through all three mishaps; the ages of the frames it got, by phase."""
    with ClockServer("--codec", codec, "--transport", transport) as server:
        command = [sys.executable, __file__, "--consume", server.url, transport, reader]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            phases: dict[str, list[float | None]] = {}
            drops: dict[str, int] = {}
            for line in child.stdout:
                match json.loads(line):
                    case {"stop me": seconds}:
                        child.send_signal(signal.SIGSTOP)
                        time.sleep(seconds)
                        child.send_signal(signal.SIGCONT)
                    case {"freeze the server": seconds}:
                        server.freeze(seconds)
                    case {"phase": phase, "ages_ms": ages}:
                        phases[phase] = ages
                    case {"drops": counted}:
                        drops = counted
    return {"codec": codec, "transport": transport, "reader": reader, "ages_ms": phases, "drops": drops}


def consume(url: str, transport: str, reader: str) -> None:
    """What the child does: asks for each mishap on stdout and tells the ages it saw."""
    read, drops, close = _segdec(url, transport) if reader == "segdec" else _plain(url, transport)
    _tell({"phase": "uneventful", "ages_ms": _ages(read, UNEVENTFUL_S)})
    time.sleep(STALL_S)
    _tell({"phase": "reader was busy", "ages_ms": _ages(read, WATCH_S)})
    _tell({"stop me": STALL_S})
    time.sleep(0.2)  # the stop comes meanwhile
    _tell({"phase": "process stood still", "ages_ms": _ages(read, WATCH_S)})
    _tell({"freeze the server": FREEZE_S})
    _tell({"phase": "server stood still", "ages_ms": _ages(read, WATCH_S)})
    _tell({"drops": drops()})
    close()


def _segdec(url: str, transport: str) -> tuple[Read, Callable[[], dict[str, int]], Callable[[], None]]:
    # The silence is longer than any of the mishaps, so that the frames which piled up are met and not reconnected away.
    settings = {"kind": "rtsp", "url": url, "transport": transport, "max_age_s": MAX_AGE_S, "read_timeout_s": 5.0}
    camera = open_rtsp(RtspConfig.model_validate(settings))

    def read() -> Pixels | None:
        try:
            return camera.read(3.0).pixels
        except CameraLost as lost:
            raise SystemExit(f"lost, which this must survive: {lost}") from lost

    return read, lambda: dict(camera.counters.reasons), camera.close


def _plain(url: str, transport: str) -> tuple[Read, Callable[[], dict[str, int]], Callable[[], None]]:
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = f"rtsp_transport;{transport}"
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)

    def read() -> Pixels | None:
        pixels: Pixels | None = capture.read()[1]
        return pixels

    return read, dict, capture.release


def _ages(read: Read, seconds: float) -> list[float | None]:
    """The age of each frame when it was given, in ms; None for a damaged one."""
    ages, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        pixels = read()
        if pixels is not None:
            made = stamp_ms(pixels)
            ages.append(None if made is None else round(time.monotonic() * 1e3 - made, 1))
    return ages


def _tell(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def told(run: dict[str, Any]) -> str:
    """One line: median and oldest age by phase, and how many frames were older than a part may be or damaged."""
    parts = []
    for phase, ages in run["ages_ms"].items():
        whole = [age for age in ages if age is not None]
        late = sum(age > MAX_AGE_S * 1e3 for age in whole)
        worst = max(whole, default=float("nan"))
        middle = statistics.median(whole) if whole else float("nan")
        parts.append(f"{phase} {middle:.0f}/{worst:.0f} ms, {late} of {len(ages)} late, {ages.count(None)} damaged")
    return f"{run['codec']} {run['transport']} {run['reader']}: " + "; ".join(parts)


if __name__ == "__main__":
    one_line(main)
