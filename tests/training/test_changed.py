from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from segdec_edge.config.train import train_settings
from segdec_edge.data.spec import open_dataset
from segdec_edge.errors import ConfigError
from segdec_edge.training.changed import changed_settings
from segdec_edge.training.run import train
from tests.training.made_parts import Quiet, settings


def test_settings_of_an_earlier_run_are_compared_by_what_they_mean(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = train_settings({"data": f"dagm:{tmp_path}/x,class=1", "rate": 0.2})
    same = asked.model_dump(mode="json") | {"data": "dagm:../" + tmp_path.name + "/x,class=1", "device": "cuda"}
    same.pop("flips")  # a run before there were any
    assert changed_settings(asked, same, {"device"}) == []
    assert changed_settings(asked, same, set()) == ["device = cuda (now auto)"]
    assert changed_settings(asked, same | {"rate": 0.1}, {"device"}) == ["rate = 0.1 (now 0.2)"]
    other = same | {"data": "dagm:x,class=2"}
    assert changed_settings(asked, other, {"device"}) == [f"data = dagm:x,class=2 (now {asked.data})"]


@pytest.mark.parametrize(
    ("now", "before", "same"),
    [
        ("kolektor:there/K", "kolektor:gone/K", True),
        ("kolektor:there/K", "kolektor:gone/L", False),
        ("kolektor:gone/K", "kolektor:there/K", False),  # the earlier one is still there: another data set
        ("kolektor:there/K", "folder:gone/K", False),
        ("dagm:there/K,class=1", "dagm:gone/K,class=2", False),
        ("dagm:there/K", "dagm:gone/K,class=2", False),
        ("synthetic:seed=1,n=20", "synthetic:seed=1,n=20", True),
        ("synthetic:seed=1,n=20", "synthetic:seed=1,n=21", False),
        ("synthetic:seed=1,n=20", "synthetic:", False),
    ],
)
def test_a_data_set_may_have_moved(tmp_path: Path, monkeypatch, now: str, before: str, same: bool) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there/K").mkdir(parents=True)
    asked = train_settings({"data": now})
    changed = changed_settings(asked, asked.model_dump(mode="json") | {"data": before}, set())
    assert changed == ([] if same else [f"data = {before} (now {now})"])


@pytest.mark.parametrize(
    ("now", "before", "same"),
    [
        ("there/s.pyb", "gone/s.pyb", True),
        ("there/s.pyb", "there/../there/s.pyb", True),
        ("there/s.pyb", "gone/t.pyb", False),
        ("gone/s.pyb", "there/s.pyb", False),
        ("there/s.pyb", None, False),
        (None, "there/s.pyb", False),
        (None, None, True),
    ],
)
def test_a_splits_file_may_have_moved(tmp_path: Path, monkeypatch, now: str, before: str, same: bool) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/s.pyb").touch()
    asked = train_settings({"data": "kolektor:K", "splits": now})
    changed = changed_settings(asked, asked.model_dump(mode="json") | {"splits": before}, set())
    assert changed == ([] if same else [f"splits = {before} (now {now})"])


def test_another_file_of_splits_beside_the_pictures_is_another_training(parts: Path, tmp_path: Path) -> None:
    own = tmp_path / "parts"
    shutil.copytree(parts, own)
    names = [sample.name for sample in open_dataset(f"folder:{own}").samples]
    defective = [sample.name for sample in open_dataset(f"folder:{own}").samples if sample.positive]
    good = sorted({*names} - {*defective})
    path = own / "splits.json"
    path.write_text(json.dumps({"train": defective[2:] + good[2:], "test": defective[:2] + good[:2]}))
    asked = settings(own, epochs=1, test=0.0, validation=0.0, fold=0)
    first = train(asked, tmp_path / "run", Quiet())
    assert train(asked, tmp_path / "run", Quiet(), resume=True).checkpoint == first.checkpoint
    path.write_text(json.dumps({"train": defective[2:] + good[3:], "test": defective[:2] + good[:2]}))
    with pytest.raises(ConfigError, match=r"parts/splits\.json changed since it was trained with\. Restore that file"):
        train(asked, tmp_path / "run", Quiet(), resume=True)
