"""[rule], [view], [debounce] and [parts] as users write them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.config.rules import DebounceConfig, refuse_debounce
from segdec_edge.config.station import StationConfig, load_station
from segdec_edge.decision import Rule
from segdec_edge.errors import ConfigError
from segdec_edge.view import WHOLE, View
from tests.config.station_file import SMALLEST, written


def loaded(folder: Path, text: str) -> StationConfig:
    return load_station(written(folder, SMALLEST + text))


def test_an_old_file_has_the_whole_picture_and_the_score_alone(tmp_path: Path) -> None:
    config = loaded(tmp_path, "")
    assert config.rule.rule(0.3) == Rule(0.3)
    assert config.view_of("front").view() == WHOLE
    assert config.view.ignored() is None
    assert (config.debounce, config.parts.identity, config.parts.reject) == (None, "trigger", None)


def test_a_rule_takes_the_threshold_and_makes_the_band_round_it(tmp_path: Path) -> None:
    config = loaded(tmp_path, '[rule]\ncombine = "either"\nlevel = 0.6\nmin_area_px = 40\nreview = 0.125\n')
    assert config.rule.rule(0.5) == Rule(0.5, "either", 0.6, 40.0, (0.375, 0.625))
    assert loaded(tmp_path, "[rule]\nreview = [0.2, 0.7]").rule.rule(0.5).review == (0.2, 0.7)
    assert loaded(tmp_path, "[rule]\nreview = 1").rule.rule(0.5).review == (-0.5, 1.5)


def test_each_camera_may_have_its_own_view(tmp_path: Path) -> None:
    text = """
[view]
region = [10, 20, 300, 200]
[views.top]
rotation = 90
ignore_mask = "top.png"
[rule]
combine = "heatmap"
"""
    two = '[station]\nbundle = "b"\n[[cameras]]\nname = "front"\npath = "f"\n[[cameras]]\nname = "top"\npath = "t"\n'
    config = load_station(written(tmp_path, two + text))
    assert config.view_of("front").view() == View((10, 20, 300, 200))
    assert config.view_of("top").view() == View(None, 90)
    assert config.view_of("top").ignore_mask == tmp_path / "top.png"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[view]\ntiles = [2, 2]", "FeatureNorm uses the statistics of the whole picture"),
        ("[view]\ntile = 512", "Did you mean tiles?"),
        ("[views.top]\ntiles = 1", "views.top.tiles: not supported"),
        ("[view]\nrotation = 45", "view.rotation is 45"),
        ("[view]\nregion = [0, 0, 0, 5]", "view.region.2 is 0"),
        ("[view]\nregion = [-1, 0, 5, 5]", "view.region.0 is -1"),
        ("[view]\nregoin = [0, 0, 5, 5]", "Did you mean region?"),
        ("[views.Top]\nrotation = 90", "Top"),
        ('[view]\nignore_mask = "m.png"', "the score is one number for the whole region and cannot be masked"),
        ('[rule]\ncombine = "any"', "rule.combine is 'any'"),
        ("[rule]\nmin_area_px = 5", 'combine = "score" does not ask the heat map'),
        ('[rule]\ncombine = "both"\nmin_area_px = -5', "rule.min_area_px is -5"),
        ('[rule]\ncombine = "both"\nlevel = 0', "rule.level is 0"),
        ("[rule]\nreview = [0.7, 0.2]", "wanted [low, high]"),
        ("[debounce]\nframes = 3\ndefects = 4", "wanted at most frames (3)"),
        ("[debounce]\nframes = 3\ndefects = 2\nrelease = 3", "wanted at most defects (2)"),
        ("[debounce]\nframes = 3", "debounce.defects is missing"),
        ('[parts]\nidentity = "barcode"', "parts.identity is 'barcode'"),
        ('[parts.reject]\nby = "encoder"\ndistance = 500', "tolerance is 0, wanted at least one tick"),
        ('[parts.reject]\nby = "encoder"\ndistance = 5\ntolerance = 5', "wanted less than distance (5)"),
        ('[parts.reject]\nby = "count"\ndistance = 0', "parts.reject.distance is 0"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_count_needs_no_tolerance(tmp_path: Path) -> None:
    triggered = SMALLEST.replace('path = "pictures"', 'kind = "aravis"\ntrigger = "software"')
    text = '[parts]\nidentity = "given"\n[parts.reject]\nby = "count"\ndistance = 12\n'
    config = load_station(written(tmp_path, triggered + text))
    assert config.parts.reject is not None
    assert (config.parts.reject.distance, config.parts.reject.tolerance) == (12, 0)


def masked(folder: Path, pixels: np.ndarray, name: str = "m.png") -> StationConfig:
    cv2.imwrite(str(folder / name), pixels)
    return loaded(folder, f'[rule]\ncombine = "either"\n[view]\nignore_mask = "{name}"\n')


def test_only_pure_white_is_ignored(tmp_path: Path) -> None:
    grey = np.array([[0, 128, 254, 255]], np.uint8)
    for pixels in (grey, np.dstack([grey, np.full_like(grey, 255), np.full_like(grey, 255)])):
        found = masked(tmp_path, pixels).view.ignored()
        assert found is not None
        np.testing.assert_array_equal(found, [[False, False, False, True]])


def test_a_mask_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    for pixels, name, told in (
        (np.full((4, 4), 255, np.uint8), "white.png", "is all white"),
        (np.zeros((4, 4), np.uint8), "m.jpg", "wanted a PNG"),
    ):
        with pytest.raises(ConfigError, match=told):
            masked(tmp_path, pixels, name).view.ignored()
    (tmp_path / "m.png").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match="no such picture"):
        loaded(tmp_path, '[rule]\ncombine = "either"\n[view]\nignore_mask = "m.png"\n').view.ignored()


def test_no_debounce_for_a_triggered_camera() -> None:
    debounce = DebounceConfig(frames=5, defects=3)
    refuse_debounce(debounce, triggered=False, camera="front")
    refuse_debounce(None, triggered=True, camera="front")
    with pytest.raises(ValueError, match="camera front is triggered: each frame is a part of its own"):
        refuse_debounce(debounce, triggered=True, camera="front")
