"""What judges the parts, exchanged between two of them. Knows no bundle, no thread of its own and no file.

A part takes what judges it once, and gives it back when its backend is through with it: so no part meets two recipes,
and nothing is closed that a part still needs.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    def close(self) -> None: ...


One = TypeVar("One", bound=Closable)


class Swapper(Generic[One]):
    """Holds what judges now. take() and swap() may come from any thread.

    Only the thread that infers gives back: it closes what was replaced, once no part is left that took it.
    """

    def __init__(self, first: One) -> None:
        self._current = first
        self._lock = threading.Lock()
        self._taken: Counter[int] = Counter()
        self._replaced: list[One] = []

    def current(self) -> One:
        """What the next part would be judged by; to look at, not to judge with."""
        return self._current

    def take(self) -> One:
        """What judges the part that asks. To be given back once, whatever becomes of the part."""
        with self._lock:
            taken = self._current
            self._taken[id(taken)] += 1
            return taken

    def give_back(self, one: One) -> None:
        """The part is through. Closes, in this thread, whatever was replaced and has no part left."""
        with self._lock:
            self._taken[id(one)] -= 1
            idle = self._idle() if self._replaced else []
        for old in idle:
            old.close()

    @contextmanager
    def part(self) -> Iterator[One]:
        """take() and give_back() around one part, for a loop of one thread."""
        one = self.take()
        try:
            yield one
        finally:
            self.give_back(one)

    def swap(self, new: One) -> One:
        """From the next take() on `new` judges; gives what judged until now."""
        with self._lock:
            old, self._current = self._current, new
            self._replaced.append(old)
        return old

    def close(self) -> None:
        """Close everything, when the thread that infers has ended."""
        with self._lock:
            left, self._replaced = [*self._replaced, self._current], []
            self._taken.clear()
        for one in left:
            one.close()

    def _idle(self) -> list[One]:
        idle = [one for one in self._replaced if self._taken[id(one)] <= 0]
        self._replaced = [one for one in self._replaced if self._taken[id(one)] > 0]
        for one in idle:
            del self._taken[id(one)]
        return idle
