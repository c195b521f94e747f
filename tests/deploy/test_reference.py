"""Reference pictures and profiles: made from pictures that are not the test's, by the bundle's own model."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.bundle import read_bundle, set_threshold
from segdec_edge.deploy.export import export_checkpoint
from segdec_edge.deploy.gate import ANY_LOSS, exam_for, pass_gate
from segdec_edge.deploy.lineage import bundle_facts
from segdec_edge.deploy.lineage_text import in_words
from segdec_edge.deploy.reference import make_profile, make_reference
from segdec_edge.errors import BundleError, DataError, ExportError
from segdec_edge.profile import NO_MODEL_FILE, Seen, profile_of
from segdec_edge.runtime.reference import EXPECTED, read_reference_picture, reference_of
from tests.deploy.bright_parts import GOOD, bright_bundle, bright_facts, bright_graph, write_parts
from tests.deploy.made_bundles import SPEC, THRESHOLD
from tests.nets import SIZE_HW, lively_net, save_net


@pytest.fixture
def parts(tmp_path: Path) -> str:
    return write_parts(tmp_path / "parts")


@pytest.fixture
def bundle(tmp_path: Path, parts: str) -> Path:
    return bright_bundle(tmp_path / "bright.bundle", parts).path


def test_reference_pictures_are_training_ones_with_the_scores_of_the_model(bundle: Path) -> None:
    made = make_reference(bundle)
    assert [(one.name, one.label) for one in made.pictures] == [("good/part025", "OK"), ("defect/part190", "DEFECT")]
    found = reference_of(read_bundle(bundle))
    assert found == (bundle / "reference", made)
    for one, level in zip(made.pictures, (25, 190), strict=True):
        assert one.score == pytest.approx(level / 255, abs=1e-3)
        assert read_reference_picture(bundle / "reference", one).mean() == pytest.approx(level)
    assert "2 train pictures, scores within 0.02" in in_words(bundle_facts(bundle))


def test_of_many_pictures_half_are_defective_and_each_is_judged_rightly(
    tmp_path: Path, parts: str, bundle: Path
) -> None:
    made = make_reference(bright_bundle(tmp_path / "no_split.bundle", parts, split=False).path, count=6)
    assert made.subset == "all"
    assert [one.label for one in made.pictures] == ["OK"] * 3 + ["DEFECT"] * 3
    scores = [one.score for one in made.pictures]
    assert scores == sorted(scores)
    assert scores[0] == pytest.approx(GOOD[0] / 255, abs=1e-3)
    assert all(abs(score - 0.5) > made.tolerance for score in scores)
    assert scores[3] > 0.5  # the defect of level 120 is missed at the threshold, so nothing is learnt from it


@pytest.mark.parametrize("subset", ["test", "all"])
def test_test_pictures_stay_held_out(bundle: Path, subset: str) -> None:
    with pytest.raises(DataError, match="test pictures, wanted others"):
        make_reference(bundle, subset=subset)
    assert not (bundle / "reference").exists()


def test_a_reference_needs_both_kinds_surely_judged(bundle: Path) -> None:
    set_threshold(bundle, 0.76, "higher than the training defect scores")
    with pytest.raises(DataError, match="none of 1 defective pictures is judged rightly"):
        make_reference(bundle)
    assert sorted(path.name for path in bundle.iterdir()) == ["meta.json", "model.onnx", "split.json"]


def test_a_damaged_reference_is_told_in_one_line(bundle: Path) -> None:
    made = make_reference(bundle)
    expected = bundle / "reference" / EXPECTED
    text = expected.read_text()
    values = json.loads(text)
    values["pictures"][0]["score"] = 0.9
    for content, words in (
        (json.dumps(values), "not what its digest says"),
        (text[:-9], "not valid JSON"),
        ("[]", "a list, wanted an object"),
        ("", "not valid JSON"),
    ):
        expected.write_text(content)
        with pytest.raises(BundleError, match=words) as caught:
            reference_of(read_bundle(bundle))
        assert "\n" not in str(caught.value)
    expected.unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        reference_of(read_bundle(bundle))
    picture = bundle / "reference" / made.pictures[0].file
    cv2.imwrite(str(picture), np.zeros((16, 16), np.uint8))
    with pytest.raises(BundleError, match="changed or damaged since it was scored"):
        read_reference_picture(picture.parent, made.pictures[0])


def test_a_profile_is_of_the_model_and_its_pictures(bundle: Path, parts: str) -> None:
    assert "none: no station watches for drift" in in_words(bundle_facts(bundle))
    made = make_profile(bundle, subset="all")
    opened = read_bundle(bundle)
    assert opened.meta.profile == made
    assert made.model_sha256 == opened.meta.model.sha256
    assert made.good is not None and made.defective is not None
    assert (made.good.total, made.defective.total, made.data) == (11, 6, parts)
    levels = [*GOOD, 25, 120, 150, 180, 200, 220, 190]
    assert made.brightness.mean == pytest.approx(np.mean(levels), abs=0.1)
    assert made.contrast.mean == pytest.approx(15, abs=0.1)
    assert "17 all pictures, brightness" in in_words(bundle_facts(bundle))


def test_a_gate_hands_the_profile_on_with_the_model_it_is_of(bundle: Path, tmp_path: Path) -> None:
    made = make_profile(bundle)
    make_reference(bundle)
    opened = read_bundle(bundle)
    other = bright_graph(gain=1.001)
    passed, _ = pass_gate(
        opened,
        tmp_path / "other.bundle",
        other,
        bright_facts(other),
        exam_for(opened, backend="onnxruntime"),
        step="test",
        max_ap_drop=ANY_LOSS,
    )
    assert passed.meta.profile == made
    assert passed.meta.profile is not None and passed.meta.profile.model_sha256 != passed.meta.model.sha256
    assert reference_of(passed) is None  # its scores were the old model's


def test_an_export_hands_the_profile_of_training_on(tmp_path: Path) -> None:
    from segdec_edge.bundle import utc_now
    from segdec_edge.data.spec import open_dataset

    seen = [Seen(index % 2 == 0, index / 40, (100.0 + index, 20.0)) for index in range(40)]
    profile = profile_of(seen, data=SPEC, subset="validation", model_sha256=NO_MODEL_FILE, when=utc_now())
    pictures = [sample.read() for sample in open_dataset(SPEC).samples[:2]]

    def exported(facts: object) -> Path:
        checkpoint = save_net(tmp_path / "net.pt", lively_net(width=0.1), threshold=THRESHOLD, facts={"profile": facts})
        out = tmp_path / "net.bundle"
        return export_checkpoint(checkpoint, out, size_hw=SIZE_HW, pictures=pictures, simplify=False).path

    meta = read_bundle(exported(profile.model_dump(mode="json"))).meta
    assert meta.profile == profile.model_copy(update={"model_sha256": meta.model.sha256})
    assert "profile" not in meta.training
    with pytest.raises(ExportError, match="training profile makes no sense"):
        exported({**profile.model_dump(mode="json"), "brightness": 3})
