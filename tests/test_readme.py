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

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^segdec ([^\n#]+)", README, flags=re.MULTILINE)
MAKEFILE = (Path(__file__).resolve().parents[1] / "Makefile").read_text(encoding="utf-8")


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


def test_the_station_file_is_valid(tmp_path: Path) -> None:
    block = next(text for text in re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL) if "[station]" in text)
    (tmp_path / "station.toml").write_text(block)
    station = load_station(tmp_path / "station.toml")
    assert station.station.bundle == tmp_path / "parts.bundle"
    assert set(parse_toml(block, "README")) == {"station", "camera", "ledger", "archive"}


def test_every_picture_it_shows_is_there() -> None:
    root = Path(__file__).resolve().parents[1]
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert pictures
    assert all((root / picture).is_file() for picture in pictures)
