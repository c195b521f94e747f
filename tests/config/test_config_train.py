"""Published settings that depend on the size of the training set."""

from __future__ import annotations

import pytest

from segdec_edge.config.train import train_settings


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
