"""Who sits which exam: nobody is judged on pictures that it may have been trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from segdec_edge.bench.accuracy import Exams, exams_for
from segdec_edge.bench.forms import Form, Wish, forms_of
from segdec_edge.bundle import SPLIT
from segdec_edge.errors import DataError
from tests.deploy.bright_parts import GOOD, bright_bundle, write_parts


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
    marks = exams_for(spec, "test", both).marks(both, lambda: steps.append(1))
    first, second = marks["first onnxruntime"], marks["second onnxruntime"]
    assert (first.fp, first.fn, first.pictures) == (0, 1, len(GOOD) + 5)
    assert second.ap is None and "may have been trained on" in second.unknown
    assert len(steps) == 2


def test_pictures_that_were_trained_on_are_refused(forms: tuple[str, list[Form]]) -> None:
    with pytest.raises(DataError, match="trained on"):
        exams_for(forms[0], "train", forms[1])


def test_without_data_nobody_is_judged(forms: tuple[str, list[Form]]) -> None:
    assert exams_for(None, "test", forms[1]) == Exams()
    assert Exams().marks(forms[1], lambda: None) == {}
    assert Exams().pictures(3) == []
