"""segdec optimize where something is in its way: nothing given is written over, nothing half done ends it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.bundle import Bundle, read_bundle, write_bundle
from segdec_edge.deploy import optimize, rebuild
from segdec_edge.deploy.compress_run import CompressJob, Search, compress_bundle
from segdec_edge.deploy.distil import NONE
from segdec_edge.deploy.fold_run import FoldJob, fold_bundle
from segdec_edge.deploy.gate import ANY_LOSS, Comparison, compare, exam_for, marks_of
from segdec_edge.deploy.latency import Latency
from segdec_edge.deploy.optimize import OptimizeJob, optimize_bundle
from segdec_edge.deploy.rebuild import open_for_rebuilding
from segdec_edge.errors import BackendError, BundleError, DataError, QuantizeError, SegdecError, StorageError
from segdec_edge.types import BoolMask, Pixels
from tests.deploy.made_bundles import made_bundle
from tests.nets import SIZE_HW


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return made_bundle(tmp_path_factory.mktemp("optimize"))


@pytest.fixture
def job(bundle: Bundle, tmp_path: Path) -> OptimizeJob:
    return OptimizeJob(
        bundle.path, tmp_path / "o.bundle", tmp_path / "work", max_ap_drop=-1000, recipe=NONE, backend="onnxruntime"
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressing and quantising take long, and are tested elsewhere."""

    def refuse(*_: object, **__: object) -> None:
        raise QuantizeError("not made here")

    monkeypatch.setattr(Search, "prepare", refuse)
    monkeypatch.setattr(optimize, "quantize_bundle", refuse)


def quiet(line: str) -> None:
    assert line


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (lambda job: {"out": job.bundle}, BundleError, "never changed"),
        (lambda job: {"out": job.bundle / "o.bundle"}, BundleError, "never changed"),
        (lambda job: {"work": job.bundle}, BundleError, "never changed"),
        (lambda job: {"work": job.bundle / "work"}, BundleError, "never changed"),
        (lambda job: {"work": job.out}, BundleError, "shares its folder"),
        (lambda job: {"work": job.out.parent}, BundleError, "shares its folder"),
        (lambda job: {"out": job.out.parent / "none" / "o.bundle"}, StorageError, "no folder"),
        (lambda job: {"subset": "train"}, DataError, "trained on"),
        (lambda job: {"backend": "tensorrt"}, BackendError, "has no engine yet"),
    ],
    ids=["out", "in-it", "work", "work-in-it", "work-is-out", "out-in-work", "no-folder", "train", "backend"],
)
def test_what_cannot_work_is_refused_at_once(
    job: OptimizeJob, change: Callable[[OptimizeJob], dict[str, object]], error: type[SegdecError], told: str
) -> None:
    before, said = everything(job.bundle), list[str]()
    with pytest.raises(error, match=told):
        optimize_bundle(replace(job, **change(job)), said.append)  # type: ignore[arg-type]
    assert everything(job.bundle) == before
    assert not said and not list(job.out.parent.iterdir())


def test_an_exam_without_defects_is_told_before_anything_is_made(bundle: Bundle, job: OptimizeJob) -> None:
    copy = job.out.with_name("copy.bundle")
    split = dict(bundle.split() or {})
    good = [one.name for one in exam_for(bundle).samples if not one.positive]
    write_bundle(copy, onnx_bytes=bundle.model_path.read_bytes(), meta=bundle.meta, split={**split, "test": good})
    with pytest.raises(DataError, match="0 of them defective: average precision needs both"):
        optimize_bundle(replace(job, bundle=copy), quiet)


@pytest.mark.usefixtures("quick")
def test_a_damaged_state_or_candidate_is_made_anew(job: OptimizeJob) -> None:
    optimize_bundle(job, quiet)
    state, folded = job.work / optimize.STATE, job.work / "folded.bundle"
    first = state.read_text()
    said: list[str] = []
    optimize_bundle(job, said.append)
    assert "folded: known from an earlier run" in said
    (folded / "model.onnx").write_bytes(b"torn")
    said.clear()
    optimize_bundle(job, said.append)
    assert "original: known from an earlier run" in said
    assert "folded: known from an earlier run" not in said
    assert read_bundle(folded).spec.precision == "fp32"
    for torn in (first[:100], "[]", "{}"):
        state.write_text(torn)
        said.clear()
        optimize_bundle(job, said.append)
        assert not [line for line in said if "known" in line]
        assert set(json.loads(state.read_text())["known"]) == set(json.loads(first)["known"])


