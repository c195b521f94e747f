"""Does a GigE camera lose, repeat or swap a part: free-running, triggered, with lost packets, killed, frozen?

Simulated cameras on this host (Aravis' own, and tests/gige_server.py with known pictures), one scenario after the
other. Every picture is checked against what the device must have sent, so a damaged, old or swapped one is seen. A Line
is what turns triggers into outcomes; CameraLine is the camera alone with the simplest supervision. Anything else that
keeps this interface, such as a whole station, can be put in its place.

    python benchmarks/gige.py -o benchmarks/results/gige.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from entry import one_line, require_rounds

from segdec_edge import __version__
from segdec_edge.cameras.aravis import AravisCamera
from segdec_edge.config.camera import AravisConfig
from segdec_edge.errors import CameraError, CameraIdle, CameraLost, FrameLost
from segdec_edge.files import require_place, write_atomic
from segdec_edge.types import Frame, Pixels

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.gige import GigeCamera, gige_table

SIZE = {"region_xywh": (0, 0, 512, 512)}
FRAME_TIMEOUT_S, BACKOFF_S = 1.0, 0.5
AWAY = "camera away"
KILLS, DOWN_S, FROZEN_S = 5, 3.0, 4.0

Whole = Callable[[Frame], bool]
"""Whether a frame is exactly what the device must have sent for it."""


@dataclass
class Outcomes:
    """What became of each part: judged (a frame was given out) or why it is UNKNOWN; when frames were given out."""

    judged: dict[int, bool] = field(default_factory=dict)
    unknown: dict[int, str] = field(default_factory=dict)
    given_s: list[float] = field(default_factory=list)
    age_ms: list[float] = field(default_factory=list)
    losses_s: list[float] = field(default_factory=list)

    def report(self, triggers: int) -> dict[str, Any]:
        accounted = len(self.judged) + len(self.unknown)
        twice = len(self.judged.keys() & self.unknown.keys())
        return {
            "triggers": triggers,
            "judged": len(self.judged),
            "judged_wrongly": sum(not whole for whole in self.judged.values()),
            "unknown": dict(Counter(self.unknown.values())),
            "unaccounted": triggers - accounted,
            "accounted_twice": twice,
        }


class Line(Protocol):
    """What is measured: it opens its camera; every trigger, or every frame where it runs free, becomes one outcome."""

    outcomes: Outcomes

    def trigger(self) -> int:
        """The part's number, from 0; also where the camera is away."""
        ...

    def close(self) -> None: ...


class CameraLine:
    """A camera in a thread, rebuilt after each CameraLost; parts are numbered over all rebuilds."""

    def __init__(self, table: AravisConfig, whole: Whole) -> None:
        self.outcomes = Outcomes()
        self._table, self._whole = table, whole
        self._parts = self._triggers = 0
        self._of_trigger: dict[int, int] = {}
        self._camera: AravisCamera | None = AravisCamera(table)
        self._state = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def trigger(self) -> int:
        with self._state:
            part, self._parts = self._parts, self._parts + 1
            camera, number = self._camera, self._triggers
            if camera is not None:  # noted before the call: the picture may come before the call is over
                self._of_trigger[number], self._triggers = part, number + 1
        try:
            if camera is None:
                raise CameraLost("away")
            assert camera.trigger() == number
        except CameraLost:
            with self._state:
                self._of_trigger.pop(number, None)
                self.outcomes.unknown[part] = AWAY
        return part

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._stopping.is_set() or self._of_trigger:
            camera = self._camera
            if camera is None:
                self._rebuild()
                continue
            try:
                self._take(camera.read(0.1))
            except CameraIdle:
                continue
            except FrameLost as lost:
                with self._state:
                    self.outcomes.unknown[self._of_trigger.pop(lost.sequence)] = _kind(lost)
            except CameraLost:
                self.outcomes.losses_s.append(time.monotonic())
                with self._state:
                    self._camera = None
                camera.close()
        if self._camera is not None:
            self._camera.close()

    def _take(self, frame: Frame) -> None:
        now_ns = time.monotonic_ns()
        with self._state:
            if self._table.trigger == "free":
                part, self._parts = self._parts, self._parts + 1
            else:
                part = self._of_trigger.pop(frame.sequence)
        self.outcomes.judged[part] = self._whole(frame)
        self.outcomes.given_s.append(now_ns / 1e9)
        self.outcomes.age_ms.append((now_ns - frame.captured_monotonic_ns) / 1e6)

    def _rebuild(self) -> None:
        time.sleep(BACKOFF_S)
        try:
            camera = AravisCamera(self._table)
        except CameraError:
            return
        with self._state:
            self._camera, self._triggers = camera, 0


def _kind(lost: FrameLost) -> str:
    """The reason without its numbers."""
    return str(lost).split(": ", 2)[-1].split(" (")[0].rstrip(".")


def is_ramp(frame: Frame) -> bool:
    """Aravis' own test picture: a diagonal ramp, brighter by one a pixel to the right or down, 255 values around."""
    return _fits_ramp(frame.pixels)


def _fits_ramp(pixels: Pixels) -> bool:
    rows, columns = np.indices(pixels.shape)
    return bool(np.array_equal(pixels, (int(pixels[0, 0]) + rows + columns) % 255))


