"""Recipes: loaded and checked, or refused without a trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from segdec_edge.bundle import Bundle, read_bundle, set_threshold
from segdec_edge.config.recipes import RecipeConfig
from segdec_edge.errors import RecipeError, SegdecError
from segdec_edge.files import sha256_of
from segdec_edge.runtime import open_backend
from segdec_edge.station.recipes import Recipes
from segdec_edge.types import Backend, Label
from tests.deploy.bright_parts import SIZE_HW, bright_graph, trained_on
from tests.fakes import FakeBackend, level, plain_part
from tests.station.made_recipes import frame, inspectors


def test_a_loaded_recipe_judges_and_names_itself(recipes: Recipes, lid: Path) -> None:
    loaded = recipes.load("cup")
    verdict = loaded.inspectors["camera"].inspect(frame(value=100), "part")
    assert (verdict.label, verdict.recipe, verdict.threshold) == (Label.DEFECT, "cup", 0.3)
    assert verdict.bundle_sha256 == loaded.bundle_sha256 == read_bundle(lid).meta.model.sha256
    assert loaded.checked.startswith("2 reference pictures as expected")
    loaded.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bare", "has no reference pictures to check it on"),
        ("missing", "does not exist"),
        ("blind", "wanted DEFECT: the rule passes or rejects what is known"),
        ("strict", "wanted OK: the rule passes"),
        ("nowhere", "cannot be read"),
        ("unheard", "is unknown, wanted one of bare, blind, cup"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_refused_in_one_line(recipes: Recipes, name: str, words: str) -> None:
    with pytest.raises(SegdecError, match=words) as caught:
        recipes.load(name)
    assert "\n" not in str(caught.value)


def test_a_bundle_without_reference_may_start_a_station_or_be_swapped_in_on_request(recipes: Recipes) -> None:
    for loaded in (recipes.load("bare", unchecked=True), recipes.load("unchecked")):
        assert loaded.checked.startswith("not self-checked")
        loaded.close()


def opened_with(judge: Callable[[Backend], Callable[..., float]]) -> tuple[list[FakeBackend], Callable[..., Backend]]:
    """Backends with the bundle's spec and another judgement."""
    made: list[FakeBackend] = []

    def opener(bundle: Bundle, name: str) -> Backend:
        made.append(FakeBackend(judge(open_backend(bundle, "onnxruntime")), spec=bundle.spec))
        return made[-1]

    return made, opener


def test_a_backend_that_scores_otherwise_here_fails_the_self_check_and_is_closed(lid: Path) -> None:
    made, opener = opened_with(lambda real: lambda pixels: float(real.infer(pixels[None]).score[0]) + 0.03)
    recipes = Recipes({"lid": RecipeConfig(bundle=lid)}, inspectors, opener=opener)
    with pytest.raises(RecipeError, match=r"wanted 0.0980\d* within 0.02: the bundle does not work here"):
        recipes.load("lid")
    assert [one.closed for one in made] == [1]


def test_a_backend_that_answers_nothing_fails_the_self_check(lid: Path) -> None:
    made, opener = opened_with(lambda real: lambda pixels: float("nan"))
    with pytest.raises(RecipeError, match="UNKNOWN"):
        Recipes({"lid": RecipeConfig(bundle=lid)}, inspectors, opener=opener).load("lid")
    assert [one.closed for one in made] == [1]


def damaged_meta(bundle: Path) -> None:
    content = (bundle / "meta.json").read_text()
    (bundle / "meta.json").write_text(content.replace(read_bundle(bundle).spec.sha256, "0" * 64))


def other_model(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(bright_graph(gain=0.5))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (damaged_meta, "meta.json: its content is not what its digest says"),
        (other_model, "model.onnx: hash"),
        (lambda bundle: set_threshold(bundle, 0.4, "why"), "lid.bundle: was changed while it was opened"),
        (lambda bundle: (bundle / "model.onnx").touch(), None),
    ],
)
def test_a_bundle_that_changes_while_it_is_opened_is_refused(
    lid: Path, change: Callable[[Path], object], words: str | None
) -> None:
    made: list[FakeBackend] = []

    def opener(bundle: Bundle, name: str) -> Backend:
        change(lid)
        made.append(FakeBackend(level, spec=bundle.spec))
        return made[-1]

    recipes = Recipes({"lid": RecipeConfig(bundle=lid, self_check=False)}, inspectors, opener=opener)
    if words is None:
        recipes.load("lid").close()
    else:
        with pytest.raises(SegdecError, match=words):
            recipes.load("lid")
    assert [one.closed for one in made] == [1]


def test_a_model_is_hashed_once_when_its_bundle_is_loaded(recipes: Recipes, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []

    def counted(path: Path) -> str:
        hashed.append(path)
        return sha256_of(path)

    monkeypatch.setattr("segdec_edge.bundle.sha256_of", counted)
    recipes.load("lid").close()
    assert [path.name for path in hashed] == ["model.onnx"]


def test_a_camera_of_another_size_is_refused(lid: Path) -> None:
    trained_on(lid, (100, 200))
    recipes = Recipes(
        {
            "lid": RecipeConfig(bundle=lid, backend="onnxruntime", self_check=False),
            "any": RecipeConfig(bundle=lid, backend="onnxruntime", self_check=False, any_size=True),
        },
        inspectors,
    )
    with pytest.raises(RecipeError, match=r"recipe lid: camera right: a picture of 480x640 \(HxW\), trained on"):
        recipes.load("lid", pictures_hw={"left": (100, 200), "right": (480, 640)})
    for name, seen in (("lid", {"left": (105, 195)}), ("any", {"left": (480, 640)}), ("lid", {})):
        recipes.load(name, pictures_hw=seen).close()


def test_a_reference_picture_that_was_exchanged_is_refused(recipes: Recipes, lid: Path) -> None:
    cv2.imwrite(str(lid / "reference" / "01.png"), plain_part(200, SIZE_HW))
    with pytest.raises(SegdecError, match=r"01\.png: changed or damaged since it was scored"):
        recipes.load("lid")
