"""What a camera's supervision goes through, as states and events. Knows no camera."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CameraState(str, Enum):
    """stalled: a frame is overdue; lost: given up, its parts are UNKNOWN; ended: a finite source is through."""

    OPENING = "opening"
    RUNNING = "running"
    STALLED = "stalled"
    LOST = "lost"
    BACK_OFF = "back-off"
    ENDED = "ended"


@dataclass(frozen=True)
class CameraEvent:
    """A change of state. seconds: how long the state before lasted; at_ns on the wall clock; reason in words."""

    camera: str
    before: CameraState
    state: CameraState
    seconds: float
    at_ns: int
    reason: str