@pytest.mark.usefixtures("quick")
def test_a_candidate_that_cannot_be_made_does_not_end_it(job: OptimizeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BackendError("openvino cannot load it")

    monkeypatch.setattr(optimize, "fold_bundle", fail)
    done = optimize_bundle(job, quiet)
    assert done.winner.name == "original"
    assert done.candidates[1].refused == "openvino cannot load it"
    assert [one.name for one in done.candidates][2:] == ["original-int8", "original-mixed"]  # tried all the same
    state = json.loads((job.work / optimize.STATE).read_text())
    assert "folded" not in state["known"]  # another installation may load it
    assert state["known"]["original"]["judge"] == ""


def test_a_candidate_is_as_fast_as_on_the_runtime_that_scored_it(tmp_path: Path) -> None:
    taken = {"openvino": Latency(2.0, 2.0, 20), "onnxruntime": Latency(1.0, 1.0, 20)}
    one = optimize.Candidate("one", tmp_path, judge="openvino", latency=taken)
    assert one.fastest == (2.0, "openvino")
    assert replace(one, judge="tensorrt").fastest == (1.0, "onnxruntime")


@pytest.mark.usefixtures("quick")
def test_a_network_without_norms_is_compressed_as_it_is(job: OptimizeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    own = made_bundle(job.out.parent, "batch")
    asked: list[CompressJob] = []

    def refuse(wanted: CompressJob, *_: object) -> None:
        asked.append(wanted)
        raise QuantizeError("not made here")

    monkeypatch.setattr(Search, "prepare", refuse)
    done = optimize_bundle(replace(job, bundle=own.path), quiet)
    assert [one.name for one in done.candidates][:2] == ["original", "compressed"]
    assert (asked[0].bundle, asked[0].teacher) == (own.path, None)


def test_validation_pictures_may_judge(job: OptimizeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise QuantizeError("not made here")

    monkeypatch.setattr(Search, "prepare", refuse)
    done = optimize_bundle(replace(job, subset="validation"), quiet)
    int8 = next(one for one in done.candidates if one.name == "original-int8")  # nothing folded passed
    assert not int8.refused and int8.sha256 == read_bundle(int8.bundle).spec.sha256


def test_a_candidate_is_compared_on_the_backend_that_judged_it(bundle: Bundle, job: OptimizeJob) -> None:
    """With `auto`, an engine beside the original may judge that one, and a CPU the candidates."""
    exam = exam_for(bundle, backend="openvino")
    road = optimize._Road(replace(job, backend="openvino"), bundle, exam, quiet, None)
    assert road._marks().accuracy.backend == "openvino"
    marks = marks_of(bundle, replace(exam, backend="onnxruntime"))
    found: Comparison = road._against_original(compare(marks, marks))
    assert (found.before.accuracy.backend, found.after.accuracy.backend) == ("onnxruntime", "onnxruntime")


def test_other_wishes_get_calibration_pictures_of_their_own(bundle: Bundle, job: OptimizeJob) -> None:
    exam = exam_for(bundle)
    digests = {optimize._State.of(one, bundle, exam).digest for one in (job, job, replace(job, max_ap_drop=1.0))}
    assert len(digests) == 2


def test_folding_and_compressing_refuse_other_precisions_and_the_given_at_once(bundle: Bundle, tmp_path: Path) -> None:
    half = tmp_path / "half.bundle"
    facts = bundle.meta.model.model_copy(update={"precision": "fp16"})
    meta = bundle.meta.model_copy(update={"model": facts})
    write_bundle(half, onnx_bytes=bundle.model_path.read_bytes(), meta=meta, split=bundle.split())
    with pytest.raises(QuantizeError, match="fp16 already, wanted FP32"):
        fold_bundle(FoldJob(half, tmp_path / "f.bundle"), quiet)
    with pytest.raises(QuantizeError, match="fp16 already, wanted FP32"):
        compress_bundle(CompressJob(half, tmp_path / "c.bundle"), quiet)
    teacher = tmp_path / "teacher.bundle"
    shutil.copytree(bundle.path, teacher)
    for call in (
        lambda: fold_bundle(FoldJob(teacher, teacher), quiet),
        lambda: compress_bundle(CompressJob(teacher, teacher), quiet),
        lambda: compress_bundle(CompressJob(bundle.path, teacher, teacher=teacher), quiet),
    ):
        with pytest.raises(BundleError, match="never changed"):
            call()


def test_a_share_is_chosen_on_both_kinds_of_pictures(tmp_path: Path) -> None:
    """Without a defect among the validation pictures every share would pass: the training ones choose then."""
    own = made_bundle(tmp_path, "batch")
    split = dict(own.split() or {})
    positive = {one.name for subset in ("validation", "test") for one in exam_for(own, subset=subset).samples
                if one.positive}  # fmt: skip
    validation = [name for name in split["validation"] if name not in positive]
    meta, content = own.meta, own.model_path.read_bytes()
    write_bundle(own.path, onnx_bytes=content, meta=meta, split={**split, "validation": validation})
    job = CompressJob(own.path, tmp_path / "c.bundle", share=0.9, recipe=NONE, gate_drop=ANY_LOSS)
    assert compress_bundle(job, quiet).chosen_on == "training"


def test_masks_that_were_withheld_from_training_are_not_learnt_from(tmp_path: Path) -> None:
    own = made_bundle(tmp_path, "batch")
    split = dict(own.split() or {})
    defective = [one.name for one in open_for_rebuilding(own.path, None).samples if one.positive and one.has_mask]
    content = own.model_path.read_bytes()
    write_bundle(own.path, onnx_bytes=content, meta=own.meta, split={**split, "withheld": defective[1:]})
    left = [one for one in open_for_rebuilding(own.path, None).samples if one.positive and one.has_mask]
    assert [one.name for one in left] == defective[:1] != defective


def test_a_training_picture_without_contrast_says_nothing_of_the_graph(bundle: Bundle) -> None:
    opened = open_for_rebuilding(bundle.path, None)
    flat = _Flat("flat", "flat", False)
    rebuild._require_same(replace(opened, samples=(flat, flat, *opened.samples)))
    foreign = replace(opened.network, fc_bias=opened.network.fc_bias + 1)
    with pytest.raises(BundleError, match="once its graph is taken apart"):
        rebuild._require_same(replace(opened, network=foreign, samples=(flat, flat, *opened.samples)))


@dataclass(frozen=True)
class _Flat:
    name: str
    part: str
    positive: bool
    has_mask: bool = False
    path: Path | None = None

    def read(self) -> Pixels:
        return np.full(SIZE_HW, 7, np.uint8)

    def read_mask(self) -> BoolMask | None:
        return None
