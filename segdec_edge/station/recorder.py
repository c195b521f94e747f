"""Verdicts become durable rows, off the reject path. Knows no camera and no backend.

Taking a verdict never blocks and never fails: while the ledger cannot be written, rows are held and tried again, and
pictures stop. What could not be recorded in the end is counted and named in the log.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from threading import Condition, Thread
from types import TracebackType

from segdec_edge.errors import OutputError
from segdec_edge.outputs.archive import Archive
from segdec_edge.outputs.ledger import Ledger
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.keeper import Keeper
from segdec_edge.station.statistics import LatencyHistogram
from segdec_edge.station.supervisor import guarded, itself, join_all, start_thread
from segdec_edge.types import Frame, Verdict

_log = logging.getLogger(__name__)

CAPACITY = 32
"""Pictures that may wait, so that they do not fill the memory."""
ROWS = 256
"""Rows before a source that can wait is held up: a flash disk's pause of some 100 ms."""
LINGER_S = 0.02
"""How long a row waits for others before it is written: a commit costs a busy core and a flash disk more than a row."""
HELD = 10_000
"""Rows that are held while the ledger cannot be written, in some 10 MB."""
BATCH = 512
NOTES = 1000
RETRY_S = (0.5, 10.0)
CALM_S = 10.0
"""How long every row must have been written before the alarm is over, once all that were held are. On a disk that is
almost full some rows go in and the next do not, again and again; as long as the longest wait before another try."""
CLOSE_S = 30.0

_Row = tuple[Verdict, Frame | None, int]


