"""The way of verdicts to the outputs, off everybody's path: each output has a bounded queue and a thread of its own.

A slow or hanging output holds up neither the line nor the others; what it could not be told is counted and an alarm.
"""

from __future__ import annotations

import logging
from queue import SimpleQueue
from threading import Thread

from segdec_edge.errors import SegdecError
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.supervisor import guarded, itself, join_all, start_thread
from segdec_edge.types import Frame, Output, Verdict

_log = logging.getLogger(__name__)

CAPACITY = 256


class Outlet:
    """Hands verdicts to one output in the order they were given. sent and lost count them."""

    def __init__(self, name: str, output: Output, alarms: Alarms, capacity: int = CAPACITY) -> None:
        self.name, self.sent, self.lost = name, 0, 0
        self._output, self._alarms, self._capacity = output, alarms, capacity
        self._waiting: SimpleQueue[tuple[Verdict, Frame | None] | None] = SimpleQueue()
        self._thread: Thread | None = None

    def start(self) -> None:
        self._thread = start_thread(f"output {self.name}", self._work)

    def put(self, verdict: Verdict, frame: Frame | None) -> None:
        """Take a verdict; never blocks. Where too many wait already, this one is lost and an alarm is raised."""
        if self._waiting.qsize() >= self._capacity:
            self._missed(verdict, f"{self._capacity} verdicts wait for it")
        else:
            self._waiting.put((verdict, frame))

    def close(self, within_s: float) -> None:
        """Let it take what waits, for no longer than within_s, and close it."""
        self._waiting.put(None)
        join_all([self._thread] if self._thread else [], within_s)

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            verdict, frame = item
            error = self._error_of(verdict, frame)
            if error is None:
                if self._waiting.empty():  # where more come than it takes, taken and lost ones alternate
                    self._alarms.cleared(f"output {self.name}")
                self.sent += 1
            else:
                self._missed(verdict, str(error), error)
        guarded(self._output.close, lambda error: _log.error("output %s: closing failed: %s", self.name, error))

    def _error_of(self, verdict: Verdict, frame: Frame | None) -> Exception | None:
        return guarded(lambda: self._output.write(verdict, frame), itself)

    def _missed(self, verdict: Verdict, reason: str, error: Exception | None = None) -> None:
        self.lost += 1
        bug = None if isinstance(error, SegdecError) else error
        self._alarms.raised(f"output {self.name}", f"not told of part {verdict.part_id}: {reason}", bug)
