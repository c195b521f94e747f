"""Names of Label Studio's PNG masks: hyphens in annotator, control and class, read by what is known, else refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segdec_edge.data.annotations.mask_names import KnownNames, task_and_class
from segdec_edge.errors import DataError
from tests.data.annotated import imported, pictures, rectangle, save, write_json
from tests.data.exports import task

NOTHING = KnownNames(frozenset())


def class_of(middle: str, *pairs: tuple[str, str], asked: tuple[str, ...] = ()) -> str:
    path = Path(f"task-7-annotation-9-by-{middle}-0.png")
    number, name = task_and_class(path, KnownNames(frozenset(pairs), frozenset(asked)))
    assert number == 7
    return name


@pytest.mark.parametrize(
    ("middle", "name"),
    [
        ("me@x.org-tag-scratch", "scratch"),
        ("ann@my-company.com-tag-scratch", "scratch"),
        ("ann-lee@my-company.co.uk-tag-deep-scratch", "deep-scratch"),
        ("12-tag-deep-scratch", "deep-scratch"),
        ("-tag-deep-scratch", "deep-scratch"),
        ("me-tag-a", "a"),
    ],
)
def test_the_annotator_is_told_from_control_and_class(middle: str, name: str) -> None:
    assert class_of(middle) == name


def test_what_the_export_uses_decides_first() -> None:
    assert class_of("ann-lee-my-tag-deep-scratch", ("my-tag", "deep-scratch")) == "deep-scratch"
    assert class_of("ann-lee-my-tag-scratch", ("tag", "scratch")) == "scratch"
    assert class_of("me@x.org-tag-deep-scratch", ("tag", "scratch")) == "deep-scratch"


def test_classes_asked_for_decide_what_else_is_open_and_no_more() -> None:
    assert class_of("ann-tag-deep-scratch", asked=("deep-scratch",)) == "deep-scratch"
    assert class_of("me@x.org-tag-deep-scratch", asked=("scratch",)) == "deep-scratch"


def test_a_name_that_can_mean_two_classes_is_refused() -> None:
    with pytest.raises(DataError, match=r"its class may be deep-scratch or scratch, wanted one reading") as caught:
        class_of("ann-tag-deep-scratch")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["task-mine.png", "task-7-annotation-9-by-me-0.png", "task-7-annotation-9-by-a-b-0.png"]
)
def test_names_of_another_form_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="as Label Studio names masks"):
        task_and_class(Path(name), NOTHING)


def test_two_annotators_masks_of_one_class_both_mark(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png", "b.png")
    write_json(tmp_path / "export" / "project.json", [task(7, "a.png"), task(8, "b.png")])
    mask = rectangle(8, 5, 20, 12)
    for number, who in ((7, "ann@my-company.com"), (8, "me@x.org")):
        save(tmp_path / "export" / f"task-{number}-annotation-9-by-{who}-tag-scratch-0.png", mask.astype(np.uint8))
    masks, _ = imported("labelstudio", tmp_path / "export", images, tmp_path / "out", classes=("scratch",))
    assert all(np.array_equal(np.asarray(masks[name]), mask) for name in "ab")
