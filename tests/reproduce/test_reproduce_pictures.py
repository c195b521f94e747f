"""A table is of one set of pictures: other ones are another training, and unfit ones are refused before any begins."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from segdec_edge.errors import ConfigError, DataError
from segdec_edge.reproduce.run import RESULTS, TABLE, reproduce_table
from tests.reproduce.tables import SMALL, asked, quiet


def test_pictures_added_later_are_another_training(parts: Path, tmp_path: Path) -> None:
    own = tmp_path / "parts"
    shutil.copytree(parts, own)
    wanted = asked(own, tmp_path / "out", rows=("none",))
    told = reproduce_table(wanted, quiet(), 1)
    (result,) = json.loads((tmp_path / "out" / RESULTS).read_text())["results"]
    assert len(result["pictures_sha256"]) == 64
    picture = next(one for one in sorted((own / "images").iterdir()) if not (own / "masks" / one.name).exists())
    shutil.copy(picture, picture.with_stem("one_more"))
    for side_by_side in (None, 1):
        with pytest.raises(ConfigError, match=r"was measured with other pictures of folder:.*parts\. Use those"):
            reproduce_table(replace(wanted, rows=("none", "all")), quiet(), side_by_side)
    assert (tmp_path / "out" / TABLE).read_text() == told
    shutil.rmtree(own)
    assert reproduce_table(wanted, quiet(), None) == told  # gone: may have been the same


def test_a_relative_path_means_the_folder_it_was_said_in(parts: Path, tmp_path: Path, monkeypatch) -> None:
    for line in ("a", "b"):
        shutil.copytree(parts, tmp_path / line / "parts")
    wanted = asked(Path("parts"), tmp_path / "out", rows=("all",))
    monkeypatch.chdir(tmp_path / "a")
    told = reproduce_table(wanted, quiet(), 1)
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(ConfigError, match=r"was measured with data = folder:.*/a/parts \(now folder:.*/b/parts\)"):
        reproduce_table(wanted, quiet(), None)
    assert reproduce_table(replace(wanted, data=f"folder:{tmp_path}/a/parts"), quiet(), None) == told


@pytest.mark.parametrize(
    ("train", "test", "told"),
    [
        ("both", "none", r"none/ours/split-seed1: tests 0 defective and 0 good pictures \(published splits\.json\)"),
        ("both", "good", r"none/ours/split-seed1: tests 0 defective and 2 good pictures \(published splits\.json\)"),
        ("good", "both", r"folder:.* wanted at least one of each"),
        ("none", "both", r"splits\.json: its list of training pictures is empty, wanted at least one"),
    ],
)
def test_a_split_that_cannot_be_judged_is_refused_before_any_training(
    parts: Path, tmp_path: Path, train: str, test: str, told: str
) -> None:
    names = sorted(one.stem for one in (parts / "images").iterdir())
    defective = [name for name in names if (parts / "masks" / f"{name}.png").exists()]
    good = [name for name in names if name not in defective]
    learnt = {"both": defective[1:] + good[2:], "good": good[2:], "none": []}
    judged = {"both": defective[:1] + good[:2], "good": good[:2], "none": []}
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"train": learnt[train], "test": judged[test]}))
    wanted = asked(parts, tmp_path / "out", changes=SMALL | {"splits": str(path), "test": 0.0})
    with pytest.raises(DataError, match=told):
        reproduce_table(wanted, quiet(), 1)
    assert not (tmp_path / "out").exists()


def test_another_table_is_not_written_over(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / RESULTS).write_text(json.dumps({"table": "III"}))
    with pytest.raises(ConfigError, match=r"results\.json: holds table III, table V would take its place\. Choose"):
        reproduce_table(asked(parts, out), quiet(), 1)
    (out / RESULTS).write_text('{"tab')  # cut off: made anew from the results
    assert "not finished: seed 1" in reproduce_table(asked(parts, out), quiet(), None)
    assert json.loads((out / RESULTS).read_text())["table"] == "V"
