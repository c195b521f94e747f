"""One backend on one thread, and the cameras it serves. Knows no camera's ways, no ledger and no output.

The lane's thread takes what waits, infers and decides. A backend that hangs is left behind with its thread: its parts
are UNKNOWN, and a new backend is opened on a new thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Condition, Event, Thread

from segdec_edge.errors import BackendError
from segdec_edge.station.alarms import Alarms
from segdec_edge.station.intake import Intake
from segdec_edge.station.judging import AnyJudges, Work, bug, by_judges, judged, predicted, told, unusable, work_of
from segdec_edge.station.office import Office
from segdec_edge.station.part import Part
from segdec_edge.station.picture_watch import PictureWatch
from segdec_edge.station.register import Register
from segdec_edge.station.supervisor import Turn, guarded, itself, join_all, start_thread
from segdec_edge.types import Frame
from segdec_edge.view import SizeHW

_log = logging.getLogger(__name__)

OPEN_LIMIT_S = 600.0
"""TensorRT may take minutes to load a large engine on a Jetson."""
REOPEN_S = (1.0, 30.0)
"""The shortest and the longest wait before a backend is opened again."""
FAILURES_IN_A_ROW = 5
"""As many batches without a usable prediction, and the backend is opened again."""
HUNG_THREADS = 2
"""Each may hold a model's memory: as many may hang at a time."""
REPLACED = "the backend of its recipe failed, and another recipe judges by now"

Opener = Callable[[], AnyJudges]


