"""Recipes: a bundle is loaded, warmed and checked beside the one that judges; or refused, with why.

Knows no camera.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segdec_edge.bundle import META, MODEL, Bundle, read_bundle
from segdec_edge.config.recipes import RecipeConfig
from segdec_edge.decision import Rule
from segdec_edge.errors import PictureError, RecipeError
from segdec_edge.heat import grid_of
from segdec_edge.pictures import refuse_other_size
from segdec_edge.profile import Profile
from segdec_edge.runtime import hand_over, open_backend
from segdec_edge.runtime.reference import reference_of
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.selfcheck import self_check
from segdec_edge.types import Backend, BoolMask
from segdec_edge.view import WHOLE, SizeHW, View

_log = logging.getLogger(__name__)

Open = Callable[[Bundle, str], Backend]
MakeRule = Callable[[RecipeConfig, float], Rule]
Look = Callable[[RecipeConfig, str], tuple[View, BoolMask | None]]
"""What a recipe looks at in a camera's pictures, and the mask (H, W) of what it ignores. May raise ConfigError."""
Refuse = Callable[[str, RecipeConfig], None]
MakeInspectors = Callable[[str, RecipeConfig, Bundle, Backend, Rule], Mapping[str, Inspector]]


def _refuse_none(name: str, config: RecipeConfig) -> None:
    pass


def _threshold_alone(config: RecipeConfig, threshold: float) -> Rule:
    return Rule(threshold)


def _whole(config: RecipeConfig, camera: str) -> tuple[View, BoolMask | None]:
    return WHOLE, None


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
    checked: str = ""

    def close(self) -> None:
        self.backend.close()


class Recipes:
    """Loads recipes by name. load() may run in any thread; what it gives then belongs to the thread that uses it.

    make_rule: a recipe's rule at a threshold. make_inspectors: one for each camera. look: what the recipe looks at.
    refuse raises RecipeError on a recipe that this station cannot change to, before its bundle is looked at.
    """

    def __init__(
        self,
        table: Mapping[str, RecipeConfig],
        make_inspectors: MakeInspectors,
        make_rule: MakeRule = _threshold_alone,
        opener: Open = open_backend,
        refuse: Refuse = _refuse_none,
        look: Look = _whole,
    ) -> None:
        self._table, self._make_inspectors, self._make_rule, self._open = table, make_inspectors, make_rule, opener
        self._refuse, self._look = refuse, look

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._table))

    def load(
        self,
        name: str,
        *,
        pictures_hw: Mapping[str, SizeHW] | None = None,
        unchecked: bool = False,
        bundle_digest: str | None = None,
    ) -> Loaded:
        """Open, warm and check a recipe's bundle. pictures_hw: the size of each camera's pictures, (height, width) in
        pixels by the camera's name, where that is known.

        unchecked: a bundle without reference pictures is fine, as at a station's start. bundle_digest: no other bundle
        than this one will do. Raises SegdecError, and leaves nothing open then.
        """
        config = self._config(name)
        self._refuse(name, config)
        stamp = _stamp(config.bundle)
        bundle = read_bundle(config.bundle)
        if bundle_digest is not None:
            _refuse_other_bundle(bundle, bundle_digest, name)
        for camera, picture_hw in (pictures_hw or {}).items():
            source = f"recipe {name}: camera {camera}"
            _refuse_pictures(bundle, picture_hw, source, config.any_size, *self._look(config, camera))
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
        return self._make_rule(config, given if own is None else own)


def _stamp(bundle: Path) -> tuple[int, ...]:
    """Another one after any write to the bundle; empty where there is none."""
    try:
        found = [(bundle / name).stat() for name in (META, MODEL)]
    except OSError:  # read_bundle says what is wrong
        return ()
    return tuple(number for one in found for number in (one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns))


def _refuse_other_bundle(bundle: Bundle, digest: str, name: str) -> None:
    if bundle.digest != digest:
        model, threshold = bundle.spec.sha256, bundle.spec.threshold
        raise RecipeError(
            f"{bundle.path}: holds bundle {bundle.digest[:12]} (model {model[:12]}, threshold {threshold:g}), wanted"
            f" bundle {digest[:12]}, by which recipe {name} judged until now. Put that one back; or, to judge by what"
            f" lies there, change to recipe {name} or start the station again."
        )


def _refuse_pictures(
    bundle: Bundle, picture_hw: SizeHW, source: str, any_size: bool, view: View, ignore: BoolMask | None
) -> None:
    shown = np.broadcast_to(np.uint8(0), picture_hw)  # of this size, without its memory
    try:
        grid_of(view, picture_hw, bundle.spec.heatmap_hw, ignore)
    except PictureError as error:
        raise RecipeError(f"{source}: {error}") from error
    try:
        refuse_other_size(shown, None if any_size else bundle.spec.source_hw, source, view)
    except PictureError as error:
        raise RecipeError(str(error)) from error


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
