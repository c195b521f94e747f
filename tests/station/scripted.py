"""Cameras and backends that follow a script: they die, hang, lose and repeat frames. Classes, no patching.

Import: `from tests.station.scripted import ...`. A Line is what stays while camera objects come and go.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segdec_edge.decision import Rule
from segdec_edge.errors import CameraError, CameraIdle, CameraLost, EndOfStream, FrameLost
from segdec_edge.outputs.archive import Archive
from segdec_edge.outputs.ledger import Ledger, Row, read_rows
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.events import CameraEvent, CameraState
from segdec_edge.station.grab import Source
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.judging import Judges
from segdec_edge.station.loop import Station, new_run_id
from segdec_edge.station.parts import Names
from segdec_edge.station.recorder import Recorder
from segdec_edge.station.setup import StationSource, Tuning
from segdec_edge.station.stop import Stop
from segdec_edge.types import Backend, Frame, Pixels, Verdict
from tests.fakes import FakeBackend, Judge, level, plain_part

GOOD, BAD = 60, 200
FAST = (0.05, 0.1)
"""A back-off for tests, in s."""
SOFTWARE: dict[str, Any] = {"trigger": "software", "timeout_s": 2.0}
"""Of `running`'s source: a camera that `shoot` triggers."""
QUICK = Tuning(hang_s=0.3)


class Backends:
    """Opens backends in turn, each with a judge of its own; the last one again and again."""

    def __init__(self, *judges: Judge | Exception) -> None:
        self.judges, self.opened, self.made = judges, 0, list[FakeBackend]()

    def __call__(self) -> FakeBackend:
        judge = self.judges[min(self.opened, len(self.judges) - 1)]
        self.opened += 1
        if isinstance(judge, Exception):
            raise judge
        self.made.append(FakeBackend(judge))
        return self.made[-1]


def hanging(release: threading.Event, after: int) -> Judge:
    """Judges `after` pictures, and then none before the release."""
    calls = itertools.count()

    def judge(picture: Pixels) -> float:
        if next(calls) >= after:
            release.wait(30.0)
        return level(picture)

    return judge


def wait_until(holds: Callable[[], object], within_s: float = 20.0) -> None:
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.002)


@dataclass
class Line:
    """lives: for each camera object in turn what its reads do, the last one again and again at its end; an int is a
    picture of that grey level. opened counts the objects; release lets every call go that hangs.
    """

    lives: Sequence[Sequence[object]]
    pause_s: float = 0.001
    open_with: Sequence[object] = ()
    close_with: Sequence[object] = ()
    opened: int = 0
    closed: int = 0
    triggers: int = 0
    release: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def open(self) -> LineCamera:
        life, self.opened = self.opened, self.opened + 1
        self.act(self.open_with[life] if life < len(self.open_with) else None)
        return LineCamera(self, life)

    def act(self, action: object) -> None:
        match action:
            case "hang":
                self.release.wait(30.0)
            case "gone":
                raise CameraLost("the plug was pulled. Check it.")
            case "refused":
                raise CameraError("the device ignored exposure_us. Change it.")
            case "bug":
                raise ZeroDivisionError("bug")


class LineCamera:
    def __init__(self, line: Line, life: int) -> None:
        self.line, self.life, self.script = line, life, iter(line.lives[min(life, len(line.lives) - 1)])
        self.sequence, self.last = 0, "idle"

    def __enter__(self) -> LineCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self.line.act(self.line.close_with[self.life] if self.life < len(self.line.close_with) else None)
        self.line.closed += 1

    def read(self, timeout_s: float) -> Frame:
        if not self.line.go.wait(0.02):
            raise CameraIdle("the station is not ready yet")
        action = self.last = next(self.script, self.last)
        time.sleep(self.line.pause_s)
        self.line.act(action)
        number, self.sequence = self.sequence, self.sequence + 1
        source = f"life {self.life} frame {number}"
        match action:
            case "end":
                raise EndOfStream("all shown")
            case "lost":
                raise FrameLost("half of it came", sequence=number, source=source, captured_ns=time.time_ns())
            case "gap":
                self.sequence += 2
                return self.read(timeout_s)
            case "repeat":
                self.sequence = number
                return self.frame(GOOD, max(0, number - 1), source)
            case "idle" | "hang":
                self.sequence = number
                time.sleep(min(timeout_s, 0.02))
                raise CameraIdle("nothing was due")
        assert isinstance(action, int)
        return self.frame(action, number, source)

    def frame(self, value: int, number: int, source: str) -> Frame:
        return Frame(plain_part(value, (40, 60)), number, time.time_ns(), time.monotonic_ns(), source)