class Lane:
    """open_judges: a new, warm backend each time; None where the one given at the start cannot be opened again.

    hang_s: after which a call is given up; batch_ms: how long pictures of several cameras wait for each other.
    """

    def __init__(
        self,
        open_judges: Opener,
        register: Register,
        alarms: Alarms,
        *,
        name: str = "backend",
        hang_s: float = 10.0,
        batch_ms: float = 0.0,
        reopens: bool = True,
    ) -> None:
        self.name = name
        self.changed = Condition()
        self.error: Exception | None = None
        self.opened = Event()
        self._open, self._register, self._alarms, self._reopens = open_judges, register, alarms, reopens
        self._hang_s, self._batch_ms = hang_s, batch_ms
        self._intakes: list[Intake] = []
        self._office = Office(self.changed)
        self._left_behind: dict[Turn, list[AnyJudges]] = {}
        self._turn = Turn()
        self._in_hand: list[Part] = []
        self._hung: list[Thread] = []
        self._pictures_hw: dict[str, SizeHW] = {}
        self.pictures = PictureWatch(alarms)
        self._failures = self._reopened = self._first = 0
        self._reason: type[Exception] | None = None
        self._closing = False

    @property
    def judges(self) -> AnyJudges | None:
        """What judges the parts whose picture comes now; None before the first was opened."""
        return self._office.now

    def serve(self, intake: Intake) -> None:
        """Take this camera's parts too. Before start()."""
        self._intakes.append(intake)

    def start(self) -> None:
        self._begin()

    def stop(self) -> None:
        """End once nothing waits any more."""
        with self.changed:
            self._closing = True
            self.changed.notify_all()

    def join(self, within_s: float) -> None:
        """Wait for the thread; one that hangs in its backend is left behind, by name."""
        turn = self._turn
        if turn.thread is not None and join_all([turn.thread], within_s):
            turn.abandoned = True

    def swap(self, judges: AnyJudges, open_judges: Opener | None = None) -> None:
        """Judge the parts whose picture comes from now on with this one; those before keep the old one, which is closed
        after the last of them.

        open_judges: opens the new one again where it fails later.
        """
        with self.changed:
            self._open = open_judges or self._open
            self._office.swap(judges)

    def pictures_hw(self) -> dict[str, SizeHW]:
        """The size of each camera's last picture, (height, width) in pixels, by the camera's name; without cameras that
        gave none yet.
        """
        return dict(self._pictures_hw)

    def check(self, now_ns: int) -> int | None:
        """For the watch: see a backend that hangs, and put another in its place."""
        turn = self._turn
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if turn.abandoned:
            if not self._closing and self.error is None and len(self._hung) < HUNG_THREADS:
                self._begin()
        elif hanging := turn.overdue(now_ns):
            self._abandon(turn, f"{hanging} did not return within {turn.limit_s:g} s")
        return None

    def enter(self, part: Part, intake: Intake) -> bool:
        """Prepare a part's picture and let it wait its turn, in whatever thread; False where there is no room for it.

        A part whose picture cannot be prepared is UNKNOWN.
        """
        with self._office.entering() as judges:
            return judges is None or not self._prepared(part, judges) or intake.put(part)

    def _prepared(self, part: Part, judges: AnyJudges) -> bool:
        """Whether the part has the network's input of its frame now; else it has its verdict."""
        frame = part.frame
        if frame is None:  # its deadline passed meanwhile
            return False
        self._pictures_hw[part.camera] = (frame.pixels.shape[0], frame.pixels.shape[1])
        inspector = judges.inspectors[part.camera]
        began_ns = time.monotonic_ns()
        prepared = guarded(lambda: inspector.prepare(frame), itself)
        part.queued_ns = time.monotonic_ns()
        part.stage_ms["prepare"] = (part.queued_ns - began_ns) / 1e6
        if isinstance(prepared, Exception):
            if bug(prepared) is not None:
                self._alarms.raised("prepare", told(prepared), prepared)
            self.pictures.unusable(part.camera, told(prepared))
            self._register.settle_unknown(part, told(prepared))
            return False
        self.pictures.usable(part.camera)
        part.judges, part.prepared = judges, prepared
        return True

    def _begin(self) -> None:
        turn = self._turn = Turn()
        turn.thread = start_thread(self.name, lambda: self._work(turn))

    def _work(self, turn: Turn) -> None:
        def broken(error: Exception) -> None:
            self._alarms.raised(self.name, f"its thread failed: {type(error).__name__}: {error}", error)
            self._abandon(turn, "a fault of its own")

        guarded(lambda: self._serve(turn), broken)
        for judges in self._let_go(turn):
            self._close(turn, judges)

    def _serve(self, turn: Turn) -> None:
        serving = self._opens(turn)
        while serving and (batch := self._next_batch(turn)):
            self._judge(turn, batch)
            self._close_retired(turn)
            if self._failures >= FAILURES_IN_A_ROW and self._reopens:
                serving = self._opens_again(turn)

    def _opens_again(self, turn: Turn) -> bool:
        """In place of what fails, which is closed first: there may be no memory for two."""
        with self.changed:
            if turn.abandoned:
                return False
            self._reopened += 1
            failed = self._office.give_up()
        self._close(turn, failed)
        return self._opens(turn)

    def _let_go(self, turn: Turn) -> list[AnyJudges]:
        """What this thread has to close at its end; what another one has taken over is not among it."""
        with self.changed:
            return self._left_behind.pop(turn, []) if turn.abandoned else self._office.clear(fresh=True)

    def _opens(self, turn: Turn) -> bool:
        """Whether there is a warm backend now: opened here, or swapped in meanwhile. At the start one try; later as
        many as it takes.
        """
        self._failures = 0
        while self._is_wanted(turn):
            if self._reopened:
                with self.changed:
                    wait_s = min(REOPEN_S[1], REOPEN_S[0] * 2 ** min(self._reopened - 1, 20))
                    self.changed.wait_for(lambda: turn.abandoned or self._closing or self._office.fresh, wait_s)
            if self._office.fresh:
                return self._takes_over(turn, None)
            turn.begin("opening the backend", OPEN_LIMIT_S)
            judges = guarded(self._open, itself)
            turn.done()
            if not isinstance(judges, Exception):
                return self._takes_over(turn, judges)
            if turn.abandoned:
                return False
            if not self.opened.is_set():
                self.error = judges
                self.opened.set()
                return False
            self._reopened += 1
            self._refused(judges)
        return False

    def _is_wanted(self, turn: Turn) -> bool:
        return not turn.abandoned and not (self._closing and self.opened.is_set())

    def _refused(self, error: Exception) -> None:
        """An alarm of its own: the backend's has been told already. Another kind of reason is told anew."""
        name = f"{self.name} opening"
        if type(error) is not self._reason:
            self._alarms.cleared(name, "for another reason now")
        self._reason = type(error)
        self._alarms.raised(name, f"cannot be opened again: {told(error)}", bug(error))

    def _takes_over(self, turn: Turn, judges: AnyJudges | None) -> bool:
        """judges None, or another one swapped in while they were opened: those swapped in judge."""
        with self.changed:
            late = turn.abandoned
            needed = not late and self._office.take(judges)
        if not needed:
            self._close(turn, judges)
        if late:
            return False
        if self.opened.is_set():
            _log.warning("%s: opened again", self.name)
            self._alarms.cleared(f"{self.name} opening", "open again")
        self.opened.set()
        return True

    def _next_batch(self, turn: Turn) -> list[Part]:
        """At most one part of each camera, so that one camera's bursts hold up no other; empty at the end."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: turn.abandoned or self._closing or any(map(len, self._intakes)))
                if turn.abandoned:
                    return []
                self._wait_for_the_others(turn)
                taken = self._take()
                if not taken:
                    return []
            parts = [part for intake, one in taken if (part := self._ready(intake, one)) is not None]
            if parts:
                return parts

    def _wait_for_the_others(self, turn: Turn) -> None:
        if self._batch_ms > 0 and 0 < sum(map(bool, self._intakes)) < len(self._intakes):
            self.changed.wait_for(
                lambda: turn.abandoned or self._closing or all(map(len, self._intakes)), self._batch_ms / 1e3
            )

    def _take(self) -> list[tuple[Intake, Part | Frame]]:
        """What one call of the backend may take, for one and the same judges; each camera comes first in turn."""
        taken: list[tuple[Intake, Part | Frame]] = []
        self._first = (self._first + 1) % len(self._intakes)
        judge: AnyJudges | None = None
        for intake in self._intakes[self._first :] + self._intakes[: self._first]:
            first = intake.first()
            if first is None or (taken and self._judge_of(first) is not judge):
                continue
            judge = self._judge_of(first)
            taken.append((intake, first))
            intake.pop()
            if judge is not None and len(taken) == (judge.backend.spec.max_batch or len(self._intakes)):
                break
        return taken

    def _judge_of(self, waiting: Part | Frame) -> AnyJudges | None:
        return self._office.judge_of(waiting) if isinstance(waiting, Part) else self.judges

    def _ready(self, intake: Intake, one: Part | Frame) -> Part | None:
        """The part with its prepared picture; None where its verdict is given already."""
        now = self.judges  # asked before: a frame of a camera that is opened for another recipe is none of that one's
        part = intake.as_part(one)
        if part is None or part.settled:
            return None
        part.stage_ms["wait"] = (time.monotonic_ns() - part.queued_ns) / 1e6
        judges = now if part.judges is None else self._office.judge_of(part)
        if judges is None:
            self._register.settle_unknown(part, REPLACED)
            return None
        return part if part.judges is judges or self._prepared(part, judges) else None

    def _judge(self, turn: Turn, parts: list[Part]) -> None:
        work = work_of(parts)
        if not work:
            return
        self._in_hand = parts
        for alike in by_judges(work):  # of several where a swap came while their pictures were prepared
            if not turn.abandoned:
                self._judge_alike(turn, alike)
        if not turn.abandoned:
            self._in_hand = []

    def _judge_alike(self, turn: Turn, work: list[Work]) -> None:
        self._office.used(work[0].judges)
        turn.begin("the backend", self._hang_s)
        outcome = predicted(work)
        turn.done()
        trouble: tuple[str, Exception | None] | None = None
        for index, one in enumerate(work):
            verdict, error = judged(one, outcome, index)
            if error is not None or unusable(verdict):
                trouble = verdict.reason, error
            self._register.settle(one.part, verdict)
        if not turn.abandoned and work[0].judges is self.judges:  # one that was replaced is not opened again
            self._count(trouble)

    def _count(self, trouble: tuple[str, Exception | None] | None) -> None:
        if trouble is None:
            self._failures = self._reopened = 0
            self._alarms.cleared(self.name, "predictions again")
        else:
            self._failures += 1
            self._alarms.raised(self.name, f"no usable prediction: {trouble[0]}", bug(trouble[1]))

    def _abandon(self, turn: Turn, reason: str) -> None:
        with self.changed:
            if turn.abandoned:
                return
            turn.abandoned = True
            # Only the thread that is left behind may call or close what it had, if it ever comes back.
            self._left_behind[turn] = self._office.clear(fresh=False)
            self.changed.notify_all()
        if turn.thread is not None:
            self._hung.append(turn.thread)
        self._alarms.raised(self.name, f"{reason}; its thread is left behind and a new backend is opened")
        for part in self._in_hand:
            self._register.settle_unknown(part, f"no prediction: {reason}")
        self._in_hand = []
        self._reopened = 0
        if not self._reopens:
            self.error = BackendError(f"{self.name}: {reason}, and it cannot be opened again. Start the station again.")

    def _close_retired(self, turn: Turn) -> None:
        if not self._office.any_retired:
            return
        with self.changed:
            if turn.abandoned:  # another thread judges with them
                return
            done = self._office.idle(part for intake in self._intakes for part in intake.parts())
        for judges in done:
            self._close(turn, judges)

    def _close(self, turn: Turn, judges: AnyJudges | None) -> None:
        if judges is None:
            return
        turn.begin("closing the backend", self._hang_s)
        guarded(judges.close, lambda error: _log.warning("%s: closing failed: %s", self.name, told(error)))
        turn.done()
