"""Who sits which exam: nobody is judged on pictures that it may have been trained on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.bench.accuracy import Exams, exams_for
from segdec_edge.bench.forms import Form, Wish, forms_of
from segdec_edge.bundle import SPLIT
from segdec_edge.errors import DataError
from segdec_edge.types import Pixels, Prediction
from tests.deploy.bright_parts import GOOD, bright_bundle, write_parts
from tests.deploy.made_bundles import SPEC, made_bundle
from tests.fakes import FakeBackend, level


@pytest.fixture
def forms(tmp_path: Path) -> tuple[str, list[Form]]:
    """The same model with two splits; the second one's test pictures are fewer."""
    spec = write_parts(tmp_path / "parts")
    first, second = tmp_path / "first.bundle", tmp_path / "second.bundle"
    bright_bundle(first, spec)
    shutil.copytree(first, second)
    split = json.loads((second / SPLIT).read_text())
    (second / SPLIT).write_text(json.dumps({**split, "test": split["test"][1:], "train": split["test"][:1]}))
    return spec, forms_of(Wish((first, second), backends=("onnxruntime",))).forms


def test_a_form_with_another_split_is_not_judged_on_these_pictures(forms: tuple[str, list[Form]]) -> None:
    spec, both = forms
    steps: list[int] = []
    entrants = [(form.key, 1) for form in both]
    marks = exams_for(spec, "test", both).marks(both, entrants, lambda: steps.append(1))
    first, second = (marks[entrant] for entrant in entrants)
    assert (first.fp, first.fn, first.pictures, first.defective) == (0, 1, len(GOOD) + 5, 5)
    assert second.ap is None and "may have been trained on" in second.unknown
    assert len(steps) == 2


def test_pictures_that_were_trained_on_are_refused(forms: tuple[str, list[Form]]) -> None:
    with pytest.raises(DataError, match="trained on"):
        exams_for(forms[0], "train", forms[1])


def test_without_data_nobody_is_judged(forms: tuple[str, list[Form]]) -> None:
    assert exams_for(None, "test", forms[1]) == Exams()
    assert Exams().marks(forms[1], [], lambda: None) == {}
    assert Exams().pictures(3, []) == ([], [])


def test_each_batch_size_is_scored_at_its_own(forms: tuple[str, list[Form]]) -> None:
    """Judged rightly alone and wrongly in company, as an engine with a broken profile may."""
    spec, (first, _) = forms
    opened: list[FakeBackend] = []

    class Companion(FakeBackend):
        def infer(self, pixels: Pixels) -> Prediction:
            found = super().infer(pixels)
            return found if len(pixels) == 1 else Prediction(1 - found.score, found.heatmap)

    def open_one(threads: int | None) -> FakeBackend:
        opened.append(Companion(level, first.spec))
        return opened[-1]

    entrants = [(first.key, 1), (first.key, 4)]
    steps: list[int] = []
    marks = exams_for(spec, "test", [first]).marks([replace(first, open=open_one)], entrants, lambda: steps.append(1))
    alone, four = (marks[entrant] for entrant in entrants)
    assert (alone.fp, alone.fn, alone.verdicts_changed) == (0, 1, None)
    assert four.fp is not None and four.fp > 5 and four.ap is not None and alone.ap is not None and four.ap < alone.ap
    assert four.over == "first onnxruntime b1" and (four.verdicts_changed or 0) > 5
    assert opened[0].calls == [1] * 15 + [4, 4, 4, 3] and len(steps) == 2 and opened[0].closed == 1


@pytest.mark.parametrize("subset", ["train", "all"])
def test_a_checkpoint_is_not_scored_on_what_it_was_trained_on(subset: str, tmp_path: Path) -> None:
    checkpoint = made_bundle(tmp_path).path.with_name("feature.pt")
    found = forms_of(Wish((checkpoint,), backends=("torch",))).forms
    with pytest.raises(DataError, match=f"feature.pt: '{subset}' pictures were trained on"):
        exams_for(SPEC, subset, found)
    assert exams_for(SPEC, "test", found).exam is not None
    assert exams_for(SPEC.replace("seed=3", "seed=4"), "all", found).exam is not None


def test_a_picture_that_cannot_be_judged_is_passed_over_by_name(tmp_path: Path) -> None:
    spec = write_parts(tmp_path / "parts")
    path = bright_bundle(tmp_path / "first.bundle", spec).path
    form = forms_of(Wish((path,), backends=("onnxruntime",))).forms[0]
    names = [sample.name for sample in exams_for(spec, "test", [form]).exam.samples]  # type: ignore[union-attr]

    def spoil(name: str) -> None:
        cv2.imwrite(str(next((tmp_path / "parts").rglob(f"{Path(name).stem}.png"))), np.full((16, 16), 9, np.uint8))

    spoil(names[1])
    pictures, passed = exams_for(spec, "test", [form]).pictures(3, [form.spec])
    assert len(pictures) == 3 and passed == [names[1]]
    for name in names:
        spoil(name)
    with pytest.raises(DataError, match=f"{names[0]}: a picture without contrast.*None of {len(names)} pictures"):
        exams_for(spec, "test", [form]).pictures(3, [form.spec])
