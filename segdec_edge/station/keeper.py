"""Pictures into the archive, on a thread of their own: encoding one takes longer than a row. Knows no ledger.

A picture that is not kept is counted and alarmed, once for as long as it lasts: nothing waits for a picture.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread

from segdec_edge.errors import StorageError
from segdec_edge.outputs.archive import Archive
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.supervisor import guarded, join_all, start_thread
from segdec_edge.types import Frame, Verdict

_log = logging.getLogger(__name__)
ALARM = "archive"
CALM_S = 30.0
"""How long every wanted picture must have been kept before the alarm is over: where the archive is only too slow,
kept and missed ones alternate."""
_IDLE_S = 10.0
_TOO_MANY = "more pictures than it can take. Keep fewer (archive.keep), or give it a faster disk."


class Keeper:
    """put() gives it a picture whose row is durable. Whoever puts also sees that not too many wait.

    on_kept is called after each picture, in the keeper's thread.
    """

    def __init__(self, archive: Archive, alarms: Alarms, on_kept: Callable[[], None]) -> None:
        self._archive, self._alarms, self._on_kept = archive, alarms, on_kept
        self._queue: SimpleQueue[tuple[Verdict, Frame] | None] = SimpleQueue()
        self._lock = Lock()
        self._missed = self._busy = self._told = 0
        self._missed_s: float | None = None
        self._thread: Thread | None = None

    @property
    def failures(self) -> int:
        """Pictures that were wanted and not kept."""
        return self._archive.failures + self._missed

    @property
    def waiting(self) -> int:
        return self._queue.qsize() + self._busy

    def start(self) -> None:
        self._thread = start_thread("archive", self._work)

    def wants(self, verdict: Verdict) -> bool:
        return self._archive.wants(verdict.label, verdict.review)

    def put(self, verdict: Verdict, frame: Frame) -> None:
        self._queue.put((verdict, frame))

    def miss(self, verdict: Verdict, reason: str | None = _TOO_MANY) -> None:
        """Count a picture that is wanted and cannot be kept. reason None: another alarm tells why."""
        with self._lock:
            self._missed += 1
        if reason is not None:
            self._alarm(verdict, reason)

    def close(self, within_s: float) -> None:
        """Let it keep what waits, for no longer than within_s."""
        self._queue.put(None)
        join_all([self._thread] if self._thread else [], within_s)

    def _work(self) -> None:
        while (item := self._next()) is not None:
            self._busy = 1
            self._keep(*item)
            del item  # a picture must not stay until the next one comes
            self._busy = 0
            self._calm()
            self._on_kept()

    def _next(self) -> tuple[Verdict, Frame] | None:
        while True:
            try:
                return self._queue.get(timeout=_IDLE_S)
            except Empty:  # nothing to keep is a time to delete what is too old
                guarded(self._archive.tend, lambda error: _log.error("archive: tidying failed", exc_info=error))
                self._calm()

    def _keep(self, verdict: Verdict, frame: Frame) -> None:
        before = self._archive.failures
        guarded(lambda: self._archive.write(verdict, frame), lambda error: self._failed(verdict, error))
        if self._archive.failures > before:
            self._alarm(verdict, self._archive.problem or "")

    def _failed(self, verdict: Verdict, error: Exception) -> None:
        self.miss(verdict, None)
        self._alarm(verdict, f"{type(error).__name__}: {error}", None if isinstance(error, StorageError) else error)

    def _alarm(self, verdict: Verdict, reason: str, fault: Exception | None = None) -> None:
        self._missed_s = time.monotonic()
        self._alarms.raised(ALARM, f"part {verdict.part_id}: its picture is not kept: {reason}", fault)

    def _calm(self) -> None:
        """End the alarm once every picture has been kept for a while; what failed last may be a full disk still."""
        if self._missed_s is None or time.monotonic() - self._missed_s < CALM_S or self._archive.problem is not None:
            return
        self._missed_s = None
        missed, self._told = self.failures - self._told, self.failures
        self._alarms.cleared(ALARM, f"pictures are kept again; {missed} were not")
