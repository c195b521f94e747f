"""Energy while something runs, from the meter that there is: a GPU's counter, a board's INA chip or a CPU's RAPL.

A meter measures its part of the machine whole, with whatever else runs there; source says which part.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segdec_edge.bench.nvml import Nvml, open_nvml

_PERIOD_S = 0.02
_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN")
"""Rails that feed everything, as Jetson boards call them; where there is none the rails told are added up."""


@dataclass
class Used:
    """joules: None until the measurement has ended, and where the meter failed meanwhile."""

    joules: float | None = None


def open_meter(on_gpu: bool, root: Path = Path("/")) -> CounterMeter | InaMeter | None:
    """The meter of what does the computing; None where this machine does not tell that part's energy."""
    rails = ina_rails(root)
    if rails:
        names = " + ".join(rail.name for rail in rails)
        return InaMeter(f"the board's rail {names} (INA)", rails)
    if on_gpu:
        gpu = open_nvml()
        return None if gpu is None or gpu.joules() is None else CounterMeter("the GPU alone (NVML)", gpu)
    zones = [Rapl(path) for path in sorted(root.glob("sys/class/powercap/intel-rapl:?"))]
    if not zones or any(zone.joules() is None for zone in zones):
        return None
    return CounterMeter("the CPU packages (RAPL)", *zones)


@dataclass(frozen=True)
class Rapl:
    """One CPU package's counter. It wraps after minutes of load: shorter measurements are right but for one in many."""

    zone: Path

    def joules(self) -> float | None:
        found = _number(self.zone / "energy_uj")
        return None if found is None else found / 1e6


@dataclass(frozen=True)
class Rail:
    """One channel of an INA3221: milliamperes and millivolts."""

    name: str
    current: Path
    voltage: Path

    def watts(self) -> float | None:
        current, voltage = _number(self.current), _number(self.voltage)
        return None if current is None or voltage is None else current * voltage / 1e6


class CounterMeter:
    """Counters that only rise, in joules."""

    def __init__(self, source: str, *counters: Nvml | Rapl) -> None:
        self.source, self._counters = source, counters

    @contextmanager
    def running(self) -> Iterator[Used]:
        used, start = Used(), self._sum()
        yield used
        end = self._sum()
        if start is not None and end is not None and end >= start:
            used.joules = end - start

    def _sum(self) -> float | None:
        found = [counter.joules() for counter in self._counters]
        return None if None in found else sum(one for one in found if one is not None)


@dataclass
class InaMeter:
    """Power read every 20 ms on a thread of its own, added up by the trapezoid rule."""

    source: str
    rails: tuple[Rail, ...]
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[Used]:
        used, readings = Used(), list[tuple[float, float]]()
        self._stop.clear()
        reader = threading.Thread(target=self._read, args=(readings,), daemon=True)
        reader.start()
        try:
            yield used
        finally:
            self._stop.set()
            reader.join()
        if len(readings) > 1:
            at_s, watts = np.array(readings).T
            used.joules = float(np.sum(np.diff(at_s) * (watts[1:] + watts[:-1]) / 2))

    def _read(self, readings: list[tuple[float, float]]) -> None:
        while True:
            watts = [rail.watts() for rail in self.rails]
            if None not in watts:
                readings.append((time.monotonic(), sum(one for one in watts if one is not None)))
            if self._stop.wait(_PERIOD_S):
                return


def ina_rails(root: Path) -> tuple[Rail, ...]:
    """The rail that feeds the whole board, else all that are told; empty where there is no such chip."""
    found = []
    for label in sorted(root.glob("sys/bus/i2c/drivers/ina3221*/*/hwmon/hwmon*/in*_label")):
        channel, folder = label.name.removeprefix("in").removesuffix("_label"), label.parent
        current = folder / f"curr{channel}_input"
        if _number(current) is not None:
            found.append(Rail(label.read_text(encoding="utf-8").strip(), current, folder / f"in{channel}_input"))
    whole = tuple(rail for rail in found if rail.name in _WHOLE_BOARD)
    return whole[:1] or tuple(found)


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
