"""A station's change to another recipe: made ready for every backend, then swapped in everywhere; or nowhere, with why.

Knows no bundle and no camera.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Protocol

from segdec_edge.errors import RecipeError, SegdecError
from segdec_edge.station.recipes import Loaded

_log = logging.getLogger(__name__)

Alarm = Callable[[str, str], None]
"""raised(name, message), as of station.alarms."""
Refit = Callable[[str, str], AbstractContextManager[Callable[[], None]]]
"""The cameras opened as another recipe (from, to) wants them, and held until the function that it gives is called."""
ALARM = "recipe"
BUG = "its loading ended by a fault of its own (traceback in the log)."


class Running(Protocol):
    """Where a recipe judges: the recipes of a lane. A station has one for each backend."""

    def current(self) -> Loaded:
        """What judges the next part. Raises RecipeError before the first recipe was opened."""
        ...

    def load(self, name: str) -> Loaded:
        """A recipe for this backend's cameras, warm and checked. Raises SegdecError."""
        ...

    def swap(self, new: Loaded) -> None:
        """Judge with `new` from the next part on, and close the one before after its last part. It cannot fail once
        the first recipe is open.
        """
        ...


class Change:
    """A wish for a recipe. error: why it was refused, one line; loaded: what was swapped in, one for each backend.
    Nothing of both until done.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.error: str | None = None
        self.loaded: tuple[Loaded, ...] = ()
        self.thread: threading.Thread | None = None
        self._done = threading.Event()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def finish(self, *, loaded: Sequence[Loaded] = (), error: str | None = None) -> None:
        self.loaded, self.error = tuple(loaded), error
        self._done.set()

    def wait(self, within_s: float) -> bool:
        """Whether it was swapped in or refused before the time is over."""
        return self._done.wait(within_s)


class Changer:
    """Changes all lanes of a station to another recipe while it runs. request() may come from any thread.

    One thread loads beside the running recipe, for one lane after the other; while it does, each lane needs the memory
    of two. A recipe that one lane refuses is swapped in nowhere: all go on with the one they have, an alarm is raised
    and says why. swapped is told of what was swapped in, before a next request is taken. refit opens the cameras whose
    settings differ; it is asked once all is loaded.
    """

    def __init__(
        self,
        lanes: Sequence[Running],
        alarm: Alarm | None = None,
        swapped: Callable[[Sequence[Loaded]], None] | None = None,
        refit: Refit | None = None,
    ) -> None:
        self._lanes = tuple(lanes)
        self._alarm, self._swapped, self._refit = alarm or _logged, swapped or _silent, refit or _as_they_are
        self._lock = threading.Lock()
        self._running: Change | None = None
        self._closing = False

    def request(self, name: str) -> Change:
        """Begin to load a recipe; it is swapped in when it is ready. The same name again loads its bundle anew.

        Refused at once while another one is being loaded.
        """
        change = Change(name)
        with self._lock:
            busy = self._busy()
            if busy is None:
                self._running = change
        if busy is not None:
            self._refused(change, f"recipe {name} stays out: {busy}")
            return change
        change.thread = threading.Thread(target=self._work, args=(change,), name=f"recipe {name}", daemon=True)
        change.thread.start()
        return change

    def close(self, within_s: float = 10.0) -> None:
        """Take no more requests, and wait for the one that is being loaded; it is not swapped in."""
        with self._lock:
            self._closing = True
            running = self._running
        if running is not None and not running.wait(within_s):
            _log.error("recipe %s is still being loaded after %g s: left behind", running.name, within_s)

    def _busy(self) -> str | None:
        if self._closing:
            return "the station stops."
        running = self._running
        return None if running is None or running.done else f"{running.name} is being loaded. Wait."

    def _work(self, change: Change) -> None:
        error = BUG
        try:
            with ExitStack() as opened:
                loaded = self._load(change.name, opened)
                if self._swap(change.name, loaded):
                    opened.pop_all()
                    try:
                        self._tell(loaded)
                    finally:
                        change.finish(loaded=loaded)
                    return
            self._refused(change, f"recipe {change.name} stays out: the station stops.")
        except SegdecError as refusal:
            error = " ".join(str(refusal).split())
        finally:
            if not change.done:
                self._refused(change, f"recipe {change.name} refused, {self._goes_on()}: {error}")

    def _load(self, name: str, opened: ExitStack) -> list[Loaded]:
        """Ready for every lane, or nothing: `opened` closes what was opened. Raises SegdecError."""
        for lane in self._lanes:
            lane.current()
        loaded: list[Loaded] = []
        for lane in self._lanes:
            loaded.append(lane.load(name))
            opened.callback(loaded[-1].close)
            if loaded[-1].bundle_digest != loaded[0].bundle_digest:
                raise RecipeError(f"{loaded[0].bundle}: was changed while it was opened for each camera. Swap again.")
        return loaded

    def _swap(self, name: str, loaded: Sequence[Loaded]) -> bool:
        """Whether it was not too late for it. Raises RecipeError where a camera does not take its settings."""
        with self._refit(self._lanes[0].current().recipe, name) as go_on:
            with self._lock:
                if self._closing:
                    return False
                for lane, one in zip(self._lanes, loaded, strict=True):
                    lane.swap(one)
            go_on()
        return True

    def _tell(self, loaded: Sequence[Loaded]) -> None:
        for one in loaded:
            _log.warning(
                "recipe %s: model %s from the next part on; %s", one.recipe, one.bundle_sha256[:12], one.checked
            )
        self._swapped(loaded)

    def _goes_on(self) -> str:
        try:
            return f"{self._lanes[0].current().recipe} goes on"
        except RecipeError:
            return "the first one is not open yet"

    def _refused(self, change: Change, error: str) -> None:
        self._alarm(ALARM, error)
        change.finish(error=error)


def _as_they_are(old: str, new: str) -> AbstractContextManager[Callable[[], None]]:
    return nullcontext(lambda: None)


def _logged(name: str, message: str) -> None:
    _log.error("alarm %s: %s", name, message)


def _silent(loaded: Sequence[Loaded]) -> None:
    pass
