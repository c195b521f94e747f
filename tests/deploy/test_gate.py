"""The gate: what passes, what is refused, and what is left behind. Real runtimes on graphs that score as told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from segdec_edge.bundle import Bundle, read_bundle, set_threshold, write_bundle
from segdec_edge.deploy.gate import (
    ANY_LOSS,
    Comparison,
    compare,
    exam_for,
    marks_of,
    pass_gate,
    shortfall,
    sit,
)
from segdec_edge.errors import BundleError, DataError, GateError, StorageError
from segdec_edge.pictures import pixels_digest, prepare
from tests.deploy.bright_parts import (
    DEFECTIVE,
    GOOD,
    SIZE_HW,
    THRESHOLD,
    TRAINED,
    bright_bundle,
    bright_facts,
    bright_graph,
    write_parts,
)
from tests.fakes import FakeBackend

NAN = float("nan")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_parts(tmp_path_factory.mktemp("bright") / "parts")


@pytest.fixture
def bundle(spec: str, tmp_path: Path) -> Bundle:
    (tmp_path / "old").mkdir()
    return bright_bundle(tmp_path / "old" / "parts.bundle", spec)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The only thing that may appear in its folder."""
    (tmp_path / "new").mkdir()
    return tmp_path / "new" / "parts-int8.bundle"


def through(
    bundle: Bundle, out: Path, content: bytes, *, max_ap_drop: float = 0.1, backend: str = "onnxruntime"
) -> tuple[Bundle, Comparison]:
    exam = exam_for(bundle, backend=backend)
    return pass_gate(
        bundle, out, content, bright_facts(content), exam, step="quantize", note="a try", max_ap_drop=max_ap_drop
    )


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "auto"])
def test_what_keeps_its_accuracy_is_written_with_it(bundle: Bundle, out: Path, backend: str) -> None:
    before = everything(bundle.path)
    content = bright_graph({GOOD[0]: 0.3})
    made, found = through(bundle, out, content, backend=backend)
    assert everything(bundle.path) == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    read = read_bundle(out)
    assert read.meta == made.meta
    assert read.model_path.read_bytes() == content
    assert read.split() == bundle.split()
    assert read.meta.threshold == bundle.meta.threshold
    (accuracy,) = read.meta.accuracy
    assert (accuracy.ap, accuracy.fp, accuracy.fn) == (1.0, 0, 1)
    assert (accuracy.pictures, accuracy.subset) == (len(GOOD) + len(DEFECTIVE), "test")
    assert accuracy.backend in (("onnxruntime", "openvino") if backend == "auto" else (backend,))
    old, new = read.meta.lineage
    assert (old.step, new.step, new.note, new.sha256) == ("export", "quantize", "a try", read.meta.model.sha256)
    assert old.accuracy == found.before.accuracy
    assert new.accuracy == accuracy
    assert old.accuracy.backend == accuracy.backend
    assert found.flips == ()


@pytest.mark.parametrize(
    ("scores", "gain", "offset", "told"),
    [
        pytest.param({GOOD[-1]: 0.48}, 1.0, 0.0, r"average precision 0\.9667 after 1\.0000 on 15", id="ap alone"),
        pytest.param({DEFECTIVE[1]: 0.49}, 1.0, 0.0, "2 defects missed at the shipped threshold after 1", id="recall"),
        pytest.param({GOOD[2]: NAN}, 1.0, 0.0, "no score for 1 pictures that had one", id="a good one unscored"),
        pytest.param({DEFECTIVE[1]: NAN}, 1.0, 0.0, "no score for 1 pictures that had one", id="a defect unscored"),
        pytest.param({}, 0.5, 0.45, "9 good parts rejected at the shipped threshold after 0", id="all scores shifted"),
        pytest.param({}, 0.0, 0.6, r"average precision 0\.3333 after 1\.0000", id="all scores tied"),
    ],
)
def test_what_loses_is_refused_and_leaves_nothing(
    bundle: Bundle, out: Path, scores: Mapping[int, float], gain: float, offset: float, told: str
) -> None:
    before = everything(bundle.path)
    with pytest.raises(GateError, match=told) as refused:
        through(bundle, out, bright_graph(scores, gain, offset))
    assert "nothing was written" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert everything(bundle.path) == before
    assert not list(out.parent.iterdir())
    assert [path.name for path in bundle.path.parent.iterdir()] == [bundle.path.name]


