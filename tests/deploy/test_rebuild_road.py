"""fold, compress and optimize on a bundle that was really trained, through real backends and the gate."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.bundle import BundleError, read_bundle
from segdec_edge.config.train import train_settings
from segdec_edge.deploy.compress_run import CompressJob, Search, compress_bundle
from segdec_edge.deploy.distil import NONE, Recipe
from segdec_edge.deploy.export import export_checkpoint
from segdec_edge.deploy.fold_run import KEPT, FoldJob, fold_bundle
from segdec_edge.deploy.gate import exam_for
from segdec_edge.deploy.graph_read import read_network
from segdec_edge.deploy.latency import latencies
from segdec_edge.deploy.lighting import CHANGES, table_of
from segdec_edge.deploy.material import parity_pictures
from segdec_edge.deploy.network import operations
from segdec_edge.deploy.optimize import Candidate, OptimizeJob, optimize_bundle
from segdec_edge.deploy.optimize_page import optimize_page
from segdec_edge.deploy.plan_check import plan_check
from segdec_edge.deploy.rebuild import material_of, open_for_rebuilding
from segdec_edge.deploy.shift import Shift
from segdec_edge.errors import CalibrationError, GateError
from segdec_edge.runtime import open_backend
from segdec_edge.training.run import train
from tests.fakes import FakeBackend
from tests.standin_tensorrt import standin_plan
from tests.training.made_parts import Quiet

SPEC = "synthetic:seed=3,n=64,size=128x128"
SHORT = Recipe(steps=30, rate=1e-3)


def segdec(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from segdec_edge.cli import main; main()", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rebuild")
    settings = train_settings(
        {"data": SPEC, "epochs": 6, "width": 0.25, "size_hw": [128, 128], "test": 0.4, "precision": "fp32",
         "tensorboard": False}
    )  # fmt: skip
    checkpoint = train(settings, folder / "run", Quiet()).checkpoint
    return export_checkpoint(checkpoint, folder / "parts.bundle", pictures=parity_pictures(checkpoint)).path


@pytest.fixture(scope="module")
def plain(bundle: Path) -> Path:
    out = bundle.with_name("parts-folded.bundle")
    fold_bundle(FoldJob(bundle, out, pictures=16, max_ap_drop=100), quiet, other_light=False)
    return out


def quiet(line: str) -> None:
    assert line


def test_fold_reports_and_says_where_it_comes_from(bundle: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    done = fold_bundle(FoldJob(bundle, tmp_path / "f.bundle", pictures=16, recipe=SHORT, max_ap_drop=100), quiet)
    folded = read_bundle(tmp_path / "f.bundle")
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    network = read_network(folded.model_path.read_bytes())
    assert [norm.name for norm in network.norms] == [f"{name}.norm" for name in KEPT]
    assert network.standardise is not None
    old, new = folded.meta.lineage
    assert (old.step, new.step, new.sha256) == ("export", "fold", folded.meta.model.sha256)
    assert "16 training pictures" in new.note and "30 steps of distillation" in new.note
    assert old.accuracy == done.comparison.before.accuracy
    assert new.accuracy == folded.meta.accuracy[0] == done.comparison.after.accuracy
    assert new.accuracy.pictures == len(folded.split()["test"])  # type: ignore[index]
    assert folded.meta.threshold == read_bundle(bundle).meta.threshold
    assert [one.change for one in done.lighting] == [name for name, _, _ in CHANGES]
    lines = table_of(done.lighting).splitlines()
    assert len(lines) == len(CHANGES) + 1 and lines[1].startswith("as it is")
    darker = done.lighting[1].comparison
    assert darker.before.scored != done.lighting[0].comparison.before.scored


def test_what_loses_too_much_is_refused_and_leaves_nothing(bundle: Path, tmp_path: Path) -> None:
    poor = CompressJob(bundle.with_name("x"), tmp_path / "c.bundle", share=0.001, recipe=NONE)
    job = replace(poor, bundle=bundle)
    with pytest.raises(BundleError, match="segdec fold"):
        compress_bundle(job, quiet)
    assert not list(tmp_path.iterdir())


def test_what_the_gate_stops_is_not_written(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"c\.bundle: .* wanted at most -100 points lost; nothing was written"):
        job = CompressJob(plain, tmp_path / "c.bundle", pictures=16, share=0.1, recipe=NONE, gate_drop=-100)
        compress_bundle(job, quiet)
    assert not list(tmp_path.iterdir())


def test_compress_keeps_its_budget_and_its_curve(bundle: Path, plain: Path, tmp_path: Path) -> None:
    job = CompressJob(
        plain, tmp_path / "c.bundle", teacher=bundle, pictures=16, share=0.4, recipe=SHORT, max_ap_drop=100,
        work=tmp_path / "parts",
    )  # fmt: skip
    done = compress_bundle(job, quiet)
    made = read_bundle(job.out)
    counted = sum(operations(read_network(made.model_path.read_bytes()), (128, 128)).values())
    assert counted == done.after <= 0.42 * done.before
    curve = (made.meta.lineage[-1].model_extra or {})["curve"]
    assert [one["share"] for one in curve] == [0.4]
    assert curve[0]["operations"] == done.after
    assert "GFLOP; ranks" in made.meta.lineage[-1].note
    (kept,) = (tmp_path / "parts").glob("*.onnx")
    assert kept.read_bytes() == made.model_path.read_bytes()
    steps: list[int] = []
    again = compress_bundle(
        replace(job, out=tmp_path / "again.bundle"), quiet, lambda done, of, loss: steps.append(done)
    )
    assert not steps  # the candidate lay in the work folder
    assert again.bundle.spec.sha256 == made.spec.sha256


class AllPass(Search):
    """Two steps of distillation would decide by chance which share passes."""

    @property
    def before(self) -> Shift:
        return replace(super().before, ap=0.0, recall=0.0, fp=1000)


def test_what_chooses_a_share_was_not_learnt_from(bundle: Path, plain: Path, tmp_path: Path) -> None:
    job = CompressJob(
        plain, tmp_path / "c.bundle", teacher=bundle, pictures=8, recipe=replace(SHORT, steps=2), max_ap_drop=100,
        work=tmp_path / "parts",
    )  # fmt: skip
    search = Search.prepare(job, quiet)
    training = set(read_bundle(bundle).split()["train"])  # type: ignore[index]
    shown = {sample.name for sample in search.selection}
    assert shown == search.held_back and 0 < len(shown) < len(training) / 2 and shown < training
    assert {sample.positive for sample in search.selection} == {True, False}
    parts = {sample.part for sample in search.opened.samples if sample.name not in shown}
    assert not parts & {sample.part for sample in search.selection}
    assert not shown & set(search.few.names)
    learnt = search.lessons.without(search.held_back)
    mirrored, faint = learnt.more
    assert set(learnt.plain.material.names) == set(mirrored.material.names) == training - shown
    assert set(faint.material.names) == {one.name for one in search.opened.samples if one.positive} - shown
    curve, best = AllPass(**{one.name: getattr(search, one.name) for one in fields(search)}).found()
    assert best is not None and search.chosen_on == "held-back training"
    chosen, content = best
    assert chosen in curve and len({tuple(one.ranks.items()) for one in curve}) == len(curve)
    # the one that is kept has learnt from all of them: it is another file than the one that was judged
    again, judged = search.candidate(chosen.share, learnt)
    assert again.ranks == chosen.ranks and judged != content
    assert search.candidate(chosen.share)[1] == content


def test_a_folded_bundle_cannot_be_folded_again(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no norm to fold"):
        fold_bundle(FoldJob(plain, tmp_path / "f.bundle"), quiet)


def test_for_dla_no_norm_stays(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.bundle"
    fold_bundle(FoldJob(bundle, out, pictures=16, keep=(), max_ap_drop=100), quiet, other_light=False)
    assert not read_network(read_bundle(out).model_path.read_bytes()).norms


def test_an_unknown_layer_to_keep_is_named(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no norm at 'volume\.1' to keep, wanted some of volume\.0"):
        fold_bundle(FoldJob(bundle, tmp_path / "f.bundle", keep=("volume.1",)), quiet)


def test_without_a_split_nothing_is_fitted(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.bundle"
    copy.mkdir()
    for name in ("model.onnx", "meta.json"):
        (copy / name).write_bytes((bundle / name).read_bytes())
    with pytest.raises(CalibrationError, match="does not say which pictures it was trained on"):
        open_for_rebuilding(copy, None)


def test_material_is_training_pictures_alone(bundle: Path) -> None:
    opened = open_for_rebuilding(bundle, None)
    split = opened.bundle.split()
    assert split is not None
    assert {sample.name for sample in opened.samples} == set(split["train"])
    everything, few = material_of(opened), material_of(opened, 16)
    assert len(everything.pixels) == len(split["train"]) and len(few.pixels) == 16
    assert few.defective.sum() == min(8, everything.defective.sum())


def test_an_engine_is_judged_beside_its_model(bundle: Path, plain: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.bundle"
    shutil.copytree(bundle, own)
    opened = read_bundle(own)
    plan, exam = standin_plan(tmp_path / "engines", opened), exam_for(opened)
    said = plan_check(opened, exam, open_engine=lambda plan, of: open_backend(of, "openvino"))(plan)
    assert "average precision" in said and "0 other verdicts" in said
    assert {one.backend for one in read_bundle(own).meta.accuracy} >= {"openvino"}
    before = (own / "meta.json").read_bytes()
    inverted = FakeBackend(lambda pixels: 0.0, spec=opened.spec)
    with pytest.raises(GateError, match=rf"{plan.path.name}: .*defects missed at the shipped threshold"):
        plan_check(opened, exam, open_engine=lambda plan, of: inverted)(plan)
    assert (own / "meta.json").read_bytes() == before
    assert inverted.closed == 1


def test_latencies_are_taken_in_turns() -> None:
    calls: list[str] = []

    def judge(name: str) -> FakeBackend:
        return FakeBackend(lambda pixels: calls.append(name) or 0.5)

    picture = np.zeros((32, 32, 1), np.uint8)
    found = latencies({"a": judge("a"), "b": judge("b")}, [picture], rounds=3)
    turns = ["".join(calls[place : place + 2]) for place in range(0, len(calls), 2)]
    assert turns[:2] == ["aa", "bb"]  # warm-up, then in each round a call that is not timed and one that is
    assert [sorted(turns[place : place + 2]) for place in (2, 4, 6)] == [["aa", "bb"]] * 3 and len(turns) == 8
    assert set(found) == {"a", "b"} and found["a"].rounds == 3
    assert 0 < found["a"].median_ms <= found["a"].p90_ms


@pytest.mark.slow
def test_optimize_finds_a_faster_one_and_takes_up_where_it_stopped(bundle: Path, tmp_path: Path) -> None:
    out, work = tmp_path / "o.bundle", tmp_path / "work"
    common = [
        "optimize", bundle, "-o", out, "--work", work, "--max-ap-drop", "30", "--steps", "30", "--rate", "0.001",
        "--target-ms", "60000",
    ]  # fmt: skip
    first = segdec(*common)
    assert first.returncode == 0, first.stderr
    page = (work / "optimize.html").read_text()
    state = json.loads((work / "state.json").read_text())["known"]
    assert {"original", "folded", "compressed"} <= set(state)
    for name in state:
        assert f">{name}<" in page
    assert "times faster" in first.stdout and "Next: segdec build" in first.stdout
    winner = read_bundle(out)
    assert winner.meta.lineage[0].step == "export"
    second = segdec(*common)
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("known from an earlier run") == len(state)
    assert "distilling" not in second.stdout
    missed = segdec(*common[:-1], "0.0001")
    assert missed.returncode == 1 and "target of 0.0001 ms is not reached" in missed.stdout


def test_optimize_says_so_where_nothing_passes(bundle: Path, tmp_path: Path) -> None:
    job = OptimizeJob(
        bundle, tmp_path / "o.bundle", tmp_path / "work", max_ap_drop=-1000, recipe=NONE, backend="onnxruntime"
    )
    done = optimize_bundle(job, quiet)
    assert done.winner.name == "original"
    assert read_bundle(job.out).spec.sha256 == read_bundle(bundle).spec.sha256
    assert "Nothing faster keeps its accuracy" in optimize_page(job, done)
    refused = Candidate("<b>", tmp_path, refused="a & b")
    shown = optimize_page(job, replace(done, candidates=(*done.candidates, refused)))
    assert "&lt;b&gt;: a &amp; b" in shown