class TriggeredCamera(LineCamera):
    """Gives a picture only for a trigger; its script says what each trigger brings."""

    def __init__(self, line: Line, life: int) -> None:
        super().__init__(line, life)
        self.outstanding = threading.Semaphore(0)
        self.sent = 0

    def trigger(self) -> int:
        self.line.triggers += 1
        self.sent += 1
        self.outstanding.release()
        return self.sent - 1

    def read(self, timeout_s: float) -> Frame:
        if not self.outstanding.acquire(timeout=min(timeout_s, 0.05)):
            raise CameraIdle("nothing was due")
        return super().read(timeout_s)


@dataclass
class TriggeredLine(Line):
    def open(self) -> TriggeredCamera:
        life, self.opened = self.opened, self.opened + 1
        self.act(self.open_with[life] if life < len(self.open_with) else None)
        return TriggeredCamera(self, life)


@dataclass
class Seen:
    """An Output that keeps what it was told."""

    verdicts: list[Verdict] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def write(self, verdict: Verdict, frame: Frame | None) -> None:
        self.verdicts.append(verdict)
        self.times.append(time.monotonic())

    def close(self) -> None:
        """Nothing is open."""

    def of(self, camera: str) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.camera == camera]

    def labels(self) -> list[str]:
        return [verdict.label.value for verdict in sorted(self.verdicts, key=lambda one: (one.camera, one.sequence))]


@dataclass
class Running:
    """A station in a thread of its own."""

    station: Station
    seen: Seen
    events: list[CameraEvent]
    alarms: Alarms
    stop: Stop
    thread: threading.Thread
    error: list[BaseException]
    path: Path

    @property
    def rows(self) -> list[Row]:
        return sorted(read_rows(self.path), key=lambda row: (row.camera, row.sequence))

    def end(self, within_s: float = 20.0) -> None:
        self.stop.request()
        self.thread.join(within_s)
        assert not self.thread.is_alive(), "the station did not stop"

    def active(self) -> set[str]:
        return {alarm.name for alarm in self.alarms.active()}


def shoot(one: Running, count: int = 1) -> None:
    """Trigger the camera, and wait for the verdicts."""
    wait_until(lambda: one.station.states()["camera"] is CameraState.RUNNING)
    before = len(one.seen.verdicts)
    for _ in range(count):
        one.station.trigger("camera")
    wait_until(lambda: len(one.seen.verdicts) == before + count)


@contextmanager
def running(
    folder: Path,
    lines: Mapping[str, Line],
    backend: Callable[[], Backend] | dict[str, Callable[[], Backend]] | None = None,
    *,
    tuning: Tuning | None = None,
    ready: bool = True,
    outputs: dict[str, object] | None = None,
    names: Names | None = None,
    archive: Archive | None = None,
    **source: object,
) -> Iterator[Running]:
    """A whole station, ended at the end. backend: one opener for all cameras, or one a camera. source: of each camera.

    ready: the cameras give nothing before the station is ready.
    """
    openers = backend if isinstance(backend, dict) else {"backend": backend or (lambda: FakeBackend(level))}
    settings = {"timeout_s": 0.3, "backoff_s": FAST} | source
    alarms, seen, events, stop, error = Alarms(), Seen(), [], Stop(), []
    ledger = Ledger(folder / "ledger.sqlite", run_id := new_run_id())

    def judges(name: str) -> Judges:
        one = openers[name]()
        inspectors = {camera: Inspector(one, Rule(0.5), "ab" * 32, camera=camera) for camera in lines}
        return Judges(one, inspectors)

    station = Station(
        [
            StationSource(
                Source(name, **settings),  # type: ignore[arg-type]
                line.open,
                name if name in openers else "backend",
                names,
            )
            for name, line in lines.items()
        ],
        {name: (lambda name=name: judges(name)) for name in openers},
        Recorder(ledger, archive or Archive(folder / "archive", "none"), alarms=alarms),
        run_id=run_id,
        alarms=alarms,
        outputs={"seen": seen, **(outputs or {})},  # type: ignore[dict-item]
        stop=stop,
        tuning=tuning,
        on_event=events.append,
    )

    def work() -> None:
        try:
            station.run()
        except Exception as caught:  # noqa: BLE001 - for the test to look at
            error.append(caught)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        if ready:
            wait_until(station.ready.is_set)
            for line in lines.values():
                line.go.set()
        made = Running(station, seen, events, alarms, stop, thread, error, folder / "ledger.sqlite")
        yield made
        made.end()
    finally:
        stop.request()
        thread.join(20.0)
        for line in lines.values():
            line.release.set()
        ledger.close()
