"""The recipes of one lane: which one judges, how it is opened again, and how another is swapped in. Knows no TOML."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from segdec_edge.errors import RecipeError
from segdec_edge.station.lane import Lane
from segdec_edge.station.recipes import Loaded, Recipes

Refitted = Callable[[str, str], Collection[str]]


def _none(old: str, new: str) -> Collection[str]:
    return ()


class LaneRecipes:
    """`first` judges until another is swapped in. open() is the lane's opener; bind() before a swap.

    refitted: of which cameras the settings differ between two recipes; what their pictures are like now says nothing.
    A recipe is opened again with the very bundle it had, by its digest: what else lies there by then is for a change.
    """

    def __init__(self, recipes: Recipes, first: str, refitted: Refitted = _none) -> None:
        self._recipes, self._first, self._refitted = recipes, first, refitted
        self._first_digest: str | None = None
        self._lane: Lane | None = None

    def bind(self, lane: Lane) -> None:
        """The lane that these recipes judge in."""
        self._lane = lane

    def open(self) -> Loaded:
        """The first recipe, warm. A start needs no reference pictures. Raises SegdecError."""
        loaded = self._open(self._first, self._first_digest)
        self._first_digest = loaded.bundle_digest
        return loaded

    def current(self) -> Loaded:
        """What the next part is judged by. Raises RecipeError before the first was opened."""
        judges = None if self._lane is None else self._lane.judges
        if not isinstance(judges, Loaded):
            raise RecipeError(f"recipe {self._first} is not open yet. Swap once the station is ready.")
        return judges

    def load(self, name: str) -> Loaded:
        """A recipe for this lane's cameras, warm and checked, for pictures as they give now. Raises SegdecError."""
        known = {} if self._lane is None else self._lane.pictures_hw()
        other = self._refitted(self.current().recipe, name) if known else ()
        return self._recipes.load(name, pictures_hw={camera: hw for camera, hw in known.items() if camera not in other})

    def swap(self, new: Loaded) -> None:
        """Judge with `new` from the next part on."""
        if self._lane is None:
            raise RecipeError(f"recipe {new.recipe}: no backend to swap it into. Bind the lane first.")
        self._lane.swap(new, partial(self._open, new.recipe, new.bundle_digest))

    def _open(self, name: str, digest: str | None) -> Loaded:
        return self._recipes.load(name, unchecked=True, bundle_digest=digest)
