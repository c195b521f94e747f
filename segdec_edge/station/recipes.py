"""Recipes: a bundle is loaded, warmed and checked beside the one that judges, then swapped in; or refused, with why.

Knows no camera: where a recipe changes a camera's settings, whoever owns the camera asks `Loaded.camera`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from segdec_edge.bundle import META, MODEL, Bundle, read_bundle
from segdec_edge.config.recipes import RecipeConfig
from segdec_edge.decision import Rule
from segdec_edge.errors import PictureError, RecipeError, SegdecError
from segdec_edge.pictures import refuse_other_size
from segdec_edge.profile import Profile
from segdec_edge.runtime import hand_over, open_backend
from segdec_edge.runtime.reference import reference_of
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.selfcheck import self_check
from segdec_edge.types import Backend

_log = logging.getLogger(__name__)

Open = Callable[[Bundle, str], Backend]
MakeRule = Callable[[float], Rule]
MakeInspectors = Callable[[str, RecipeConfig, Bundle, Backend, Rule], Mapping[str, Inspector]]
Alarm = Callable[[str, str], None]
"""raised(name, message), as of station.alarms."""
ALARM = "recipe"


@dataclass(frozen=True, eq=False)
class Loaded:
    """A recipe ready to judge: one object, so that nobody sees half of two. inspectors: one for each camera, by name.

    bundle_sha256: the model's hash; bundle_digest names the bundle, threshold and all; checked: how the self-check
    went, in words.
    """

    recipe: str
    bundle: Path
    bundle_sha256: str
    bundle_digest: str
    backend: Backend
    inspectors: Mapping[str, Inspector]
    rule: Rule
    profile: Profile | None = None
    camera: Mapping[str, object] = field(default_factory=dict)
    checked: str = ""

    def close(self) -> None:
        self.backend.close()


class Recipes:
    """Loads recipes by name. load() may run in any thread; what it gives then belongs to the thread that uses it.

    make_rule: the station's rule at a threshold. make_inspectors: one for each camera.
    """

    def __init__(
        self,
        table: Mapping[str, RecipeConfig],
        make_inspectors: MakeInspectors,
        make_rule: MakeRule = Rule,
        opener: Open = open_backend,
    ) -> None:
        self._table, self._make_inspectors, self._make_rule, self._open = table, make_inspectors, make_rule, opener

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._table))

    def load(self, name: str, *, picture_hw: tuple[int, int] | None = None, unchecked: bool = False) -> Loaded:
        """Open, warm and check a recipe's bundle. picture_hw: what the camera's view shows now, where that is known;
        a recipe that changes the camera is not held to it.

        unchecked: a bundle without reference pictures is fine, as at a station's start. Raises SegdecError, and leaves
        nothing open then.
        """
        config = self._config(name)
        stamp = _stamp(config.bundle)
        bundle = read_bundle(config.bundle)
        if picture_hw is not None and not config.any_size and not config.camera:
            _refuse_camera(bundle, picture_hw, name)
        with ExitStack() as opened:
            backend = self._open(bundle, config.backend)
            opened.callback(backend.close)
            rule = self._rule(name, config, backend)
            checked = _check(bundle, config, backend, rule, unchecked)
            # The model was hashed before it was opened: to hash it again takes as long, to ask for its times does not.
            if _stamp(config.bundle) != stamp and read_bundle(config.bundle).digest != bundle.digest:
                raise RecipeError(f"{config.bundle}: was changed while it was opened. Swap again.")
            inspectors = self._make_inspectors(name, config, bundle, backend, rule)
            hand_over(backend)
            opened.pop_all()
        return Loaded(
            name,
            config.bundle,
            backend.spec.sha256,
            bundle.digest,
            backend,
            inspectors,
            rule,
            bundle.meta.profile,
            config.camera,
            checked,
        )

    def _config(self, name: str) -> RecipeConfig:
        config = self._table.get(name)
        if config is None:
            raise RecipeError(f"recipe {name!r} is unknown, wanted one of {', '.join(self.names)}. Name one of them.")
        return config

    def _rule(self, name: str, config: RecipeConfig, backend: Backend) -> Rule:
        own, given = config.threshold, backend.spec.threshold
        if own is not None and own != given:
            _log.warning("recipe %s: threshold %g from the station's file overrides %g of the bundle", name, own, given)
        return self._make_rule(given if own is None else own)


class Running(Protocol):
    """Where a recipe judges: the recipes of a lane."""

    def current(self) -> Loaded: ...

    def swap(self, new: Loaded) -> object:
        """Judge with `new` from the next part on, and close the one before after its last part."""
        ...


class Changer:
    """Swaps recipes while the station runs. request() may come from any thread.

    One thread loads beside the running recipe; a recipe that is refused leaves the running one, raises an alarm and
    says why. swapped is told of each that was swapped in.
    """

    def __init__(
        self,
        recipes: Recipes,
        running: Running,
        alarm: Alarm | None = None,
        swapped: Callable[[Loaded], None] | None = None,
    ) -> None:
        self._recipes, self._target = recipes, running
        self._alarm, self._swapped = alarm or _logged, swapped or _silent
        self._lock = threading.Lock()
        self._running: Change | None = None
        self._closing = False

    def request(self, name: str, picture_hw: tuple[int, int] | None = None) -> Change:
        """Begin to load a recipe; it is swapped in when it is ready. The same name again loads its bundle anew.

        Refused at once while another one is being loaded.
        """
        change = Change(name)
        with self._lock:
            busy = self._running
            if self._closing or (busy is not None and not busy.done):
                why = "the station stops." if self._closing or busy is None else f"{busy.name} is being loaded. Wait."
                return self._refused(change, f"recipe {name} stays out: {why}")
            self._running = change
        thread = threading.Thread(target=self._work, args=(change, picture_hw), name=f"recipe {name}", daemon=True)
        change.thread = thread
        thread.start()
        return change

    def close(self, within_s: float = 10.0) -> None:
        """Take no more requests, and wait for the one that is being loaded; it is not swapped in."""
        with self._lock:
            self._closing = True
            running = self._running
        if running is not None:
            running.wait(within_s)

    def _work(self, change: Change, picture_hw: tuple[int, int] | None) -> None:
        error = "its loading ended by a fault of its own (traceback in the log)."
        loaded = None
        try:
            loaded = self._recipes.load(change.name, picture_hw=picture_hw)
        except SegdecError as refusal:
            error = " ".join(str(refusal).split())
        finally:
            if loaded is None:
                self._refused(change, f"recipe {change.name} refused, {self._goes_on()}: {error}")
        if loaded is not None:
            self._finish(change, loaded)

    def _goes_on(self) -> str:
        try:
            return f"{self._target.current().recipe} goes on"
        except RecipeError:
            return "the first one is not open yet"

    def _finish(self, change: Change, loaded: Loaded) -> None:
        with self._lock:
            if not self._closing:
                self._target.swap(loaded)
                change.finish(loaded=loaded)
        if not change.done:
            loaded.close()
            self._refused(change, f"recipe {change.name} stays out: the station stops.")
            return
        _log.warning(
            "recipe %s: model %s from the next part on; %s", loaded.recipe, loaded.bundle_sha256[:12], loaded.checked
        )
        self._swapped(loaded)

    def _refused(self, change: Change, error: str) -> Change:
        change.finish(error=error)
        self._alarm(ALARM, error)
        return change


class Change:
    """A wish for a recipe. error: why it was refused, one line; loaded: what was swapped in. Both None until done."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.error: str | None = None
        self.loaded: Loaded | None = None
        self.thread: threading.Thread | None = None
        self._done = threading.Event()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def finish(self, *, loaded: Loaded | None = None, error: str | None = None) -> None:
        self.loaded, self.error = loaded, error
        self._done.set()

    def wait(self, within_s: float) -> bool:
        """Whether it was swapped in or refused before the time is over."""
        return self._done.wait(within_s)


