"""[recipes.NAME] of station.toml: what a station can be told to inspect. Knows no bundle's content and no camera."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, JsonValue, SecretStr

from segdec_edge.config.load import Settings, check, clear
from segdec_edge.config.rules import CameraName, RuleConfig, ViewConfig
from segdec_edge.errors import ConfigError
from segdec_edge.files import from_home

BackendName = Literal["auto", "tensorrt", "onnxruntime", "openvino"]
RecipeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
DEFAULT = "default"
"""The one recipe of a file that has no [recipes]."""

KEPT = frozenset({"exposure_us", "gain", "rate_hz", "region_xywh", "size_hw", "fourcc"})
"""Settings of cameras that a device keeps until it is told others; not written, they stay as it has them."""

Table = TypeVar("Table", bound=Settings)


class RecipeConfig(Settings):
    """[recipes.NAME]: bundle judges; threshold overrides the bundle's own, in [0, 1], and is logged.

    reference: folder of reference pictures, by default the bundle's own (segdec reference). self_check = false: swap
    the bundle in although no known picture was judged with it; nothing tells then that it works here.
    camera: settings of [camera] that this recipe changes. rule, view, views: in place of the station's table of that
    name, as a whole; without them the station's hold. A view of the recipe goes before any of the station's.
    """

    bundle: Path
    backend: BackendName = "auto"
    threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    any_size: bool = False
    reference: Path | None = None
    self_check: bool = True
    camera: dict[str, JsonValue] = Field(default_factory=dict)
    rule: RuleConfig | None = None
    view: ViewConfig | None = None
    views: dict[CameraName, ViewConfig] = Field(default_factory=dict)

    def beside(self, folder: Path) -> RecipeConfig:
        """The same with relative paths taken as relative to a folder."""
        reference = None if self.reference is None else folder / from_home(self.reference)
        camera = {key: _beside(key, value, folder) for key, value in self.camera.items()}
        view = None if self.view is None else self.view.beside(folder)
        views = {name: one.beside(folder) for name, one in self.views.items()}
        found = {"bundle": folder / from_home(self.bundle), "reference": reference, "camera": camera}
        return self.model_copy(update={**found, "view": view, "views": views})

    def view_of(self, camera: str) -> ViewConfig | None:
        """What this recipe looks at in a camera's pictures; None where it leaves that to the station."""
        return self.views.get(camera, self.view)


def with_changes(table: Table, changes: Mapping[str, JsonValue], source: str) -> Table:
    """A camera's table with a recipe's changes. Raises ConfigError, naming source (the recipe's table)."""
    fixed = sorted({"kind", "name"} & changes.keys())
    if fixed:
        raise ConfigError(f"{source}.{fixed[0]}: a recipe changes a camera's settings, not which one it is. Remove it.")
    return check(type(table), {**{key: _written(value) for key, value in table}, **changes}, source)


def refuse_kept(table: Settings, recipes: Mapping[str, RecipeConfig]) -> None:
    """Raises ValueError where one recipe sets what another leaves as the device has it: the device would keep it, and
    the other would judge pictures made with it.
    """
    for setter, recipe in recipes.items():
        for key in sorted(KEPT & recipe.camera.keys()):
            for name, other in recipes.items():
                if getattr(table, key, key) is None and key not in other.camera:
                    raise ValueError(
                        f"recipes.{name}.camera.{key} is missing: recipe {setter} sets it, and the device would keep"
                        f" that. Write {key} in the camera's own table, or for each recipe."
                    )


def fill_bundle(values: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """The values of a station.toml with [station].bundle taken from the recipe that it starts with.

    What cannot be is left as it is, for the tables' own checks to tell. Raises ConfigError on contradictions. No
    validator of the tables: one that runs before them makes pydantic refuse an array where a tuple is wanted.
    """
    station, recipes = values.get("station"), values.get("recipes")
    if not isinstance(station, dict) or not isinstance(recipes, dict) or not recipes:
        return values
    for key in sorted({"bundle", "threshold", "backend", "any_size"} & station.keys()):
        raise ConfigError(
            f"{source}: station.{key} beside [recipes]: each recipe has its own. Move it to [recipes.NAME]."
        )
    name, known = station.get("recipe"), sorted(map(str, recipes))
    wanted = clear(f"wanted one of {', '.join(known)}")
    if name is None:
        raise ConfigError(f"{source}: station.recipe is missing, {wanted}. Say which one the station starts with.")
    if not isinstance(name, str) or name not in recipes:
        raise ConfigError(f"{source}: station.recipe is {clear(repr(name))}, {wanted}. Change it.")
    chosen = recipes[name] if isinstance(recipes[name], dict) else {}
    return {**values, "station": {**station, **dict(_taken(chosen))}}


def _written(value: object) -> object:
    """As the file had it: a dump would mask what may hold a login."""
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _beside(key: str, value: JsonValue, folder: Path) -> JsonValue:
    return str(folder / from_home(Path(value))) if key == "path" and isinstance(value, str) else value


def _taken(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in ("bundle", "backend", "threshold", "any_size"):
        if key in recipe:
            yield key, recipe[key]