def test_an_older_bundle_at_the_destination_survives_a_refusal_and_gives_way_to_a_pass(
    bundle: Bundle, out: Path
) -> None:
    through(bundle, out, bright_graph({GOOD[0]: 0.2}))
    (out / "engines").mkdir()
    (out / "engines" / "sm86.plan").write_bytes(b"plan")
    older = everything(out)
    with pytest.raises(GateError):
        through(bundle, out, bright_graph({DEFECTIVE[1]: 0.1}))
    assert everything(out) == older
    through(bundle, out, bright_graph({GOOD[0]: 0.25}))
    assert set(everything(out)) == {"model.onnx", "meta.json", "split.json"}  # the plan was of the other graph
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_more_may_be_lost_where_the_user_says_so(bundle: Bundle, out: Path) -> None:
    content = bright_graph({GOOD[-1]: 0.48, DEFECTIVE[1]: 0.49})
    with pytest.raises(GateError, match="2 defects missed"):
        through(bundle, out, content, max_ap_drop=19.9)
    _, found = through(bundle, out, content, max_ap_drop=20)
    assert found.flips == (f"defect/part{DEFECTIVE[1]}",)
    assert found.recall_drop == pytest.approx(20)


def test_a_limit_that_is_no_number_lets_nothing_through(bundle: Bundle, out: Path) -> None:
    with pytest.raises(GateError):
        through(bundle, out, bright_graph(), max_ap_drop=NAN)


def test_the_bundle_itself_and_what_lies_in_it_are_no_destination(bundle: Bundle, tmp_path: Path) -> None:
    before = everything(bundle.path)
    (tmp_path / "alias").symlink_to(bundle.path.parent)
    for destination in (bundle.path, bundle.path / "x.bundle", tmp_path / "alias" / bundle.path.name):
        with pytest.raises(BundleError, match="is the bundle that was given"):
            through(bundle, destination, bright_graph())
    assert everything(bundle.path) == before


def test_a_folder_that_is_not_there_is_told_before_anything_is_scored(bundle: Bundle, tmp_path: Path) -> None:
    exam = replace(exam_for(bundle), backend="none")  # scoring would fail
    with pytest.raises(StorageError, match="there is no folder"):
        pass_gate(bundle, tmp_path / "no" / "a.bundle", bright_graph(), bright_facts(bright_graph()), exam, step="fold")


def test_both_are_judged_by_the_same_backend(bundle: Bundle, out: Path) -> None:
    """As where auto took an engine for the old bundle, and the candidate has none."""
    exam = exam_for(bundle, backend="openvino")
    known = marks_of(bundle, replace(exam, backend="onnxruntime"))
    content = bright_graph({GOOD[0]: 0.3})
    said: list[str] = []
    _, found = pass_gate(bundle, out, content, bright_facts(content), exam, step="fold", before=known, say=said.append)
    assert found.before.accuracy.backend == found.after.accuracy.backend == "openvino"
    assert said[-1] == "scoring 15 test pictures with the bundle as it is"
    said.clear()
    again, _ = pass_gate(
        bundle, out, content, bright_facts(content), exam, step="fold", before=found.before, say=said.append
    )
    assert said == ["scoring 15 test pictures with the result"]
    assert again.meta.lineage[0].accuracy == found.before.accuracy


def test_marks_at_another_threshold_or_of_other_pictures_are_no_comparison(bundle: Bundle, out: Path) -> None:
    exam = exam_for(bundle, backend="onnxruntime")
    marks = marks_of(bundle, exam)
    changed = set_threshold(bundle.path, 0.3, "a try")
    with pytest.raises(ValueError, match="another threshold"):
        pass_gate(changed, out, bright_graph(), bright_facts(bright_graph()), exam, step="fold", before=marks)
    with pytest.raises(ValueError, match="different pictures"):
        compare(marks, replace(marks, scored=marks.scored[1:]))
    assert not out.exists()


def test_one_kind_of_part_alone_is_no_exam(bundle: Bundle, out: Path) -> None:
    exam = exam_for(bundle, backend="onnxruntime")
    good = replace(exam, samples=tuple(sample for sample in exam.samples if not sample.positive))
    content = bright_graph()
    with pytest.raises(DataError, match="10 test pictures, 0 of them defective"):
        pass_gate(bundle, out, content, bright_facts(content), good, step="fold")
    made, found = pass_gate(bundle, out, content, bright_facts(content), good, step="fold", max_ap_drop=ANY_LOSS)
    assert found.ap_drop is None
    assert made.meta.accuracy[0].ap is None
    assert "average precision unknown → unknown" in found.in_words()


def test_an_unknown_average_precision_is_a_shortfall(spec: str, bundle: Bundle) -> None:
    """The defective pictures had no score before either, so that nothing is newly unscored."""
    exam = exam_for(bundle)
    backend = FakeBackend(lambda pixels: NAN if pixels.mean() > 115 else 0.2, spec=replace(bundle.spec))
    marks = sit(backend, exam)
    assert "average precision unknown" in shortfall(compare(marks, marks))
    assert not shortfall(compare(marks, marks), ANY_LOSS)


