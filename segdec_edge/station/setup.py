"""What a station is made of, before any of it is opened. Knows no TOML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from segdec_edge.station.grab import Source
from segdec_edge.station.parts import Names
from segdec_edge.types import Camera


@dataclass(frozen=True)
class StationSource:
    """One camera of a station. open_camera makes a new camera object each time; lane: the name of its backend.

    names: how the line calls its parts, None where a given id is taken as it is.
    """

    source: Source
    open_camera: Callable[[], Camera]
    lane: str = "backend"
    names: Names | None = None


@dataclass(frozen=True)
class Tuning:
    """hang_s: after which a call of the backend is given up; batch_ms: how long pictures of several cameras wait for
    each other; drain_s: how long a stop waits for what was triggered; reopens: whether a lane's opener may be asked
    for another backend after the first.
    """

    hang_s: float = 10.0
    batch_ms: float = 0.0
    drain_s: float = 10.0
    reopens: bool = True
