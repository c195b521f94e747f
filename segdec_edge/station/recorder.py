"""A thread that makes verdicts durable, then keeps their pictures, off the reject path. Knows no camera, no backend."""

from __future__ import annotations

import logging
from collections import deque
from threading import Condition, Thread
from types import TracebackType

from segdec_edge.errors import OutputError
from segdec_edge.outputs.archive import Archive
from segdec_edge.outputs.ledger import Ledger
from segdec_edge.types import Frame, Verdict

_log = logging.getLogger(__name__)

CAPACITY = 16
"""Parts that may wait, so that a flash disk's pause of a few hundred ms is bridged, and pictures do not fill memory."""


class Recorder:
    """A context manager: put() accepts verdicts, leaving it waits until all are recorded.

    All that waits goes into the ledger in one transaction. A verdict stays in the queue until its row is durable, so
    whatever ends the writer, the queue names the parts that were decided but not recorded.
    """

    def __init__(self, ledger: Ledger, archive: Archive, capacity: int = CAPACITY) -> None:
        self._ledger, self._archive, self._capacity = ledger, archive, capacity
        self._waiting: deque[tuple[Verdict, Frame | None]] = deque()
        self._changed = Condition()
        self._closing = False
        self._ended = False
        self._failure: OutputError | None = None
        self._thread = Thread(target=self._work, name="recorder", daemon=True)

    @property
    def archive_failures(self) -> int:
        return self._archive.failures

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def put(self, verdict: Verdict, frame: Frame | None) -> None:
        """Hand over one verdict; blocks while the queue is full. Raises OutputError once the ledger has failed."""
        picture = frame if self._archive.wants(verdict.label) else None
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._waiting) < self._capacity)
            self._waiting.append((verdict, picture))
            self._changed.notify_all()
            if self._ended:
                raise self._error()

    def close(self) -> None:
        """Wait until every verdict is durable. Raises OutputError where one is not, and logs each such part."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        for verdict, _ in self._waiting:
            _log.error("decided but not recorded: %s", _described(verdict))
        if self._waiting or self._failure:
            raise self._error()

    def _work(self) -> None:
        try:
            while batch := self._next_batch():
                self._ledger.write_all([verdict for verdict, _ in batch])
                self._recorded(len(batch))
                for verdict, frame in batch:
                    self._archive.write(verdict, frame)
        except OutputError as error:
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _next_batch(self) -> list[tuple[Verdict, Frame | None]]:
        """All that waits, left in place; empty when closing and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._closing)
            return list(self._waiting)

    def _recorded(self, count: int) -> None:
        with self._changed:
            for _ in range(count):
                self._waiting.popleft()
            self._changed.notify_all()

    def _error(self) -> OutputError:
        cause = str(self._failure) if self._failure else "the recorder ended by a fault of its own (traceback above)."
        parts = (
            f"{len(self._waiting)} parts were decided but not recorded; the log names them. " if self._waiting else ""
        )
        return OutputError(f"{parts}{cause}")


def _described(verdict: Verdict) -> str:
    score = "no score" if verdict.score is None else f"score {verdict.score:.6f}"
    return f"part {verdict.part_id} {verdict.label.value}, {score}, {verdict.source}: {verdict.reason}"