def test_an_exam_is_held_out(bundle: Bundle, spec: str, tmp_path: Path) -> None:
    assert len(exam_for(bundle).samples) == len(GOOD) + len(DEFECTIVE)
    with pytest.raises(DataError, match=r"subset 'tests', wanted train, validation, test or all"):
        exam_for(bundle, subset="tests")
    with pytest.raises(DataError, match="the split has no validation pictures"):
        exam_for(bundle, subset="validation")
    for subset in ("train", "all"):
        with pytest.raises(DataError, match=f"'{subset}' pictures were trained on"):
            exam_for(bundle, subset=subset)
    others = write_parts(tmp_path / "others")
    assert len(exam_for(bundle, others, "all").samples) == 17


def test_the_trained_set_is_known_by_another_path_too(bundle: Bundle, spec: str, tmp_path: Path) -> None:
    root = Path(spec.removeprefix("folder:"))
    picture = cv2.imread(str(root / "good" / f"part{TRAINED[0]:03}.png"), cv2.IMREAD_GRAYSCALE)
    digest = pixels_digest(prepare(picture, SIZE_HW, 1))
    training = {**bundle.meta.training, "train_digests": [digest]}
    meta = bundle.meta.model_copy(update={"training": training})
    known = write_bundle(
        tmp_path / "known.bundle", onnx_bytes=bundle.model_path.read_bytes(), meta=meta, split=bundle.split()
    )
    elsewhere = tmp_path / "moved"
    shutil.copytree(root, elsewhere)
    with pytest.raises(DataError, match="'all' pictures were trained on"):
        exam_for(known, f"folder:{elsewhere}", "all")
    cv2.imwrite(str(elsewhere / "good" / f"part{TRAINED[0]:03}.png"), 255 - picture)
    assert exam_for(known, f"folder:{elsewhere}", "all").subset == "all"


def test_a_bundle_without_a_split_or_a_data_set_says_so(spec: str, tmp_path: Path) -> None:
    nowhere = bright_bundle(tmp_path / "a.bundle", None)
    with pytest.raises(BundleError, match=r"does not say what it was trained on\. Give it: --data"):
        exam_for(nowhere)
    assert exam_for(nowhere, spec).data == spec
    unsplit = bright_bundle(tmp_path / "b.bundle", spec, split=False)
    with pytest.raises(DataError, match="does not say how its data was split"):
        exam_for(unsplit)
    assert exam_for(unsplit, subset="all").subset == "all"


def test_a_bundle_without_lineage_gets_one(spec: str, tmp_path: Path, out: Path) -> None:
    bundle = bright_bundle(tmp_path / "a.bundle", spec, lineage=False)
    made, found = through(bundle, out, bright_graph({GOOD[0]: 0.3}))
    old, new = made.meta.lineage
    assert (old.step, old.sha256, old.note) == ("unknown", bundle.spec.sha256, "not recorded")
    assert old.accuracy == found.before.accuracy
    assert new.accuracy == found.after.accuracy


def test_an_accuracy_that_was_measured_earlier_stays(bundle: Bundle, out: Path, tmp_path: Path) -> None:
    first, found = through(bundle, out, bright_graph({GOOD[0]: 0.3}))
    second, _ = through(first, tmp_path / "second.bundle", bright_graph({GOOD[0]: 0.31}), backend="openvino")
    assert [step.accuracy.backend for step in second.meta.lineage if step.accuracy] == [
        "onnxruntime",
        "onnxruntime",
        "openvino",
    ]
    assert second.meta.lineage[1].accuracy == found.after.accuracy


def test_flips_and_distances_are_counted(bundle: Bundle) -> None:
    exam = exam_for(bundle)

    def scored(shift: float) -> FakeBackend:
        return FakeBackend(lambda pixels: float(pixels.mean()) / 255 + shift, spec=bundle.spec)

    before, after = sit(scored(0.0), exam), sit(scored(0.08), exam)
    found = compare(before, after)
    assert set(found.flips) == {f"good/part{GOOD[-1]}", f"defect/part{DEFECTIVE[0]}"}
    assert found.recall_drop == pytest.approx(-20)
    assert found.more_rejected == pytest.approx(10)
    assert 0.3 < found.score_rms < 1
    assert compare(before, before).score_rms == 0
    assert after.accuracy.threshold == THRESHOLD


def test_the_gate_runs_where_no_torch_is() -> None:
    code = "import sys, segdec_edge.deploy.gate; print([one for one in ('torch', 'onnx') if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
