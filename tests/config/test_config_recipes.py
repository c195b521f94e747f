"""[recipes] and [drift]: one file, several things to inspect; old files mean one recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from segdec_edge.config.drift import DriftConfig
from segdec_edge.config.recipes import RecipeConfig
from segdec_edge.config.station import load_station
from segdec_edge.errors import ConfigError
from tests.config.station_file import written

TWO = """
[station]
recipe = "cup"
[camera]
path = "pictures"
[recipes.lid]
bundle = "lid.bundle"
[recipes.cup]
bundle = "cup.bundle"
threshold = 0.3
backend = "onnxruntime"
any_size = true
reference = "known"
camera = { rate_hz = 5 }
"""
OLD = '[station]\nbundle = "parts.bundle"\nthreshold = 0.4\n[camera]\npath = "pictures"\n'


def load(folder: Path, text: str):
    return load_station(written(folder, text))


def test_the_recipe_it_starts_with_fills_the_station(tmp_path: Path) -> None:
    config = load(tmp_path, TWO)
    station = config.station
    assert (station.bundle, station.threshold, station.backend, station.any_size, station.recipe) == (
        tmp_path / "cup.bundle", 0.3, "onnxruntime", True, "cup",
    )  # fmt: skip
    assert sorted(config.all_recipes) == ["cup", "lid"]
    cup = config.all_recipes["cup"]
    assert (cup.bundle, cup.reference, cup.camera) == (tmp_path / "cup.bundle", tmp_path / "known", {"rate_hz": 5})
    assert config.all_recipes["lid"] == RecipeConfig(bundle=tmp_path / "lid.bundle")


@pytest.mark.parametrize(
    ("table", "lid"),
    [("exposure_us = 50.0", ""), ("", "camera = { exposure_us = 50.0 }")],
    ids=["table", "each recipe"],
)
def test_what_a_device_keeps_is_written_for_all(tmp_path: Path, table: str, lid: str) -> None:
    text = TWO.replace('path = "pictures"', f'kind = "aravis"\n{table}').replace("rate_hz = 5", "exposure_us = 90.0")
    config = load(tmp_path, text.replace("[recipes.cup]", f"{lid}\n[recipes.cup]"))
    assert config.recipes["cup"].camera == {"exposure_us": 90.0}


def test_an_old_file_is_one_recipe(tmp_path: Path) -> None:
    config = load(tmp_path, OLD)
    assert config.all_recipes == {"default": RecipeConfig(bundle=tmp_path / "parts.bundle", threshold=0.4)}
    assert config.station.recipe == "default"
    assert config.drift == DriftConfig()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TWO.replace('recipe = "cup"', ""), "station.recipe is missing, wanted one of cup, lid"),
        (TWO.replace('recipe = "cup"', 'recipe = "cub"'), "station.recipe is 'cub', wanted one of cup, lid"),
        (TWO.replace('recipe = "cup"', "recipe = 3"), "station.recipe is 3, wanted one of cup, lid"),
        (TWO.replace("[camera]", 'bundle = "x"\n[camera]'), "station.bundle beside [recipes]"),
        (TWO.replace("[camera]", "threshold = 0.5\n[camera]"), "station.threshold beside [recipes]"),
        (TWO.replace("threshold = 0.3", "threshold = 3"), "recipes.cup.threshold is 3"),
        (TWO.replace("threshold", "treshold"), "unknown setting recipes.cup.treshold. Did you mean threshold?"),
        (TWO.replace('bundle = "lid.bundle"', ""), "recipes.lid.bundle is missing"),
        (TWO.replace('bundle = "cup.bundle"', ""), "recipes.cup.bundle is missing"),
        (TWO.replace("recipes.lid", 'recipes."a/b"'), "recipes"),
        (TWO.replace("rate_hz = 5", "rate = 5"), "unknown setting rate. Did you mean rate_hz?"),
        (TWO.replace("rate_hz = 5", 'name = "x"'), "recipes.cup.camera.name: a recipe changes a camera's settings"),
        (TWO.replace("camera = { rate_hz = 5 }", "camera = 5"), "recipes.cup.camera is 5"),
        (OLD.replace("[camera]", 'recipe = "cup"\n[camera]'), "station.recipe is 'cup', but there is no [recipes]"),
        (OLD.replace('bundle = "parts.bundle"', ""), "station.bundle is missing"),
        (
            TWO.replace('path = "pictures"', 'kind = "aravis"').replace("rate_hz = 5", "exposure_us = 90.0"),
            "recipes.lid.camera.exposure_us is missing: recipe cup sets it, and the device would keep that.",
        ),
        (OLD + "[drift]\nwindow = 5", "drift.window is 5"),
        (OLD + "[drift]\nexpected_defects = 1.0", "drift.expected_defects is 1.0"),
        ("recipes = 4\n" + OLD, "recipes is 4: input should be a table"),
        (
            "[recipes]\nlid = 4\n" + OLD.replace('bundle = "parts.bundle"\nthreshold = 0.4', 'recipe = "lid"'),
            "recipes.lid",
        ),
    ],
)
def test_a_contradiction_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert told in str(caught.value)
    assert all(line.startswith(str(tmp_path / "station.toml")) for line in str(caught.value).splitlines())