def made_by_server() -> Whole:
    """gige_server.py makes picture k of level 10 · (k % 25), so the next whole frame is the next level."""
    expected = 0

    def whole(frame: Frame) -> bool:
        nonlocal expected
        level, expected = expected, (expected + 10) % 250
        return bool((frame.pixels == level).all())

    return whole


def is_one_level(frame: Frame) -> bool:
    return bool((frame.pixels == frame.pixels[0, 0]).all())


@contextmanager
def opened(make: Callable[[AravisConfig, Whole], Line], whole: Whole, **changes: Any) -> Iterator[Line]:
    line = make(gige_table(**SIZE, frame_timeout_s=FRAME_TIMEOUT_S, **changes), whole)
    try:
        yield line
    finally:
        line.close()


def free_running(make: Callable[[AravisConfig, Whole], Line], seconds: float) -> dict[str, Any]:
    with GigeCamera(), opened(make, is_ramp, rate_hz=25.0) as line:
        time.sleep(seconds)
    done = line.outcomes
    steps_ms = [1e3 * (later - earlier) for earlier, later in zip(done.given_s, done.given_s[1:], strict=False)]
    return {
        **done.report(len(done.judged) + len(done.unknown)),
        "seconds": seconds,
        "frames_per_s": round((len(done.given_s) - 1) / (done.given_s[-1] - done.given_s[0]), 2),
        "age_ms": _spread(done.age_ms),
        "step_ms": _spread(steps_ms),
        "losses": len(done.losses_s),
    }


def triggered(make: Callable[[AravisConfig, Whole], Line], parts: int) -> dict[str, Any]:
    with GigeCamera(own=True), opened(make, made_by_server(), trigger="software") as line:
        for _ in range(parts):
            _trigger_and_wait(line)
    return {**line.outcomes.report(parts), "age_ms": _spread(line.outcomes.age_ms)}


def losing_packets(make: Callable[[AravisConfig, Whole], Line], parts: int) -> dict[str, Any]:
    with GigeCamera(lost_per_thousand=5), opened(make, is_ramp, trigger="software") as line:
        for _ in range(parts):
            _trigger_and_wait(line)
    return {**line.outcomes.report(parts), "lost_packets_per_thousand": 5}


def dying(make: Callable[[AravisConfig, Whole], Line], seconds_down: float, times: int, freeze: bool) -> dict[str, Any]:
    """Triggers 10 times a second all the while; how long after the device was back the first frame came."""
    back_s: list[float] = []
    noticed_s: list[float] = []
    sent = 0
    with GigeCamera(own=True) as device, opened(make, is_one_level, trigger="software") as line:
        for _ in range(times):
            sent += _trigger_for(line, 2.0)
            gone = time.monotonic()
            device.freeze() if freeze else device.kill()
            sent += _trigger_for(line, seconds_down)
            device.thaw() if freeze else device.start()
            came = time.monotonic()
            sent += _trigger_until_frame(line, came, within_s=20.0)
            back_s.append(next(given for given in line.outcomes.given_s if given > came) - came)
            noticed_s.append(next(loss for loss in line.outcomes.losses_s if loss > gone) - gone)
        sent += _trigger_for(line, 1.0)
    return {
        **line.outcomes.report(sent),
        "times": times,
        "down_s": seconds_down,
        "noticed_s": [round(one, 2) for one in noticed_s],
        "back_s": [round(one, 2) for one in back_s],
        "back_limit_s": BACKOFF_S + 2.0,
    }


def _trigger_and_wait(line: Line, within_s: float = 10.0) -> None:
    part, deadline = line.trigger(), time.monotonic() + within_s
    while part not in line.outcomes.judged and part not in line.outcomes.unknown and time.monotonic() < deadline:
        time.sleep(0.001)
    if line.outcomes.unknown.get(part) == AWAY:
        time.sleep(0.1)


def _trigger_for(line: Line, seconds: float) -> int:
    sent, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        line.trigger()
        sent += 1
        time.sleep(0.1)
    return sent


def _trigger_until_frame(line: Line, since: float, within_s: float) -> int:
    sent, until = 0, time.monotonic() + within_s
    while not any(given > since for given in line.outcomes.given_s[-3:]) and time.monotonic() < until:
        sent += _trigger_for(line, 0.1)
    return sent


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 3),
        "p99": round(ordered[int(0.99 * (len(ordered) - 1))], 3),
        "most": round(ordered[-1], 3),
    }


def main(make: Callable[[AravisConfig, Whole], Line] = CameraLine) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--parts", type=int, default=500)
    asked = parser.parse_args()
    require_rounds(asked.parts, 2, "parts", "halves")
    if asked.out:
        require_place(asked.out)
    record = {
        "segdec_edge": __version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "line": getattr(make, "__name__", ""),
        "size": "512x512 Mono8",
        "frame_timeout_s": FRAME_TIMEOUT_S,
        "backoff_s": BACKOFF_S,
    }
    for name, scenario in (
        ("free_running", lambda: free_running(make, asked.seconds)),
        ("software_triggered", lambda: triggered(make, asked.parts)),
        ("lost_packets", lambda: losing_packets(make, asked.parts // 2)),
        ("killed", lambda: dying(make, DOWN_S, KILLS, freeze=False)),
        ("frozen", lambda: dying(make, FROZEN_S, 1, freeze=True)),
    ):
        record[name] = scenario()
        print(name, json.dumps(record[name], indent=2), flush=True)
    if asked.out:
        write_atomic(asked.out, json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    one_line(main)
