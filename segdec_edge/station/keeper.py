"""Pictures into the archive, on a thread of their own: encoding one takes longer than a row. Knows no ledger."""

from __future__ import annotations

import logging
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread

from segdec_edge.outputs.archive import Archive
from segdec_edge.station.supervisor import guarded, join_all, start_thread
from segdec_edge.types import Frame, Verdict

_log = logging.getLogger(__name__)
_IDLE_S = 30.0


class Keeper:
    """put() gives it a picture whose row is durable. Whoever puts also sees that not too many wait.

    on_kept is called after each picture, in the keeper's thread.
    """

    def __init__(self, archive: Archive, on_kept: Callable[[], None]) -> None:
        self._archive, self._on_kept = archive, on_kept
        self._queue: SimpleQueue[tuple[Verdict, Frame] | None] = SimpleQueue()
        self._missed = self._busy = 0
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

    def miss(self, verdict: Verdict) -> None:
        """Count a picture that is wanted and cannot be kept."""
        self._missed += 1
        if self._missed == 1:
            _log.warning("part %s: no room for its picture; further ones are only counted", verdict.part_id)

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
            self._on_kept()

    def _next(self) -> tuple[Verdict, Frame] | None:
        while True:
            try:
                return self._queue.get(timeout=_IDLE_S)
            except Empty:  # nothing to keep is a time to delete what is too old
                guarded(self._archive.tend, lambda error: _log.error("archive: tidying failed", exc_info=error))

    def _keep(self, verdict: Verdict, frame: Frame) -> None:
        def failed(error: Exception) -> None:
            self._missed += 1
            _log.error("part %s: its picture was not kept", verdict.part_id, exc_info=error)

        guarded(lambda: self._archive.write(verdict, frame), failed)
