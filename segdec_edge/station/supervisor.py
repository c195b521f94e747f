"""Threads that may fail or hang without taking the station with them. Knows no camera and no backend."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from threading import Condition, Thread
from typing import TypeVar

_T = TypeVar("_T")
_U = TypeVar("_U")
_log = logging.getLogger(__name__)

TICK_S = 0.05
"""The longest sleep of the watch; deadlines that come earlier wake it. Each round costs some 0.1 ms of processor time,
at 0.02 s more than the verdicts of a slow line; the shortest hang_s is 0.1 s."""


def guarded(work: Callable[[], _T], on_fault: Callable[[Exception], _U]) -> _T | _U:
    """What work gives, or what on_fault makes of its exception: the one place where any fault is caught."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - the one supervisor: a fault must become a reject, never a silence
        return on_fault(error)


def itself(error: Exception) -> Exception:
    """For guarded: the exception as a value."""
    return error


def start_thread(name: str, work: Callable[[], None]) -> Thread:
    """A daemon: one that hangs in a driver must not keep the process from ending."""
    thread = Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


def join_all(threads: Sequence[Thread], within_s: float) -> list[str]:
    """Wait for threads to end, together no longer than within_s. Logs and gives the names of those that did not."""
    until = time.monotonic() + within_s
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    left = [thread.name for thread in threads if thread.is_alive()]
    if left:
        _log.error("abandoned after %g s: %s. It hangs in a call that does not return.", within_s, ", ".join(left))
    return left


class Turn:
    """One thread's time at a job. It says which call it is in, so that another can see it hang and put it off the job.

    An abandoned thread must not deliver anything any more: it asks `abandoned` after each call that may block.
    """

    def __init__(self) -> None:
        self.abandoned = False
        self.thread: Thread | None = None
        self._call: tuple[str, int, float] | None = None

    def begin(self, call: str, limit_s: float) -> None:
        self._call = (call, time.monotonic_ns(), limit_s)

    def done(self) -> None:
        self._call = None

    @property
    def call(self) -> tuple[str, int, float] | None:
        """The call it is in: name, begin in ns of the monotonic clock, limit in s."""
        return self._call

    @property
    def limit_s(self) -> float:
        """The limit of the call it is in."""
        call = self._call
        return call[2] if call is not None else 0.0

    def overdue(self, now_ns: int) -> str | None:
        """The call that it should have left by now."""
        call = self._call
        return call[0] if call is not None and now_ns - call[1] > call[2] * 1e9 else None


class Watch:
    """A thread that runs checks again and again. A check must not block.

    Each gets the monotonic clock in ns, and may answer when it wants to run again at the latest. on_fault gets what a
    check raises; the checks go on.
    """

    def __init__(self, checks: Sequence[Callable[[int], int | None]], on_fault: Callable[[Exception], None]) -> None:
        self._checks, self._on_fault = checks, on_fault
        self._changed = Condition()
        self._wake_ns = 0
        self._stopping = False
        self._thread: Thread | None = None

    def start(self) -> None:
        self._thread = start_thread("watch", self._work)

    def stop(self, within_s: float) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        join_all([self._thread] if self._thread else [], within_s)

    def wake_by(self, when_ns: int) -> None:
        """Run the checks no later than this. Cheap where the watch would be awake by then anyway."""
        if when_ns < self._wake_ns:
            with self._changed:
                self._wake_ns = min(self._wake_ns, when_ns)
                self._changed.notify()

    def _work(self) -> None:
        while not self._stopping:
            now_ns = time.monotonic_ns()
            self._wake_ns = now_ns + round(TICK_S * 1e9)
            wanted = [at for check in self._checks if (at := self._run(check, now_ns)) is not None]
            with self._changed:
                self._wake_ns = min([self._wake_ns, *wanted])
                sleep_s = (self._wake_ns - time.monotonic_ns()) / 1e9
                if sleep_s > 0 and not self._stopping:
                    self._changed.wait(sleep_s)

    def _run(self, check: Callable[[int], int | None], now_ns: int) -> int | None:
        def faulty(error: Exception) -> int | None:
            self._on_fault(error)
            return None

        return guarded(lambda: check(now_ns), faulty)
