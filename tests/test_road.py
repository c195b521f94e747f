"""The whole road through the command line, small: train, evaluate, export, run; verdicts must be the evaluation's."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from segdec_edge.bundle import read_bundle
from segdec_edge.outputs.ledger import read_rows

SPEC = "synthetic:seed=3,n=24,size=128x128"


def segdec(*arguments: str | Path) -> str:
    command = [sys.executable, "-c", "from segdec_edge.cli import main; main()", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short training, its evaluations by torch and by the bundle, and a station's ledger."""
    folder = tmp_path_factory.mktemp("road")
    segdec(
        "train", "--data", SPEC, "-o", folder / "run", "--epochs", "3", "--width", "0.25", "--size", "128x128",
        "--no-tensorboard", "--set", "test = 0.4",
    )  # fmt: skip
    segdec("evaluate", folder / "run" / "checkpoint.pt", "-o", folder / "by-torch")
    segdec("export", folder / "run" / "checkpoint.pt", "-o", folder / "parts.bundle")
    for backend in ("onnxruntime", "openvino"):
        segdec("evaluate", folder / "parts.bundle", "-o", folder / f"by-{backend}", "--backend", backend)
    segdec("data", "split", SPEC, "-o", folder / "lists", "--test", "0.4")
    (folder / "station.toml").write_text(
        '[station]\nbundle = "parts.bundle"\nbackend = "onnxruntime"\n[camera]\npath = "lists/test.txt"\n'
    )
    segdec("run", folder / "station.toml")
    return folder


def scores(folder: Path) -> dict[str, float]:
    with (folder / "scores.csv").open() as file:
        return {row["name"]: float(row["score"]) for row in csv.DictReader(file)}


def test_the_ledger_holds_the_evaluations_verdicts(road: Path) -> None:
    evaluated = scores(road / "by-onnxruntime")
    threshold = json.loads((road / "by-onnxruntime" / "evaluation.json").read_text())["given"]["threshold"]
    rows = {Path(row.source).stem: row for row in read_rows(road / "ledger.sqlite")}
    assert rows.keys() == evaluated.keys()
    assert len(rows) == 10
    for name, score in evaluated.items():
        assert rows[name].score == score
        assert rows[name].verdict == ("DEFECT" if score >= threshold else "OK")
        assert rows[name].threshold == threshold


@pytest.mark.parametrize("other", ["by-onnxruntime", "by-openvino"])
def test_every_backend_scores_as_torch_does(road: Path, other: str) -> None:
    by_torch, found = scores(road / "by-torch"), scores(road / other)
    assert found.keys() == by_torch.keys()
    assert max(abs(found[name] - by_torch[name]) for name in found) < 1e-4


def test_held_out_parts_are_those_that_training_never_saw(road: Path) -> None:
    split = json.loads((road / "run" / "split.json").read_text())
    assert set(scores(road / "by-torch")) == set(split["test"])
    assert not set(split["test"]) & set(split["train"])
    figures = json.loads((road / "by-torch" / "evaluation.json").read_text())
    assert figures["trained_on"] == []


def test_a_copy_of_a_training_picture_is_found_out(road: Path) -> None:
    told = segdec("evaluate", road / "parts.bundle", "--subset", "all", "-o", road / "all")
    assert "14 have the very pixels of training pictures" in told


def refused(*arguments: str | Path, cwd: Path) -> str:
    command = [sys.executable, "-c", "from segdec_edge.cli import main; main()", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=cwd)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def test_a_bundle_has_its_size(road: Path) -> None:
    line = refused("evaluate", road / "parts.bundle", "--size", "256x256", cwd=road)
    assert "has its input size, 128x128" in line
    assert "Leave --size out" in line


def test_a_data_set_that_is_elsewhere_seen_from_here_is_asked_for(road: Path, tmp_path: Path) -> None:
    from segdec_edge.model.checkpoint import load_checkpoint, save_checkpoint

    old = load_checkpoint(road / "run" / "checkpoint.pt")
    settings = {**old.facts["settings"], "data": "folder:parts"}
    save_checkpoint(tmp_path / "moved.pt", replace(old, facts={**old.facts, "settings": settings}))
    for command in (["evaluate", "moved.pt"], ["export", "moved.pt", "-o", "moved.bundle"]):
        line = refused(*command, cwd=tmp_path)
        assert "moved.pt remembers folder:parts" in line
        assert "--data" in line
    assert "--data" not in refused("evaluate", "moved.pt", "--data", "folder:here", cwd=tmp_path)


def test_a_threshold_is_changed_with_its_reason(road: Path) -> None:
    bundle = Path(shutil.copytree(road / "parts.bundle", road / "changed.bundle"))
    before = read_bundle(bundle).meta.threshold.value
    told = segdec("threshold", bundle, "0.25", "--why", "fewer missed parts")
    assert "is now 0.25; fewer missed parts" in told
    changed = read_bundle(bundle).meta.threshold
    assert changed.value == 0.25
    assert [(one.old, one.new, one.why) for one in changed.log] == [(before, 0.25, "fewer missed parts")]
    assert "wanted a number from 0 to 1" in refused("threshold", bundle, "1.5", "--why", "x", cwd=road)


def test_the_report_has_the_heat_maps_of_the_parts_it_shows(road: Path) -> None:
    page = (road / "by-onnxruntime" / "report.html").read_text()
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) >= 2
    assert all(one != other for one, other in zip(pictures[::2], pictures[1::2], strict=True))


def test_the_bundle_knows_how_it_did_on_each_backend(road: Path) -> None:
    records = {one.backend: one for one in read_bundle(road / "parts.bundle").meta.accuracy if one.subset == "test"}
    assert set(records) == {"onnxruntime", "openvino"}
    figures = json.loads((road / "by-onnxruntime" / "evaluation.json").read_text())
    found = records["onnxruntime"]
    assert (found.ap, found.pictures) == (figures["average_precision"], figures["count"])
    assert (found.fp, found.fn) == (figures["given"]["confusion"]["fp"], figures["given"]["confusion"]["fn"])


def test_pictures_that_were_trained_on_are_called_so(road: Path) -> None:
    told = segdec("evaluate", road / "run" / "checkpoint.pt", "--subset", "train", "-o", road / "seen")
    assert "The train pictures chose the weights or the threshold" in told
    assert "chose the weights" in (road / "seen" / "report.html").read_text()


def test_flagged_parts_are_archived_with_their_overlay(road: Path) -> None:
    flagged = [row.part_id for row in read_rows(road / "ledger.sqlite") if row.verdict != "OK"]
    found = {path.name for path in (road / "archive").rglob("*") if path.is_file()}
    for part_id in flagged:
        assert any(name.startswith(part_id) and name.endswith("_overlay.jpg") for name in found)
