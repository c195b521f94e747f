"""Damaged bundles: a station says in one line why it does not start, and a running one keeps its old recipe.

Random damage is always seen, by hashes. A changed meta.json or model.onnx whose hashes were made to fit is as good as
another bundle: there the types, the runtime and the reference pictures are what is left.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import pytest

from segdec_edge.bundle import DIGEST, digest_of, read_bundle
from segdec_edge.config.recipes import RecipeConfig
from segdec_edge.config.station import load_station
from segdec_edge.deploy.reference import make_profile, make_reference
from segdec_edge.errors import BackendError, BundleError, SegdecError
from segdec_edge.outputs.ledger import Row, read_rows
from segdec_edge.runtime.onnxruntime import OnnxRuntimeBackend
from segdec_edge.runtime.openvino import OpenVinoBackend
from segdec_edge.station.inspection import Inspector
from segdec_edge.station.recipes import Recipes
from segdec_edge.station.run import run
from tests.deploy.bright_parts import SIZE_HW, bright_bundle, write_parts
from tests.fakes import plain_part

LEVELS = (60, 200)
EXPECTED = ["OK", "DEFECT"]
FILES = ("meta.json", "model.onnx", "reference/expected.json", "reference/00.png", "reference/01.png")
STRANGE: tuple[Any, ...] = (
    None, -1, 0, 1, 10**9, 10**400, 1.5, 1e308, float("nan"), True, "", "x", "é" * 10, "\ud800", "0" * 64, [], {},
    [1, 2], [[1, 1], [2, 2]], [[[[]]]],
)  # fmt: skip


@dataclass
class Station:
    """A folder with a whole bundle to copy, damage and start."""

    folder: Path
    whole: Path

    @property
    def bundle(self) -> Path:
        return self.folder / "parts.bundle"

    def renew(self) -> None:
        shutil.rmtree(self.bundle, ignore_errors=True)
        shutil.copytree(self.whole, self.bundle)

    def start(self) -> list[Row] | SegdecError:
        """The rows of a run to its end, or why there was none; then nothing was judged either."""
        for left in self.folder.glob("ledger.sqlite*"):
            left.unlink()
        ledger = self.folder / "ledger.sqlite"
        try:
            run(load_station(self.folder / "station.toml"))
        except SegdecError as error:
            require_one_line(error)
            assert not ledger.exists() or not list(read_rows(ledger))
            return error
        return list(read_rows(ledger))

    def load(self) -> str | SegdecError:
        """How a swap to the bundle would end."""
        recipe = RecipeConfig(bundle=self.bundle, backend="onnxruntime")
        recipes = Recipes({"new": recipe}, lambda *made: {"camera": Inspector(*made[-2:], "")})
        try:
            loaded = recipes.load("new")
        except SegdecError as error:
            require_one_line(error)
            return error
        loaded.close()
        return loaded.checked


def require_one_line(error: SegdecError) -> None:
    text = str(error)
    assert text.strip() and "\n" not in text and len(text) < 1500, text
    assert text.endswith((".", "?", "…")) or "segdec " in text, text


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Station:
    folder = tmp_path_factory.mktemp("station")
    whole = bright_bundle(folder / "whole.bundle", write_parts(folder / "known")).path
    make_profile(whole, subset="all", backend="onnxruntime")
    make_reference(whole, backend="onnxruntime")
    (folder / "parts").mkdir()
    for value in LEVELS:
        cv2.imwrite(str(folder / "parts" / f"{value:03}.png"), plain_part(value, SIZE_HW))
    (folder / "station.toml").write_text(
        '[station]\nbundle = "parts.bundle"\nbackend = "onnxruntime"\n'
        '[camera]\npath = "parts"\n[archive]\nkeep = "none"\n'
    )
    return Station(folder, whole)


def truncated(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def flipped(data: bytes, chance: random.Random) -> bytes:
    content = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(content)


def overwritten(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + chance.randbytes(chance.randrange(1, 40)) + data[at + 20 :]


def signed(values: dict[str, Any]) -> str:
    content = {key: value for key, value in values.items() if key != DIGEST}
    try:
        return json.dumps({**content, DIGEST: digest_of(content)})
    except ValueError:
        return json.dumps({**content, DIGEST: "0" * 64})


def test_a_whole_bundle_runs(station: Station) -> None:
    station.renew()
    rows = station.start()
    assert isinstance(rows, list) and [row.verdict for row in rows] == EXPECTED
    assert "2 reference pictures as expected" in str(station.load())


@pytest.mark.parametrize("harm", [truncated, flipped, overwritten])
@pytest.mark.parametrize("name", FILES[:2])
def test_random_damage_never_starts_a_station(
    station: Station, name: str, harm: Callable[[bytes, random.Random], bytes]
) -> None:
    chance = random.Random(f"{name} {harm.__name__}")
    whole = (station.whole / name).read_bytes()
    for _ in range(20):
        station.renew()
        damaged = harm(whole, chance)
        (station.bundle / name).write_bytes(damaged)
        if damaged == whole or (name == "meta.json" and same_json(damaged, whole)):
            continue
        assert isinstance(station.start(), BundleError)
        assert isinstance(station.load(), BundleError)


def same_json(first: bytes, second: bytes) -> bool:
    try:
        return bool(json.loads(first) == json.loads(second))
    except ValueError:
        return False


@pytest.mark.parametrize("harm", [truncated, flipped, overwritten])
@pytest.mark.parametrize("name", FILES[2:])
def test_a_damaged_reference_never_swaps_a_bundle_in(
    station: Station, name: str, harm: Callable[[bytes, random.Random], bytes]
) -> None:
    chance = random.Random(f"{name} {harm.__name__}")
    whole = (station.whole / name).read_bytes()
    station.renew()
    for _ in range(8):
        damaged = harm(whole, chance)
        (station.bundle / name).write_bytes(damaged)
        if damaged != whole and not (name.endswith("json") and same_json(damaged, whole)):
            assert isinstance(station.load(), BundleError)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_and_a_folder_in_its_place(station: Station, name: str) -> None:
    for folder in (False, True):
        station.renew()
        (station.bundle / name).unlink()
        if folder:
            (station.bundle / name).mkdir()
        assert isinstance(station.load(), BundleError)
        if name in FILES[:2]:
            assert isinstance(station.start(), BundleError)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 2), (1, 3), (3, 4), (2, 4)])
def test_exchanged_files(station: Station, first: int, second: int) -> None:
    station.renew()
    one, other = (station.bundle / FILES[index] for index in (first, second))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert isinstance(station.load(), BundleError)
    if first < 2:
        assert isinstance(station.start(), BundleError)


@pytest.mark.parametrize("name", ["meta.json", "reference/expected.json"])
def test_any_value_in_a_file_with_a_fitting_digest(station: Station, name: str) -> None:
    """Refused, or a bundle that judges by what it says: never a traceback."""
    chance = random.Random(name)
    text = (station.whole / name).read_text()
    station.renew()
    for _ in range(80):
        values = json.loads(text)
        spoil(values, chance)
        (station.bundle / name).write_text(signed(values))
        told = station.load()
        if name != "meta.json":
            assert isinstance(told, SegdecError) or "as expected" in told
            continue
        rows = station.start()
        if isinstance(rows, list):
            threshold = float(values["threshold"]["value"])
            judged = ["DEFECT" if level / 255 >= threshold else "OK" for level in LEVELS]
            assert [row.verdict for row in rows] in (judged, ["UNKNOWN"] * 2)


def spoil(values: Any, chance: random.Random) -> None:
    places: list[tuple[Any, Any]] = []

    def walk(one: Any) -> None:
        for key in one if isinstance(one, dict) else range(len(one)):
            places.append((one, key))
            if isinstance(one[key], (dict, list)):
                walk(one[key])

    walk(values)
    table, key = chance.choice(places)
    if isinstance(table, dict) and chance.random() < 0.2:
        del table[key]
    else:
        table[key] = chance.choice(STRANGE)


def test_a_damaged_model_whose_hashes_were_made_to_fit(station: Station) -> None:
    """The runtime refuses it, or the reference pictures do, or it scores them as it should."""
    chance = random.Random(4)
    whole = (station.whole / "model.onnx").read_bytes()
    refused = 0
    for number in range(36):
        station.renew()
        content = (truncated, flipped, overwritten)[number % 3](whole, chance)
        digest = hashlib.sha256(content).hexdigest()
        (station.bundle / "model.onnx").write_bytes(content)
        for name, keys in (("meta.json", ("model", "sha256")), ("reference/expected.json", ("model_sha256",))):
            values = json.loads((station.bundle / name).read_text())
            table = values
            for key in keys[:-1]:
                table = table[key]
            table[keys[-1]] = digest
            (station.bundle / name).write_text(signed(values))
        told = station.load()
        assert isinstance(told, SegdecError) or "as expected" in told
        refused += isinstance(told, SegdecError)
        if isinstance(told, BackendError):
            assert isinstance(station.start(), BackendError)
    assert refused > 24


@pytest.mark.parametrize("backend", [OnnxRuntimeBackend, OpenVinoBackend])
def test_a_model_with_names_that_are_no_text_is_refused(station: Station, backend: type[OnnxRuntimeBackend]) -> None:
    content = (station.whole / "model.onnx").read_bytes().replace(b"ReduceMean", b"Reduce\xf4ean")
    (station.folder / "odd.onnx").write_bytes(content)
    with pytest.raises(BackendError, match="cannot load it") as caught:
        backend(station.folder / "odd.onnx", read_bundle(station.whole).spec)
    require_one_line(caught.value)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"format": ' + "9" * 5000 + "}", '{"a": "\ud800"}', "\ufeff{}", "NaN"]
)
def test_a_meta_json_that_broke_it_once(station: Station, text: str) -> None:
    station.renew()
    (station.bundle / "meta.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert isinstance(station.start(), BundleError)


def test_the_command_line_tells_it_in_one_line(station: Station) -> None:
    command = [sys.executable, "-c", "from segdec_edge.cli import main; main()", "run", "station.toml"]
    environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    for name, words in (("model.onnx", "the file was changed or damaged"), ("meta.json", "not valid JSON")):
        station.renew()
        path = station.bundle / name
        path.write_bytes(path.read_bytes()[:-30])
        done = subprocess.run(command, capture_output=True, text=True, cwd=station.folder, env=environment, check=False)
        assert done.returncode == 1
        assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)
        assert done.stderr.startswith("segdec: ") and words in done.stderr
