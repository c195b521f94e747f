"""Tables of trainings on a splits file: what it withholds is told, and another content is another training."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from segdec_edge.data.spec import open_dataset
from segdec_edge.errors import ConfigError, DataError
from segdec_edge.reproduce.run import RESULTS, reproduce_table
from tests.reproduce.tables import SMALL, asked, quiet


def write_splits(path: Path, parts: Path, withheld: int) -> Path:
    defective, good = [], []
    for one in open_dataset(f"folder:{parts}").samples:
        (defective if one.positive else good).append(one.name)
    train = [*((name, at >= withheld) for at, name in enumerate(defective[:6])), *((name, True) for name in good[:10])]
    path.write_bytes(pickle.dumps((train, [(name, True) for name in (*defective[6:], *good[10:])])))
    return path


def test_withheld_masks_are_told_and_another_file_is_another_training(parts: Path, tmp_path: Path) -> None:
    path = write_splits(tmp_path / "split_6_2.pyb", parts, 4)
    changes = {**SMALL, "splits": str(path), "test": 0.0}
    wanted = asked(parts, tmp_path / "out", rows=("all",), changes=changes)
    told = reproduce_table(wanted, quiet(), 1)
    assert "+ distance weights: 4 of 6 defective training pictures without their mask." in told
    (result,) = json.loads((tmp_path / "out" / RESULTS).read_text())["results"]
    assert result["split"] == "published split_6_2.pyb, 4 defective without mask"
    path.rename(tmp_path / "moved.pyb")
    assert reproduce_table(wanted, quiet(), None) == told  # gone: may have been the same
    write_splits(path, parts, 0)
    with pytest.raises(ConfigError, match=r"was measured with other content of .*split_6_2\.pyb\. Use those settings"):
        reproduce_table(wanted, quiet(), None)
    (tmp_path / "out/all/ours/split-seed1/result-ours.json").unlink()
    with pytest.raises(ConfigError, match=r"split_6_2\.pyb changed since it was trained with"):
        reproduce_table(wanted, quiet(), 1)


def test_what_cannot_begin_leaves_nothing(parts: Path, tmp_path: Path) -> None:
    wanted = asked(parts, tmp_path / "out", data=f"folder:{tmp_path}/nowhere")
    with pytest.raises(DataError, match="nowhere"):
        reproduce_table(wanted, quiet(), 1)
    with pytest.raises(ConfigError, match=r"out: no such folder, wanted one with trainings of a table\. Mend --out"):
        reproduce_table(replace(wanted, data=f"folder:{parts}"), quiet(), None)
    assert list(tmp_path.iterdir()) == []
