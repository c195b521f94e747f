"""Who judges: what is in office now, what was before and still has parts to judge, and whose backend is gone.

Calls no backend: it says what is to be closed, and the lane's thread closes it. Knows no thread and no camera.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Condition

from segdec_edge.station.judging import AnyJudges, same_recipe
from segdec_edge.station.part import Part


class Office:
    """changed: the lane's, told of a swap. Any thread may ask and swap; the rest is for the lane's own thread.

    now judges the parts whose picture comes now, None before the first was opened; fresh: it was swapped in, and no
    part was judged by it yet, so any thread may still take it over.
    """

    def __init__(self, changed: Condition) -> None:
        self.now: AnyJudges | None = None
        self.fresh = False
        self._gone = False
        self._changed = changed
        self._retired: list[AnyJudges] = []
        self._entering: list[AnyJudges] = []

    def swap(self, judges: AnyJudges) -> None:
        """What was in office goes once its last part is judged; where its backend is gone already, at once."""
        with self._changed:
            if self.now is not None and not self._gone:
                self._retired.append(self.now)
            self.now, self.fresh, self._gone = judges, True, False
            self._changed.notify_all()

    def take(self, opened: AnyJudges | None) -> bool:
        """Put in office what was opened, unless another one was swapped in meanwhile; whether it is needed."""
        with self._changed:
            if not self.fresh:
                self.now, self._gone = opened, False
            return not self.fresh

    def used(self, judges: AnyJudges) -> None:
        """Parts are judged by it from now on."""
        if self.fresh:  # else without the lock: asked for every part
            with self._changed:
                self.fresh = judges is not self.now

    @contextmanager
    def entering(self) -> Iterator[AnyJudges | None]:
        """What a part is to be prepared for, held open until the part waits in its queue."""
        with self._changed:
            judges = self.now
            if judges is not None:
                self._entering.append(judges)
        try:
            yield judges
        finally:
            if judges is not None:
                with self._changed:
                    self._entering.remove(judges)

    def judge_of(self, part: Part) -> AnyJudges | None:
        """What it was prepared for, or the same opened again. None where that is gone and another recipe is in office:
        the part is not what that one is for.
        """
        own, now = part.judges, self.now
        if own is None or own is now:
            return now
        if any(own is one for one in self._retired):
            return own
        return now if now is not None and same_recipe(own, now) else None

    def idle(self, waiting: Iterable[Part]) -> list[AnyJudges]:
        """Those that went and have no part left among the waiting ones, to be closed. The caller holds `changed`."""
        busy = {id(part.judges) for part in waiting} | set(map(id, self._entering))
        done = [one for one in self._retired if id(one) not in busy]
        self._retired = [one for one in self._retired if id(one) in busy]
        return done

    @property
    def any_retired(self) -> bool:
        return bool(self._retired)

    def give_up(self) -> AnyJudges | None:
        """What is in office fails: to be closed, and opened again. None where another one was swapped in already."""
        with self._changed:
            if self.fresh or self._gone:
                return None
            self._gone = True
            return self.now

    def clear(self, *, fresh: bool) -> list[AnyJudges]:
        """All that is open and belongs to the thread that leaves, to be closed by it. fresh: what was swapped in and
        judged nothing yet too; else that one stays in office for the next thread.
        """
        with self._changed:
            left, self._retired = self._retired, []
            if self.now is not None and not self._gone and (fresh or not self.fresh):
                left.append(self.now)
                self._gone = True
            return left