def _stamp(bundle: Path) -> tuple[int, ...]:
    """Another one after any write to the bundle; empty where there is none."""
    try:
        found = [(bundle / name).stat() for name in (META, MODEL)]
    except OSError:  # read_bundle says what is wrong
        return ()
    return tuple(number for one in found for number in (one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns))


def _refuse_camera(bundle: Bundle, picture_hw: tuple[int, int], name: str) -> None:
    shown = np.broadcast_to(np.uint8(0), picture_hw)  # of this size, without its memory
    try:
        refuse_other_size(shown, bundle.spec.source_hw, "the camera sends")
    except PictureError as error:
        raise RecipeError(f"recipe {name}: {error}") from error


def _check(bundle: Bundle, config: RecipeConfig, backend: Backend, rule: Rule, unchecked: bool) -> str:
    """The self-check in words. Raises RecipeError, BundleError."""
    if not config.self_check:
        return "not self-checked: self_check = false"
    found = reference_of(bundle, config.reference)
    if found is None and unchecked:
        return f"not self-checked: no reference pictures; segdec reference {bundle.path} adds them"
    if found is None:
        raise RecipeError(
            f"{bundle.path}: has no reference pictures to check it on. Add them: segdec reference {bundle.path}; or do"
            " without: self_check = false"
        )
    folder, reference = found
    apart = self_check(backend, rule, folder, reference)
    return f"{len(reference.pictures)} reference pictures as expected, scores at most {apart:.2g} apart"


def _logged(name: str, message: str) -> None:
    _log.error("alarm %s: %s", name, message)


def _silent(loaded: Loaded) -> None:
    pass
