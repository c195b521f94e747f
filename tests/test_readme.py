"""What the README tells a user to type must be understood, and what it shows must be valid."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from segdec_edge.cli import app
from segdec_edge.config.load import parse_toml
from segdec_edge.config.station import load_station
from segdec_edge.config.train import train_settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TOML = [
    (path.relative_to(ROOT).as_posix(), block)
    for path in [ROOT / "README.md", *sorted(ROOT.glob("*/README.md"))]
    for block in re.findall(r"^```toml\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
]
COMMANDS = re.findall(r"^segdec ([^\n#]+)", README, flags=re.MULTILINE)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_readme_shows_the_road() -> None:
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(line: str) -> None:
    command, words = typer.main.get_command(app), shlex.split(line)
    context = typer.Context(command)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    with command.make_context(command.name, words, parent=context):
        pass  # parsing alone: an unknown option or a missing argument raises


def test_every_make_target_is_there() -> None:
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert f"\n{target}:" in MAKEFILE


def test_the_first_station_file_is_whole(tmp_path: Path) -> None:
    block = next(text for name, text in TOML if name == "README.md")
    (tmp_path / "station.toml").write_text(block)
    station = load_station(tmp_path / "station.toml")
    assert station.station.bundle == tmp_path / "parts.bundle"
    assert set(parse_toml(block, "README")) == {"station", "camera", "ledger", "archive"}


@pytest.mark.parametrize(("name", "block"), TOML, ids=[f"{name}-{number}" for number, (name, _) in enumerate(TOML)])
def test_every_toml_block_is_valid(tmp_path: Path, name: str, block: str) -> None:
    """A part of a station.toml is loaded with the least that makes it whole."""
    values = parse_toml(block, name)
    if "data" in values:
        train_settings(values, name)
        return
    station = "" if "station" in values else '[station]\nbundle = "parts.bundle"\n'
    camera = "" if {"camera", "cameras"} & values.keys() else '[camera]\npath = "pictures"\n'
    (tmp_path / "station.toml").write_text(station + block + camera)
    load_station(tmp_path / "station.toml")


def test_every_picture_it_shows_is_there() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)
