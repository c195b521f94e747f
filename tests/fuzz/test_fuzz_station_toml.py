"""station.toml, whatever is in it: a checked configuration, or clear lines. Never a traceback, never a flood."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segdec_edge.config.load import check
from segdec_edge.config.recipes import fill_bundle
from segdec_edge.config.station import StationConfig, load_station
from segdec_edge.errors import ConfigError, SegdecError
from segdec_edge.station.run import run

VALID = """
[station]
name = "line 3"
recipe = "cup"
timeout_s = 2.5
[camera]
kind = "replay"
path = "pictures"
rate_hz = 10.0
loop = false
[ledger]
path = "ledger.sqlite"
[archive]
path = "archive"
keep = "defect"
max_megabytes = 100
[drift]
window = 2000
[recipes.cup]
bundle = "cup.bundle"
threshold = 0.3
camera = { rate_hz = 5 }
[recipes.lid]
bundle = "lid.bundle"
"""
NAMES = ("station", "camera", "ledger", "archive", "recipes", "drift", "bundle", "path", "threshold", "recipe", "kind")
# The same on every machine and every day: a red run must be the change's, not the dice's.
steady = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300, max_value=10**320)
    | st.floats()
    | st.text(max_size=30)
    | st.dates()
    | st.datetimes()
    | st.times()
    | st.sampled_from(
        ["a.bundle", "pictures", "replay", "auto", "defect", "x" * 5000, "a\0b", "p/" * 3000, "../..", ""]
    )
)
keys = st.sampled_from(NAMES) | st.text(max_size=12)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
tables = st.dictionaries(keys, values, max_size=6)
stations = st.fixed_dictionaries(
    {},
    optional={
        "station": st.fixed_dictionaries(
            {}, optional={"bundle": values, "recipe": values, "name": values, "zz": values}
        ),
        "camera": st.fixed_dictionaries({}, optional={"path": values, "kind": values, "rate_hz": values}),
        "recipes": st.dictionaries(keys, values | st.fixed_dictionaries({"bundle": values}), max_size=3) | values,
        "drift": values,
        "ledger": values,
    },
)


def require_clear(error: SegdecError, source: str) -> None:
    """One line a mistake, each begins with the file, is printable and fits on a screen."""
    lines = str(error).split("\n")
    assert lines
    for line in lines:
        assert line.startswith(f"{source}: ")
        assert line.isprintable()
        assert len(line) < 1200 + len(source)
        assert line[len(source) + 2 :].strip(" .")


def require_checked(values: dict[str, object]) -> StationConfig | None:
    try:
        return check(StationConfig, fill_bundle(values, "station.toml"), "station.toml")
    except ConfigError as error:
        require_clear(error, "station.toml")
    return None


@settings(steady, max_examples=100)
@given(tables)
def test_any_tables(values: dict[str, object]) -> None:
    require_checked(values)


@settings(steady, max_examples=150)
@given(stations)
def test_tables_that_are_nearly_right(values: dict[str, object]) -> None:
    config = require_checked(values)
    assert config is None or config.all_recipes


@settings(steady, max_examples=100)
@given(text=st.text(max_size=200))
def test_any_text(tmp_path: Path, text: str) -> None:
    require_loaded(tmp_path, text.encode("utf-8", "surrogatepass"))


@settings(steady, max_examples=100)
@given(content=st.binary(max_size=200))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    require_loaded(tmp_path, content)


edits = st.tuples(
    st.integers(0, len(VALID)),
    st.integers(0, 12),
    st.sampled_from(["", "0", "-", '"', "'", "[", "]", "{", "=", "\n", "\\u0000", "nan", "1e999", "é", "#", "[[", "\r"])
    | st.text(max_size=4),
)


@settings(steady, max_examples=150)
@given(st.lists(edits, min_size=1, max_size=3))
def test_a_valid_file_with_slips_of_the_keyboard(tmp_path: Path, edits: list[tuple[int, int, str]]) -> None:
    text = VALID
    for start, length, new in edits:
        text = text[:start] + new + text[start + length :]
    config = require_loaded(tmp_path, text.encode("utf-8", "surrogatepass"))
    if config is not None:  # there is no camera folder: it must be said, and nothing may run
        with pytest.raises(SegdecError) as caught:
            run(config)
        assert "\n" not in str(caught.value).strip("\n")


@pytest.mark.parametrize(
    "text",
    [
        "rate_hz = " + "9" * 5000,
        "rate_hz = 0x" + "f" * 9000,
        "a = " + "[" * 5000 + "]" * 5000,
        "a = " + "[" * 300 + "]" * 300,
        "a = " + "{a=" * 2000 + "1" + "}" * 2000,
        "[" + ".".join(["a"] * 3000) + "]",
        'rate_hz = "' + "x" * 100_000 + '"',
        "x" * 100_000 + " = 3",
        '"a\\nb\\u001b[2J" = 3',
        'path = "a\\u0000b"',
        f'path = "{"p" * 300}"',
        f'path = "{"p/" * 3000}"',
        "[[station]]\n[[camera]]",
    ],
    ids=lambda text: text[:12],
)
def test_what_broke_it_once(tmp_path: Path, text: str) -> None:
    assert require_loaded(tmp_path, f'[station]\nbundle = "b"\n[camera]\n{text}\n'.encode()) is None


def require_loaded(folder: Path, content: bytes) -> StationConfig | None:
    path = folder / "station.toml"
    path.write_bytes(content)
    try:
        return load_station(path)
    except ConfigError as error:
        require_clear(error, str(path))
    return None


def test_the_command_line_tells_it_the_same(tmp_path: Path) -> None:
    (tmp_path / "station.toml").write_text(VALID.replace("recipe =", "recip\\u0000e =").replace("10.0", "1" * 5000))
    command = [sys.executable, "-c", "from segdec_edge.cli import main; main()", "run", "station.toml"]
    environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("segdec: station.toml: not valid TOML")
