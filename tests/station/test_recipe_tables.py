"""A recipe's own rule and view: what they change in the running station, and what is refused before a part suffers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.config.station import load_station
from segdec_edge.errors import ConfigError
from segdec_edge.types import Label
from tests.deploy.bright_parts import SIZE_HW
from tests.fakes import plain_part
from tests.station.live_station import CAMERA, RECIPES, live, made_folder
from tests.station.scripted import wait_until

SPOT = np.s_[:8, :8]
"""A bright quarter: a defect for the heat map, too small for the score."""
AREA = """
[recipes.area]
bundle = "lid.bundle"
backend = "onnxruntime"
[recipes.area.rule]
combine = "heatmap"
min_area_px = 40
"""
BESIDE = AREA.replace("recipes.area", "recipes.beside")


def white(folder: Path, name: str, shape_hw: tuple[int, int], where: tuple[slice, slice] = SPOT) -> None:
    mask = np.zeros(shape_hw, np.uint8)
    mask[where] = 255
    assert cv2.imwrite(str(folder / name), mask)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made_folder(tmp_path)
    spotted = plain_part(50, SIZE_HW)
    spotted[SPOT] = 200
    assert cv2.imwrite(str(tmp_path / "pictures" / "000.png"), spotted)
    white(tmp_path, "spot.png", SIZE_HW)
    white(tmp_path, "wide.png", (16, 32))
    return tmp_path


@pytest.mark.parametrize(
    ("more", "name", "label"),
    [
        (AREA, "area", Label.DEFECT),
        (BESIDE + "[recipes.beside.view]\nregion = [8, 0, 8, 16]\n", "beside", Label.OK),
        (BESIDE + '[recipes.beside.view]\nignore_mask = "spot.png"\n', "beside", Label.OK),
        (BESIDE + "[recipes.beside.view]\n[recipes.beside.views.camera]\nrotation = 90\n", "beside", Label.DEFECT),
    ],
)
def test_verdicts_follow_the_rule_and_view_of_their_recipe(folder: Path, more: str, name: str, label: Label) -> None:
    """From OK to what the recipe says, and back; same bundle, same part."""
    with live(folder, RECIPES + more + CAMERA) as now:
        for recipe in (name, "lid"):
            wait_until(lambda: len(now.rows) > 5)
            change = now.station.change_recipe(recipe)
            assert change.wait(20) and change.error is None
            wait_until(lambda: now.rows[-1].recipe == recipe)  # noqa: B023 - it runs at once
    judged = [(row.recipe, row.verdict) for row in now.rows if row.score is not None]
    assert set(judged) == {("lid", "OK"), (name, label.value)}
    assert sum(one != other for one, other in pairwise(judged)) == 2


def test_a_recipe_without_a_rule_keeps_the_stations(folder: Path) -> None:
    text = RECIPES + CAMERA + '[rule]\ncombine = "heatmap"\n'
    with live(folder, text) as now:
        change = now.station.change_recipe("cup")
        assert change.wait(20) and change.error is None
        wait_until(lambda: any(row.recipe == "cup" for row in now.rows))
    assert {row.verdict for row in now.rows if row.score is not None} == {"DEFECT"}


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ("region = [8, 8, 16, 16]", "camera camera: the region [8, 8, 16, 16] sticks out of a picture of 16x16"),
        ('ignore_mask = "wide.png"', "camera camera: the ignore mask is 16x32 (HxW), the picture 16x16"),
    ],
)
def test_a_view_that_does_not_fit_the_pictures_is_refused_before_the_change(
    folder: Path, view: str, words: str
) -> None:
    with live(folder, RECIPES + BESIDE + f"[recipes.beside.view]\n{view}\n" + CAMERA) as now:
        wait_until(lambda: len(now.rows) > 2)
        refused = now.station.change_recipe("beside")
        assert refused.wait(20)
        assert words in (refused.error or "") and "lid goes on" in (refused.error or "")
    assert {row.recipe for row in now.rows if row.score is not None} == {"lid"}


def test_a_mask_of_any_recipe_that_cannot_be_read_is_told_at_the_start(folder: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"view\.ignore_mask: .*none\.png"),
        live(folder, RECIPES + BESIDE + '[recipes.beside.view]\nignore_mask = "none.png"\n' + CAMERA),
    ):
        raise AssertionError("it started")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            '[recipes.masked]\nbundle = "lid.bundle"\nview = { ignore_mask = "spot.png" }\n',
            "recipes.masked: view.ignore_mask has no effect",
        ),
        (
            '[view]\nignore_mask = "spot.png"\n[rule]\ncombine = "both"\n'
            '[recipes.plain]\nbundle = "lid.bundle"\nrule = { combine = "score" }\n',
            "recipes.plain: view.ignore_mask has no effect",
        ),
        (BESIDE.replace("heatmap", "score"), "min_area_px is 40, but combine"),
        (BESIDE + "[recipes.beside.views.front]\nrotation = 90\n", "recipes.beside.views.front is of no camera here"),
        (BESIDE.replace("combine", "kombine"), "unknown setting recipes.beside.rule.kombine. Did you mean combine?"),
        (BESIDE + "[recipes.beside.view]\ntiles = 4\n", "recipes.beside.view.tiles: not supported"),
    ],
)
def test_a_table_of_a_recipe_is_checked_as_the_stations_own(folder: Path, more: str, words: str) -> None:
    (folder / "station.toml").write_text(RECIPES + more + CAMERA)
    with pytest.raises(ConfigError) as caught:
        load_station(folder / "station.toml")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
