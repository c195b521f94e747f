"""Which layers suffer from INT8: the choice, the measure, and a run that goes on where it stopped."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from segdec_edge.bundle import Bundle
from segdec_edge.cli import app
from segdec_edge.data.samples import Dataset
from segdec_edge.data.spec import open_dataset
from segdec_edge.deploy.calibration import CalibrationSet, read_manifest, write_manifest
from segdec_edge.deploy.choose import fewest_left_out
from segdec_edge.deploy.quantize import Int8
from segdec_edge.deploy.sensitivity import RESULTS, Asked, Sensitivity, measure_sensitivity, selection
from segdec_edge.deploy.sensitivity_report import PLOT, TABLE, verdict, write_reports
from segdec_edge.deploy.shift import Shift, shift_of, telling
from segdec_edge.errors import QuantizeError
from segdec_edge.evaluation.scoring import ScoredSample
from tests.deploy.made_bundles import SPEC, made_bundle

LAYERS = tuple("abcdefgh")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return made_bundle(tmp_path_factory.mktemp("sensitivity"))


@pytest.fixture(scope="module")
def calibration(bundle: Bundle) -> CalibrationSet:
    path = bundle.path.with_name("m.toml")
    write_manifest(path, bundle, SPEC, count=16)
    return read_manifest(path, bundle)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return open_dataset(SPEC)


def part(name: str, positive: bool, score: float | None, heat: float = 0.0) -> ScoredSample:
    heatmap = None if score is None else np.full((2, 2), heat, np.float32)
    return ScoredSample(name, name, positive, score, heatmap, None, None if score is not None else "no")


@pytest.mark.parametrize("needed", [set(), {"a"}, {"a", "b", "c"}, {"c", "f"}, set(LAYERS)])
def test_no_layer_is_left_out_that_need_not_be(needed: set[str]) -> None:
    asked: list[frozenset[str]] = []

    def passes(left: frozenset[str]) -> bool:
        asked.append(left)
        return needed <= left

    assert fewest_left_out(LAYERS, passes) == needed
    assert len(asked) == len(set(asked)) <= 12


def test_the_choice_always_passes_even_where_more_is_not_better() -> None:
    """Layers whose errors cancel: of every size some choices pass and some do not."""
    rng = np.random.default_rng(0)
    sets = [frozenset(one) for size in range(9) for one in combinations(LAYERS, size)]
    for _ in range(50):
        good = {one for one in sets if rng.random() < 0.5} | {frozenset(LAYERS)}
        left = fewest_left_out(LAYERS, good.__contains__)
        assert left in good


def test_where_nothing_passes_there_is_no_choice() -> None:
    assert fewest_left_out(LAYERS, lambda left: False) is None


def test_shift_measures_scores_heat_maps_and_verdicts() -> None:
    old = [part("a", True, 0.9, 0.5), part("b", True, 0.6), part("c", False, 0.1), part("d", False, 0.2)]
    new = [part("a", True, 0.9, 0.7), part("b", True, 0.4), part("c", False, 0.5), part("d", False, None)]
    same, moved = shift_of(old, old, 0.5), shift_of(new, old, 0.5)
    assert (same.ap, same.recall, same.flips, same.max_logit, same.unscored) == (1.0, 1.0, 0, 0.0, 0)
    assert moved.ap == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert (moved.recall, moved.fn, moved.flips, moved.unscored) == (0.5, 1, 2, 1)
    assert moved.max_logit == pytest.approx(np.log(9), abs=1e-6)
    assert moved.max_heat == pytest.approx(0.2, abs=1e-6)
    assert moved.mean_heat == pytest.approx(0.2 / 3, abs=1e-6)


def test_the_limit_holds_for_ap_and_for_recall_in_points() -> None:
    original = Shift(0.99, 0.95, 0, 1, 0, 0, 0, 0, 0, 0)

    def keeps(max_drop: float, **changes: float) -> bool:
        return Shift.from_json({**original.to_json(), **changes}).keeps(original, max_drop)

    assert keeps(0.1, ap=0.9891)
    assert not keeps(0.1, ap=0.9889)
    assert not keeps(0.1, recall=0.94)
    assert keeps(1.0, recall=0.94)
    assert not keeps(50.0, unscored=1)


def test_telling_parts_have_the_same_average_precision_loss() -> None:
    """Good parts below every defective one change no average precision: leaving them out is free."""
    rng = np.random.default_rng(0)
    old = [part(f"p{n}", n < 10, float(rng.uniform(0.3, 0.9) if n < 10 else rng.uniform(0, 0.4))) for n in range(200)]
    new = [part(one.name, one.positive, float(np.clip((one.score or 0) + rng.normal(0, 0.03), 0, 1))) for one in old]
    names = set(telling(old, 200))
    assert {f"p{n}" for n in range(10)} <= names
    assert 42 < len(names) < 130
    few = shift_of([one for one in new if one.name in names], [one for one in old if one.name in names], 0.4)
    lowest = min(one.score or 0 for one in new if one.positive)
    rivals = {one.name for one in new if not one.positive and (one.score or 0) >= lowest}
    assert rivals <= names
    assert few.ap == pytest.approx(shift_of(new, old, 0.4).ap)
    assert len(telling(old, 12)) == 12


def test_choices_are_made_on_validation_pictures(bundle: Bundle, dataset: Dataset, tmp_path: Path) -> None:
    split = bundle.split()
    assert split is not None
    subset, samples = selection(dataset, bundle)
    assert subset == "validation"
    assert [sample.name for sample in samples] == split["validation"]
    with pytest.raises(QuantizeError, match="does not say how its data was split"):
        selection(dataset, made_bundle(tmp_path, split=False))


def run(
    bundle: Bundle, dataset: Dataset, calibration: CalibrationSet, folder: Path, limit: float = 0.1
) -> tuple[Sensitivity, list[str]]:
    told: list[str] = []
    asked = Asked(Int8(), limit, backend="onnxruntime")
    found, _ = measure_sensitivity(
        bundle, dataset, calibration, folder, asked, progress=lambda done, total, text: told.append(text)
    )
    return found, told


def test_every_layer_is_scored_and_the_choice_keeps_the_limit(
    bundle: Bundle, dataset: Dataset, calibration: CalibrationSet, tmp_path: Path
) -> None:
    found, told = run(bundle, dataset, calibration, tmp_path)
    assert [layer.name for layer, _ in found.alone] == [
        *(f"volume.{n}" for n in (0, 2, 3, 4, 6, 7, 8, 9, 11)), "seg_mask", *(f"extractor.{n}" for n in (1, 3, 5))
    ]  # fmt: skip
    assert all(shift.mean_logit > 0 for _, shift in found.alone)
    assert found.left_out is not None
    assert found.mixed is not None
    assert found.mixed.keeps(found.original, 0.1)
    order = [shift.mean_logit for _, shift in found.most_sensitive_first if shift.keeps(found.original, 0.1)]
    assert order == sorted(order, reverse=True)
    table, plot = write_reports(tmp_path, found, {"Bundle": "made"})
    assert (table.name, plot.name) == (TABLE, PLOT)
    assert table.read_text().count("| volume.") == 9
    assert verdict(found) in table.read_text()
    assert "volume.11" in plot.read_text()
    assert json.loads((tmp_path / "choice.json").read_text())["left_out"] == list(found.left_out)
    assert told[0].startswith("alone volume.0")


def test_an_interrupted_run_goes_on_and_another_setting_starts_anew(
    bundle: Bundle, dataset: Dataset, calibration: CalibrationSet, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, total: int, text: str) -> None:
        if done == 5:
            raise Stopped

    asked = Asked(Int8(), 100.0, backend="onnxruntime")
    with pytest.raises(Stopped):
        measure_sensitivity(bundle, dataset, calibration, tmp_path, asked, progress=stop)
    path = tmp_path / RESULTS
    record = json.loads(path.read_text())
    assert len(record["evaluations"]) == 5
    record["evaluations"]["alone volume.0"]["mean_logit"] = 77.0
    path.write_text(json.dumps(record))
    found, _ = run(bundle, dataset, calibration, tmp_path, 100.0)
    assert found.alone[0][1].mean_logit == 77.0
    assert found.left_out == ()
    wishes = ["--manifest", str(calibration.path), "--backend", "onnxruntime"]
    command = ["sensitivity", str(bundle.path), *wishes, "--out", str(tmp_path), "--max-ap-drop", "100"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert f"Next: segdec quantize {bundle.path} {' '.join(wishes)}\n" in done.output  # what it was measured with
    with pytest.raises(Stopped):
        other = Asked(Int8(calibrator="mse"), 100.0, backend="onnxruntime")
        measure_sensitivity(bundle, dataset, calibration, tmp_path, other, progress=stop)
    assert json.loads(path.read_text())["evaluations"]["alone volume.0"]["mean_logit"] < 10
