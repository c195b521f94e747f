"""station.toml: what one station reads, judges with and writes. Knows no camera, no backend and no database."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from segdec_edge.config.archive import ArchiveConfig
from segdec_edge.config.camera import CameraConfig, ReplayConfig, trigger_of
from segdec_edge.config.drift import DriftConfig
from segdec_edge.config.load import Settings, beside, check, read_toml
from segdec_edge.config.parts import PartsConfig
from segdec_edge.config.recipes import DEFAULT, RecipeConfig, RecipeName, fill_bundle, refuse_kept, with_changes
from segdec_edge.config.rules import (
    CameraName,
    DebounceConfig,
    RuleConfig,
    ViewConfig,
    refuse_debounce,
    refuse_unused_mask,
)
from segdec_edge.errors import ConfigError


class InspectionConfig(Settings):
    """[station]: bundle is the artefact that judges; threshold overrides the bundle's own, in [0, 1], and is logged.

    recipe: where the file has [recipes], the one it starts with; it brings bundle, backend, threshold and any_size.
    timeout_s: how long to wait for a frame before the camera counts as lost, unless its table says it; any_size:
    judge also pictures of another size than those trained on, which are UNKNOWN otherwise. own_backends: one for each
    camera instead of one for all; batch_ms: how long pictures of several cameras wait for each other to be judged
    together. hang_s: when a backend that does not answer is given up and opened again. drain_s: how long a stop waits
    for what was triggered. on_ledger_failure: "go_on" inspects and rejects on while no row can be written, "stop" ends.
    """

    bundle: Path
    name: str = Field(default="station", min_length=1)
    backend: Literal["auto", "tensorrt", "onnxruntime", "openvino"] = "auto"
    threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    timeout_s: float = Field(default=5.0, gt=0.0, le=86400.0)
    any_size: bool = False
    own_backends: bool = False
    batch_ms: float = Field(default=0.0, ge=0.0, le=1000.0)
    hang_s: float = Field(default=10.0, ge=0.1, le=3600.0)
    drain_s: float = Field(default=10.0, ge=0.0, le=3600.0)
    on_ledger_failure: Literal["go_on", "stop"] = "go_on"
    recipe: RecipeName = DEFAULT


class LedgerConfig(Settings):
    """[ledger]: the SQLite file that gets one row a part. It must lie on a local disk."""

    path: Path = Path("ledger.sqlite")


class StationConfig(Settings):
    """A whole station.toml: one [camera] or several [[cameras]]. view holds for every camera without its own
    [views.NAME].
    """

    station: InspectionConfig
    camera: CameraConfig | None = None
    cameras: tuple[CameraConfig, ...] = ()
    ledger: LedgerConfig = LedgerConfig()
    archive: ArchiveConfig = ArchiveConfig()
    rule: RuleConfig = RuleConfig()
    view: ViewConfig = ViewConfig()
    views: dict[CameraName, ViewConfig] = Field(default_factory=dict)
    debounce: DebounceConfig | None = None
    parts: PartsConfig = PartsConfig()
    recipes: dict[RecipeName, RecipeConfig] = Field(default_factory=dict)
    drift: DriftConfig = DriftConfig()

    @model_validator(mode="after")
    def _known_recipe(self) -> StationConfig:
        if not self.recipes and self.station.recipe != DEFAULT:
            raise ValueError(
                f"station.recipe is {self.station.recipe!r}, but there is no [recipes]. Add"
                f" [recipes.{self.station.recipe}], or remove it."
            )
        return self

    @model_validator(mode="after")
    def _cameras_of_recipes(self) -> StationConfig:
        for camera in self.all_cameras:
            refuse_kept(camera, self.recipes)
        for name, recipe in self.recipes.items():
            for camera in self.all_cameras:
                try:
                    changed = with_changes(camera, recipe.camera, f"recipes.{name}.camera")
                except ConfigError as error:
                    raise ValueError("; ".join(str(error).splitlines())) from error
                if trigger_of(changed) != trigger_of(camera):
                    raise ValueError(
                        f"recipes.{name}.camera.trigger: a recipe changes a camera's settings, not how it is triggered:"
                        " [parts] and [debounce] are for one way. Remove it."
                    )
                self._refuse_rate(changed, f"recipes.{name}.camera")
        return self

    @property
    def all_recipes(self) -> dict[str, RecipeConfig]:
        """By name; a file without [recipes] has one, `default`, made of [station]."""
        if self.recipes:
            return dict(self.recipes)
        station = self.station
        own = RecipeConfig(
            bundle=station.bundle, backend=station.backend, threshold=station.threshold, any_size=station.any_size
        )
        return {DEFAULT: own}

    @model_validator(mode="after")
    def _cameras_are_told_apart(self) -> StationConfig:
        if (self.camera is None) == (not self.cameras):
            raise ValueError("wanted [camera] or one [[cameras]] or more. Write one of them.")
        names = [camera.name for camera in self.cameras]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"cameras.name {', '.join(twice)} comes twice, wanted each once. Change one.")
        return self

    @model_validator(mode="after")
    def _frames_come_in_time(self) -> StationConfig:
        for camera in self.all_cameras:
            self._refuse_rate(camera, "camera")
        return self

    def _refuse_rate(self, camera: CameraConfig, table: str) -> None:
        rate_hz = camera.rate_hz if isinstance(camera, ReplayConfig) else 0.0
        if rate_hz > 0 and 1 / rate_hz >= self.station.timeout_s:
            raise ValueError(
                f"{table}.rate_hz {rate_hz:g} gives a frame every {1 / rate_hz:g} s, wanted less than"
                f" station.timeout_s ({self.station.timeout_s:g} s). Raise station.timeout_s."
            )

    @model_validator(mode="after")
    def _tables_fit_the_cameras(self) -> StationConfig:
        known = [camera.name for camera in self.all_cameras]
        tables = {"": self.views} | {f"recipes.{name}.": recipe.views for name, recipe in self.recipes.items()}
        for where, views in tables.items():
            if unknown := sorted(views.keys() - set(known)):
                where = f"{where}views.{unknown[0]}"
                raise ValueError(f"{where} is of no camera here, wanted one of: {', '.join(known)}. Correct it.")
        for camera in self.all_cameras:
            trigger = trigger_of(camera)
            refuse_debounce(self.debounce, triggered=trigger != "free", camera=camera.name)
            told = self.parts.identity != "trigger" or self.parts.reject is not None
            if told and trigger != "software":
                raise ValueError(
                    f"[parts] takes ids or positions from the line, but camera {camera.name} is not triggered by"
                    ' software: nothing is sent with its triggers. Set trigger = "software", or leave [parts] out.'
                )
            if told and camera.trigger_interval_s is not None:
                raise ValueError(
                    f"[parts] takes ids or positions from the line, but camera {camera.name} triggers itself:"
                    " every part would be rejected. Remove trigger_interval_s, or leave [parts] out."
                )
        return self

    @model_validator(mode="after")
    def _masks_have_an_effect(self) -> StationConfig:
        for name, recipe in self.all_recipes.items():
            for camera in self.all_cameras:
                try:
                    refuse_unused_mask(self.rule_of(recipe), self.view_of(camera.name, recipe))
                except ValueError as error:
                    raise ValueError(f"recipes.{name}: {error}" if self.recipes else str(error)) from error
        return self

    @property
    def all_cameras(self) -> tuple[CameraConfig, ...]:
        """The cameras, from either way of writing them."""
        return self.cameras if self.camera is None else (self.camera,)

    def camera_named(self, name: str | None) -> CameraConfig:
        """The camera of that name, the first for None. Raises ConfigError."""
        for camera in self.all_cameras:
            if name in (None, camera.name):
                return camera
        known = ", ".join(camera.name for camera in self.all_cameras)
        raise ConfigError(f"no camera {name!a} in this file, wanted one of: {known}. Correct the name.")

    def rule_of(self, recipe: RecipeConfig) -> RuleConfig:
        """What a recipe counts as a defect."""
        return self.rule if recipe.rule is None else recipe.rule

    def view_of(self, camera: str, recipe: RecipeConfig | None = None) -> ViewConfig:
        """What is looked at in a camera's pictures; by the station's tables alone without a recipe."""
        own = None if recipe is None else recipe.view_of(camera)
        return self.views.get(camera, self.view) if own is None else own


def load_station(path: Path) -> StationConfig:
    """Read a station.toml; relative paths in it are relative to its folder. Raises ConfigError."""
    config = check(StationConfig, fill_bundle(read_toml(path), str(path)), str(path))
    folder = path.resolve().parent
    return config.model_copy(
        update={
            "station": beside(config.station, folder),
            "camera": None if config.camera is None else beside(config.camera, folder),
            "cameras": tuple(beside(camera, folder) for camera in config.cameras),
            "ledger": beside(config.ledger, folder),
            "archive": beside(config.archive, folder),
            "view": config.view.beside(folder),
            "views": {name: view.beside(folder) for name, view in config.views.items()},
            "recipes": {name: recipe.beside(folder) for name, recipe in config.recipes.items()},
        }
    )
