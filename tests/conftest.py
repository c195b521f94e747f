"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def _data_folder() -> Path:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("SEGDEC_DATA", beside))


@pytest.fixture(scope="session")
def kolektor_root() -> Path:
    """The real KolektorSDD pictures, or a skip that says where they were looked for."""
    root = _data_folder() / "KolektorSDD"
    if not root.is_dir():
        pytest.skip(f"no KolektorSDD at {root}; set SEGDEC_DATA to the folder that holds it")
    return root
