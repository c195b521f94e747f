"""The smallest station.toml. Import: `from tests.config.station_file import SMALLEST, written`."""

from __future__ import annotations

from pathlib import Path

SMALLEST = """
[station]
bundle = "parts.bundle"
[camera]
path = "pictures"
"""


def written(folder: Path, text: str = SMALLEST) -> Path:
    """A station.toml of this text in the folder."""
    path = folder / "station.toml"
    path.write_text(text)
    return path
