"""Cameras opened again with other settings while the station runs: all of them, or each as it was.

The feed's thread closes and opens; whoever asked for it says, once all are open, whether they stay so. Knows no TOML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from threading import Condition
from typing import Protocol

from segdec_edge.errors import RecipeError
from segdec_edge.types import Camera

Opener = Callable[[], Camera]
REASON = "closed, to be opened with the settings of another recipe"
_POLL_S = 0.05


class _State(Enum):
    ASKED = 1
    TRIED = 2
    OPEN = 3
    FAILED = 4
    TAKEN = 5
    DROPPED = 6


class Refit:
    """A wish to open one camera otherwise. Asked by one thread, answered by the feed's."""

    def __init__(self, open_camera: Opener) -> None:
        self.open_camera = open_camera
        self._changed = Condition()
        self._state, self._reason = _State.ASKED, ""
        self.tried = False

    def begin(self) -> Opener:
        """How to open the camera; from now on (tried) it is this that fails."""
        self.tried = True
        self._move({_State.ASKED}, _State.TRIED)
        return self.open_camera

    def stays(self, gone: Callable[[], bool]) -> bool:
        """The camera is open: whether it stays so, once that is said. gone: nobody needs it any more."""
        self._move({_State.TRIED}, _State.OPEN)
        with self._changed:
            while self._state is _State.OPEN and not gone():
                self._changed.wait(_POLL_S)
            return self._state is _State.TAKEN

    def fail(self, reason: str) -> None:
        """It cannot be; the one who asked is told. Nothing once it was taken."""
        self._reason = self._reason or reason
        self._move({_State.ASKED, _State.TRIED, _State.OPEN}, _State.FAILED)

    def wait(self, within_s: float) -> None:
        """Until the camera is open with it and gives its frames to nobody yet. Raises RecipeError where it is not."""
        with self._changed:
            self._changed.wait_for(lambda: self._state in (_State.OPEN, _State.FAILED), within_s)
            if self._state is not _State.OPEN:
                raise RecipeError(
                    self._reason or f"not open with its settings within {within_s:g} s. Check the camera."
                )

    def take(self) -> None:
        """Go on with it."""
        self._move({_State.OPEN}, _State.TAKEN)

    def drop(self) -> None:
        """Open the camera as it was. Nothing once it was taken."""
        self._move({_State.ASKED, _State.TRIED, _State.OPEN}, _State.DROPPED)

    @property
    def dropped(self) -> bool:
        return self._state is _State.DROPPED

    def _move(self, before: set[_State], after: _State) -> None:
        with self._changed:
            if self._state in before:
                self._state = after
                self._changed.notify_all()


class Refits(Protocol):
    """What runs a camera, as a feed does."""

    @property
    def refit_limit_s(self) -> float:
        """How long it may take to close the camera and open it again."""
        ...

    def refit(self, open_camera: Opener) -> Refit: ...


@contextmanager
def refitted(feeds: Mapping[str, Refits], openers: Mapping[str, Opener]) -> Iterator[Callable[[], None]]:
    """These cameras opened so, all at a time; none gives a frame to anybody until the function that this gives is
    called. Where it is not, each is opened as it was. Raises RecipeError where one of them cannot be opened.
    """
    asked = [(name, feeds[name].refit_limit_s, feeds[name].refit(opener)) for name, opener in openers.items()]

    def take() -> None:
        for _, _, refit in asked:
            refit.take()

    try:
        for name, limit_s, refit in asked:
            try:
                refit.wait(limit_s)
            except RecipeError as error:
                raise RecipeError(f"camera {name}: {error}") from error
        yield take
    finally:
        for _, _, refit in asked:
            refit.drop()
