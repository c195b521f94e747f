"""Named alarms: raised, counted, cleared. Knows no camera, no backend and no output.

An alarm tells people; it never changes a verdict. Whoever shows alarms (a page, a PLC) asks active() or listens.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alarm:
    """message the last one; count how often it was raised since the station started; times in ns of the wall clock.

    cleared_ns is None while it is active.
    """

    name: str
    message: str
    count: int
    raised_ns: int
    cleared_ns: int | None = None

    @property
    def active(self) -> bool:
        return self.cleared_ns is None


class Alarms:
    """Any thread may raise, clear and ask. Each raising of a name that is not active is one line of the log.

    Listeners are called in the thread that raised or cleared, after the fact; they must be quick and must not raise.
    """

    def __init__(self) -> None:
        self._known: dict[str, Alarm] = {}
        self._lock = Lock()
        self._listeners: list[Callable[[Alarm], None]] = []

    def listen(self, listener: Callable[[Alarm], None]) -> None:
        """Be told of every alarm that is raised or cleared from now on."""
        self._listeners.append(listener)

    def raised(self, name: str, message: str, fault: BaseException | None = None) -> None:
        """Raise an alarm, or count it once more. fault: a bug, whose traceback goes into the log."""
        with self._lock:
            before = self._known.get(name)
            new = before is None or not before.active
            alarm = Alarm(name, message, (before.count if before else 0) + 1, time.time_ns())
            self._known[name] = alarm if new or before is None else replace(alarm, raised_ns=before.raised_ns)
        if new:
            _log.error("alarm %s: %s", name, message, exc_info=fault)
            self._tell(alarm)

    def cleared(self, name: str, message: str = "") -> None:
        """Clear an alarm; one that is not active stays as it is."""
        before = self._known.get(name)
        if before is None or not before.active:  # without the lock: asked for every part
            return
        with self._lock:
            alarm = replace(self._known[name], cleared_ns=time.time_ns())
            self._known[name] = alarm
        _log.warning("alarm %s cleared%s", name, f": {message}" if message else "")
        self._tell(alarm)

    def active(self) -> tuple[Alarm, ...]:
        return tuple(alarm for alarm in self.known() if alarm.active)

    def known(self) -> tuple[Alarm, ...]:
        """Every alarm since the start, cleared ones too, by name."""
        with self._lock:
            return tuple(sorted(self._known.values(), key=lambda alarm: alarm.name))

    def _tell(self, alarm: Alarm) -> None:
        for listener in self._listeners:
            listener(alarm)
