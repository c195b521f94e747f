"""Every part that was triggered, until its one verdict. Knows no camera, no backend and no file.

Whoever settles a part first decides it: the backend, the deadline, a lost camera. All later verdicts are dropped and
counted, so exactly one goes out for each trigger, whatever the threads do.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from threading import Condition

from segdec_edge.errors import FrameLost
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.part import Part, part_id
from segdec_edge.types import Frame, Label, Verdict

LAST_RESORT_MS = 60_000.0
"""No part waits longer for its verdict, also where the station has no deadline."""

Issue = Callable[[Part, Verdict], None]
Unknown = Callable[[Part, str], Verdict]


@dataclass(frozen=True)
class Counts:
    """Of one camera. opened: parts; settled: parts with a verdict; late: verdicts that came after another."""

    opened: int
    settled: int
    late: int

    @property
    def open(self) -> int:
        return self.opened - self.settled


class _Book:
    def __init__(self) -> None:
        self.opened = self.settled = self.late = 0
        self.last_sequence = -1
        self.waiting: deque[Part] = deque()


class Register:
    """issue gets each part with its one verdict, in the thread that settled it; unknown makes a verdict of a reason.

    on_deadline is told when each part's time is up. A single camera's name stays out of the part ids.
    """

    def __init__(self, run_id: str, cameras: Iterable[str], issue: Issue, unknown: Unknown) -> None:
        self._run_id, self._issue, self._unknown = run_id, issue, unknown
        self._books = {camera: _Book() for camera in cameras}
        self.on_deadline: Callable[[int], None] = lambda deadline_ns: None
        self._changed = Condition()
        self._waiters = 0

    def open(
        self,
        camera: str,
        sequence: int,
        *,
        frame: Frame | None = None,
        deadline_ms: float | None = None,
        given_id: str | None = None,
    ) -> Part:
        """Enter a trigger. It counts from the frame's capture, or from now; deadline_ms from there.

        sequence must be above every earlier one of that camera.
        """
        opened_ns = frame.captured_monotonic_ns if frame is not None else time.monotonic_ns()
        part = Part(
            part_id(self._run_id, sequence, camera if len(self._books) > 1 else None),
            camera,
            sequence,
            opened_ns=opened_ns,
            opened_wall_ns=frame.captured_ns if frame is not None else time.time_ns(),
            deadline_ns=opened_ns + round((LAST_RESORT_MS if deadline_ms is None else deadline_ms) * 1e6),
            given_id=given_id,
            frame=frame,
        )
        book = self._books[camera]
        with self._changed:
            if sequence <= book.last_sequence:
                raise ValueError(f"camera {camera}: part {sequence} after part {book.last_sequence}")
            book.last_sequence = sequence
            book.opened += 1
            book.waiting.append(part)
            while book.waiting and book.waiting[0].settled:
                book.waiting.popleft()
        self.on_deadline(part.deadline_ns)
        return part

    def settle(self, part: Part, verdict: Verdict) -> bool:
        """Decide a part, unless it is already; whether this was the one. The verdict gets the part's own names."""
        book = self._books[part.camera]
        with self._changed:
            if part.settled:
                book.late += 1
                return False
            part.settled = True
            book.settled += 1
            if self._waiters:
                self._changed.notify_all()
        self._issue(part, _named(verdict, part))
        part.frame = part.prepared = None  # it may stay in a queue for a while; its pixels must not
        return True

    def settle_unknown(self, part: Part, reason: str) -> bool:
        return not part.settled and self.settle(part, self._unknown(part, reason))

    def expire(self, now_ns: int) -> int | None:
        """Settle every part whose time is up as UNKNOWN; when the next one's is, None without any."""
        late: list[Part] = []
        next_ns: list[int] = []
        with self._changed:
            for book in self._books.values():
                while book.waiting and (book.waiting[0].settled or book.waiting[0].deadline_ns <= now_ns):
                    late.append(book.waiting.popleft())
                if book.waiting:
                    next_ns.append(book.waiting[0].deadline_ns)
        for part in late:
            waited_ms = (part.deadline_ns - part.opened_ns) / 1e6
            self.settle_unknown(part, f"late: no verdict within {waited_ms:g} ms")
        return min(next_ns, default=None)

    def settle_all_unknown(self, reason: str) -> int:
        """Settle whatever is open; how many parts that were."""
        with self._changed:
            left = [part for book in self._books.values() for part in book.waiting if not part.settled]
        return sum(self.settle_unknown(part, reason) for part in left)

    def wait_until_empty(self, within_s: float) -> bool:
        """Whether every part has its verdict before the time is over."""
        with self._changed:
            self._waiters += 1
            try:
                return self._changed.wait_for(lambda: not self.open_parts(), within_s)
            finally:
                self._waiters -= 1

    def counts(self, camera: str) -> Counts:
        with self._changed:
            book = self._books[camera]
            return Counts(book.opened, book.settled, book.late)

    def open_parts(self) -> int:
        """How many parts have no verdict yet. Without the lock: a moment's figure."""
        return sum(book.opened - book.settled for book in self._books.values())


def unjudged(part: Part, frame: Frame | None, reason: str, inspector: Inspector | None) -> Verdict:
    """UNKNOWN for a part that no backend judged. inspector None: none was opened yet."""
    if inspector is None:
        now_ns = time.time_ns()
        return Verdict(
            part_id=part.part_id,
            sequence=part.sequence,
            label=Label.UNKNOWN,
            score=None,
            threshold=0.0,
            reason=reason,
            captured_ns=part.opened_wall_ns,
            decided_ns=now_ns,
            latency_ms=(time.monotonic_ns() - part.opened_ns) / 1e6,
            bundle_sha256="",
            source=part.source,
        )
    if frame is not None:
        return inspector.unknown(frame, part.part_id, reason)
    lost = FrameLost(reason, sequence=part.sequence, source=part.source, captured_ns=part.opened_wall_ns)
    return inspector.lost(lost, part.part_id, part.opened_ns)


def _named(verdict: Verdict, part: Part) -> Verdict:
    named = (verdict.part_id, verdict.sequence, verdict.camera, verdict.given_id)
    if named == (part.part_id, part.sequence, part.camera, part.given_id):
        return verdict
    return replace(verdict, part_id=part.part_id, sequence=part.sequence, camera=part.camera, given_id=part.given_id)
