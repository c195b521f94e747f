"""What waits between a camera and a backend. Knows neither of them, and makes no verdict."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import Literal

from segdec_edge.station.part import Part
from segdec_edge.types import Frame

Policy = Literal["latest", "lossless"]
"""latest: of a free-running camera the newest frame only; lossless: every part, in a bounded queue."""


class Intake:
    """One camera's place before a lane. `changed` is the lane's: all intakes of a lane share it.

    latest holds one frame that is no part yet: opened makes it one when the lane takes it, so a frame that a newer one
    replaced never was a part. lossless holds up to size parts.
    """

    def __init__(self, changed: Condition, policy: Policy, size: int, opened: Callable[[Frame], Part | None]) -> None:
        self._changed, self._policy, self._opened = changed, policy, opened
        self._size = 1 if policy == "latest" else size
        self._waiting: deque[Part | Frame] = deque()
        self._wait_for_room = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def replace(self, frame: Frame) -> bool:
        """latest: make this the newest frame; whether it replaced one that nobody had looked at."""
        with self._changed:
            replaced = bool(self._waiting)
            self._waiting.clear()
            self._waiting.append(frame)
            self._changed.notify_all()
        return replaced

    def put(self, part: Part) -> bool:
        """lossless: queue a part; False where there is no room for it."""
        with self._changed:
            if len(self._waiting) >= self._size:
                return False
            self._waiting.append(part)
            self._changed.notify_all()
        return True

    def clear(self) -> bool:
        """latest: throw away what waits; whether anything did."""
        with self._changed:
            any_waited = bool(self._waiting)
            self._waiting.clear()
        return any_waited

    def wait_for_room(self, within_s: float) -> bool:
        """Whether there is room before the time is over; for sources that can wait."""
        with self._changed:
            self._wait_for_room += 1
            try:
                return self._changed.wait_for(lambda: len(self._waiting) < self._size, within_s)
            finally:
                self._wait_for_room -= 1

    def pop(self) -> Part | Frame | None:
        """The oldest that waits. Only for the lane, which holds `changed`."""
        if not self._waiting:
            return None
        oldest = self._waiting.popleft()
        if self._wait_for_room:
            self._changed.notify_all()
        return oldest

    def first(self) -> Part | Frame | None:
        return self._waiting[0] if self._waiting else None

    def parts(self) -> list[Part]:
        """What waits, without frames that are no part yet. Only for the lane, which holds `changed`."""
        return [one for one in self._waiting if isinstance(one, Part)]

    def as_part(self, taken: Part | Frame) -> Part | None:
        """The part to be judged; None where its camera was lost meanwhile."""
        return taken if isinstance(taken, Part) else self._opened(taken)
