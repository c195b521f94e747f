"""Published settings that depend on the size of the training set."""

from __future__ import annotations

import pytest

from segdec_edge.config.train import PRESETS, train_settings


@pytest.mark.parametrize(
    ("preset", "items", "epochs"),
    [
        ("kolektor", None, 35),
        ("kolektor", 33, 35),
        ("kolektor", 5, 150),
        ("kolektor", 7, 35),
        ("severstal", None, 40),
        ("severstal", 1500, 50),
        ("severstal", 300, 90),
        ("dagm", 300, 50),
    ],
)
def test_smaller_training_sets_train_for_more_epochs(preset: str, items: int | None, epochs: int) -> None:
    values = {"data": "folder:x", "preset": preset} | ({} if items is None else {"items": items})
    assert train_settings(values).epochs == epochs
    assert train_settings({**values, "epochs": 3}).epochs == 3


# Source: the two papers' settings and their authors' scripts: dilate, epochs, rate, δ, batch, p, w_pos, H×W×C.
PUBLISHED = {
    "dagm": (1, 50, 0.01, 1, 5, 1, 20, (512, 512), 1),
    "kolektor": (1, 35, 0.5, 0.01, 1, 2, 1, (1408, 512), 1),
    "severstal": (1, 40, 0.1, 0.1, 10, 2, 1, (256, 1600), 1),
    "dagm-comind": (7, 70, 0.05, 1, 1, 1, 10, (512, 512), 1),
    "kolektor-comind": (7, 50, 1, 0.01, 1, 2, 1, (1408, 512), 1),
    "kolektor2-comind": (15, 50, 0.01, 1, 1, 2, 3, (640, 232), 3),
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_presets_are_the_published_settings(preset: str) -> None:
    one = train_settings({"data": "folder:x", "preset": preset})
    found = (one.dilate, one.epochs, one.rate, one.delta, one.batch, one.p, one.w_pos, one.size_hw, one.channels)
    assert found == PUBLISHED[preset]
    assert one.boxes == (preset == "kolektor")
    assert all((one.balanced_loss, one.gradient_stop, one.frequency_sampling, one.distance_weights))
    assert (one.batch_mode, one.target, one.scheme) == ("summed", "mask", "end-to-end")


def test_every_preset_is_published_or_our_own() -> None:
    assert set(PRESETS) == {*PUBLISHED, "own"}