class Recorder:
    """A context manager: put() takes verdicts, leaving it waits until all are recorded.

    All that waits goes into the ledger in one transaction. A verdict stays in the queue until its row is durable, so
    the queue names the parts that were decided but not recorded. stops: let `failure` end the station at the first row
    that cannot be written, instead of trying again.
    """

    def __init__(
        self,
        ledger: Ledger,
        archive: Archive,
        capacity: int = CAPACITY,
        *,
        alarms: Alarms | None = None,
        stops: bool = False,
        rows: int = ROWS,
        held: int = HELD,
    ) -> None:
        self.recorded = self.lost = 0
        self.latency = LatencyHistogram()
        self.failure: OutputError | None = None
        self._ledger, self._capacity, self._rows, self._held, self._stops = ledger, capacity, rows, held, stops
        self._alarms = alarms or Alarms()
        self._keeper = Keeper(archive, self._alarms, self._room_again)
        self._waiting: deque[_Row] = deque()
        self._notes: deque[tuple[str, str, str]] = deque(maxlen=NOTES)
        self._batch = BATCH
        self._pictures = self._owed = self._told = 0
        self._failed_s: float | None = None
        self._changed = Condition()
        self._closing = self._closed = False
        self._thread: Thread | None = None

    @property
    def archive_failures(self) -> int:
        """Pictures that were wanted and not kept."""
        return self._keeper.failures

    @property
    def waiting(self) -> int:
        """Verdicts that are not durable yet."""
        return len(self._waiting)

    @property
    def must_stop(self) -> bool:
        """Whether the station is to end because the ledger failed."""
        return self._stops and self.failure is not None

    def __enter__(self) -> Recorder:
        self._keeper.start()
        self._thread = start_thread("recorder", self._work)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def put(self, verdict: Verdict, frame: Frame | None) -> None:
        """Take one verdict. Never blocks: a picture or a row for which there is no room any more is counted as lost."""
        wanted = frame if frame is not None and self._keeper.wants(verdict) else None
        with self._changed:
            failing = self.failure is not None
            picture = None if failing or self._full_of_pictures() else wanted
            full = self._closed or len(self._waiting) >= self._held
            if picture is None and len(self._waiting) >= self._capacity:
                verdict = replace(verdict, heatmap=None)  # the row has none; thousands of them would fill the memory
            if not full:
                self._pictures += picture is not None
                self._waiting.append((verdict, picture, time.monotonic_ns()))
                if len(self._waiting) == 1 or self._is_full():  # each needless waking costs some 20 µs
                    self._changed.notify_all()
        if wanted is not None and picture is None:
            self._miss(verdict, failing)
        if full:
            self._lose(verdict)

    def note(self, kind: str, text: str, camera: str = "") -> None:
        """Have a note written beside the rows: an alarm, a camera's state. Never blocks; too many at once are cut."""
        with self._changed:
            self._notes.append((kind, text, camera))
            self._changed.notify_all()

    def wait_for_room(self, within_s: float, pending: Callable[[], int] = lambda: 0) -> bool:
        """Whether a source that can wait may go on. Rows that are held because the ledger fails hold up nobody.

        pending: parts on their way here; each may bring a picture, and a replay keeps all of them.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._has_room(pending()), within_s)

    def close(self) -> None:
        """Wait until every verdict is durable. Raises OutputError where one is not, and logs each such part."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        hanging = join_all([self._thread] if self._thread else [], CLOSE_S)
        self._keeper.close(CLOSE_S)
        with self._changed:
            self._closed = True
            left = list(self._waiting)
        for verdict, _, _ in left:
            _log.error("decided but not recorded: %s", _described(verdict))
        if left or self.lost:
            why = f"the ledger did not answer for {CLOSE_S:g} s" if hanging else str(self.failure or "see the log")
            raise OutputError(f"{len(left) + self.lost} parts were decided but not recorded; the log names them. {why}")

    def _work(self) -> None:
        wait_s, last = RETRY_S[0], False
        while (batch := self._next_batch()) is not None:
            error = self._error_of(batch)
            if error is None:
                self._recorded(batch)
                error = self._write_notes()
            if error is None:
                wait_s, self._batch = RETRY_S[0], min(BATCH, 2 * self._batch)
                self._calm()
                continue
            self._failed(error)
            self._batch = max(1, self._batch // 2)  # the last room of a disk is too little for many rows at once
            if self._stops or last:
                return
            with self._changed:
                last = self._changed.wait_for(lambda: self._closing, wait_s)  # one more try when the station ends
            wait_s = min(RETRY_S[1], 2 * wait_s)

    def _next_batch(self) -> list[_Row] | None:
        """The rows that wait, left in place; without any there are notes, or an alarm may be over; None at the end."""
        with self._changed:
            calm_s = None if self._failed_s is None else CALM_S
            self._changed.wait_for(lambda: bool(self._waiting) or bool(self._notes) or self._closing, calm_s)
            if self._closing and not self._waiting and not self._notes and self._failed_s is None:
                return None
            if not self._is_full():
                self._changed.wait_for(self._is_full, LINGER_S)
            return [self._waiting[index] for index in range(min(self._batch, len(self._waiting)))]

    def _write_notes(self) -> Exception | None:
        while self._notes:
            error = guarded(lambda: self._ledger.event(*self._notes[0]), itself)
            if error is not None:
                return error
            self._notes.popleft()
        return None

    def _error_of(self, batch: list[_Row]) -> Exception | None:
        if not batch:
            return None
        return guarded(lambda: self._ledger.write_all([verdict for verdict, _, _ in batch]), itself)

    def _recorded(self, batch: list[_Row]) -> None:
        if not batch:
            return
        now_ns = time.monotonic_ns()
        for verdict, picture, put_ns in batch:
            self.latency.add((now_ns - put_ns) / 1e6)
            if picture is not None:
                self._keeper.put(verdict, picture)
        with self._changed:
            for _, picture, _ in batch:
                self._waiting.popleft()
                self._pictures -= picture is not None
            self.recorded += len(batch)
            self._owed -= min(self._owed, len(batch))
            self._changed.notify_all()

    def _calm(self) -> None:
        """The ledger took what it was given. End the alarm once all that was held is written, and some time without a
        failure is over, or the station.
        """
        if self._failed_s is None:
            return
        with self._changed:
            self.failure = None
            self._changed.notify_all()
        if self._owed or self._notes:
            return
        if self._closing or time.monotonic() - self._failed_s >= CALM_S:
            self._failed_s, lost, self._told = None, self.lost - self._told, self.lost
            self._alarms.cleared("ledger", f"it takes rows again; {lost} were lost meanwhile")

    def _failed(self, error: Exception) -> None:
        ours = isinstance(error, OutputError)
        told = str(error) if ours else f"the ledger failed by a fault of its own: {type(error).__name__}: {error}"
        with self._changed:
            self.failure = error if isinstance(error, OutputError) else OutputError(told)
            self._owed, self._failed_s = len(self._waiting), time.monotonic()
            dropped = self._drop_pictures()
            self._changed.notify_all()
        for verdict in dropped:
            self._miss(verdict, failing=True)
        self._alarms.raised("ledger", told, None if ours else error)

    def _drop_pictures(self) -> list[Verdict]:
        """Pictures go first: they are large, and their disk may be the one that is full. Whose they were."""
        dropped = []
        for index, (verdict, picture, put_ns) in enumerate(self._waiting):
            if picture is not None:
                self._waiting[index] = (replace(verdict, heatmap=None), None, put_ns)
                dropped.append(verdict)
        self._pictures = 0
        return dropped

    def _miss(self, verdict: Verdict, failing: bool) -> None:
        """A picture without room. Where the ledger fails, that alarm is enough."""
        if failing:
            self._keeper.miss(verdict, None)
        else:
            self._keeper.miss(verdict)

    def _lose(self, verdict: Verdict) -> None:
        self.lost += 1
        _log.error("decided but not recorded: %s", _described(verdict))
        self._alarms.raised("ledger rows", f"{self.lost} parts were decided but not recorded; the log names them")

    def _is_full(self) -> bool:
        """Whether there is no point in waiting for more rows."""
        return self._closing or len(self._waiting) >= self._rows or 2 * self._pictures >= self._capacity

    def _full_of_pictures(self) -> bool:
        return self._pictures + self._keeper.waiting >= self._capacity

    def _has_room(self, pending: int) -> bool:
        pictures = self._pictures + self._keeper.waiting + pending
        # Three quarters: several sources may ask at the same time.
        return self.failure is not None or (len(self._waiting) < self._rows and 4 * pictures < 3 * self._capacity)

    def _room_again(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _described(verdict: Verdict) -> str:
    score = "no score" if verdict.score is None else f"score {verdict.score:.6f}"
    return f"part {verdict.part_id} {verdict.label.value}, {score}, {verdict.source}: {verdict.reason}"
