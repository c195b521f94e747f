"""The READMEs show what the committed records give, and nothing that somebody typed."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from segdec_edge.bench.record import Ratio, write_record
from segdec_edge.bench.text import summary
from segdec_edge.errors import ConfigError
from tests.bench.made_records import made_line, made_record

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = {"aa_rule.py", "entry.py", "turns.py", "scale_fit.py", "scale_points.py"}
"""Of the benchmarks those that are no scripts of their own."""


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_of_the_readmes_is_what_its_record_gives(tables: ModuleType) -> None:
    for path in tables.FILES:
        text = path.read_text(encoding="utf-8")
        assert tables.BLOCK.search(text), f"{path.name} shows no table"
        assert tables.filled(text) == text, f"{path.name} is not up to date. Run make tables"


def test_a_block_is_filled_from_its_record_and_only_the_block(tables: ModuleType, tmp_path: Path) -> None:
    ratio = Ratio(over="plain torch b1", times_faster=8.0, low=7.8, high=8.3)
    record = made_record(made_line("plain", 80.0, backend="torch"), made_line("fast", 10.0, ratio=ratio))
    write_record(tmp_path / "r.json", record)
    text = "before\n<!-- bench r.json summary -->\nold\n<!-- bench end -->\nafter\n"
    found = tables.filled(text, tmp_path)
    assert found == text.replace("old\n", summary(record))
    assert tables.filled(found, tmp_path) == found
    assert "| fast | onnxruntime | fp32 |" in found and "8.00 (7.80 to 8.30)" in found
    assert "batch" not in found.splitlines()[2]
    absent = tables.filled(text.replace("r.json", "none.json"), tmp_path)
    assert "not measured yet" in absent and "old" not in absent


def test_another_script_s_record_brings_its_own_table(tables: ModuleType, tmp_path: Path) -> None:
    text = "<!-- bench peers.json markdown -->\nold\n<!-- bench end -->\n"
    (tmp_path / "peers.json").write_text(json.dumps({"markdown": "| peer |\n|---|\n"}))
    assert tables.filled(text, tmp_path) == text.replace("old\n", "| peer |\n|---|\n")
    (tmp_path / "peers.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no table"):
        tables.filled(text, tmp_path)


def test_every_script_and_record_has_its_command() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    commands = text.partition("## The command of every record")[2].partition("\n## ")[0]
    records = [path.name for path in (ROOT / "benchmarks" / "results").glob("*.json")]
    assert records and not [name for name in records if f"results/{name}" not in commands]
    named = set(re.findall(r"benchmarks/([\w/]+\.py)", commands))
    assert named and not [name for name in named if not (ROOT / "benchmarks" / name).exists()]
    started = named | {f"{name.replace('.', '/')}.py" for name in re.findall(r"-m benchmarks\.([\w.]+)", commands)}
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py")} - IMPORTED
    assert not sorted({*scripts, "peers/run.py"} - started), "without a command"
