"""MagneticTile: shots of one tile are one part; masks, labels and what can be wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segdec_edge.data.check import check_dataset
from segdec_edge.data.magnetic import DEFECTS
from segdec_edge.data.samples import Dataset
from segdec_edge.data.spec import open_dataset
from segdec_edge.data.splits import split_by_part
from segdec_edge.data.twins import FRAMES, Shot, exposure_runs, group_twins, thumbnail_of
from segdec_edge.errors import DataError

Array = NDArray[Any]


def tile(seed: int, size_hw: tuple[int, int] = (80, 120)) -> Array:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    return cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_LINEAR)


def save(root: Path, kind: str, name: str, pixels: Array, defect_rows: int) -> None:
    folder = root / f"MT_{kind}" / "Imgs"
    folder.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(pixels.shape, np.uint8)
    mask[:defect_rows] = 255
    mask[defect_rows : defect_rows + 1] = 100 if defect_rows else 0
    assert cv2.imwrite(str(folder / f"{name}.jpg"), pixels)
    assert cv2.imwrite(str(folder / f"{name}.png"), mask)


@pytest.fixture
def magnetic(tmp_path: Path) -> Path:
    """Three good tiles, taken with three exposures each, and one tile a defect, two exposures, 30 frames apart."""
    for at, kind in enumerate(("Free", "Free", "Free", *DEFECTS)):
        for exposure in (1, 2, 3) if kind == "Free" else (1, 2):
            name = f"exp{exposure}_num_{2000 * at + 30 * exposure}"
            rows = 0 if kind == "Free" else 5
            save(tmp_path, kind, name, (tile(at) // (4 - exposure)).astype(np.uint8), rows)
    return tmp_path


def parts(dataset: Dataset) -> list[list[str]]:
    found: dict[str, list[str]] = {}
    for sample in dataset.samples:
        found.setdefault(sample.part, []).append(sample.name)
    return list(found.values())


def test_shots_of_one_tile_are_one_part(magnetic: Path) -> None:
    dataset = open_dataset(f"magnetic:{magnetic}")
    assert sorted(map(len, parts(dataset))) == [2] * 5 + [3] * 3
    assert sum(sample.positive for sample in dataset.samples) == 10
    assert dataset.notes == ("19 pictures in 8 groups of one tile and its like, the largest of 3",)
    assert check_dataset(dataset, dataset.root).findings == ()


def test_a_part_of_each_picture_is_there_to_show_the_leak(magnetic: Path) -> None:
    dataset = open_dataset(f"magnetic:{magnetic},group=picture")
    assert [sample.part for sample in dataset.samples] == [sample.name for sample in dataset.samples]
    assert dataset.root == magnetic


def test_one_class_against_the_good_ones(magnetic: Path) -> None:
    dataset = open_dataset(f"magnetic:{magnetic},class=Crack,group=tile")
    assert Counter(sample.name.split("/")[0] for sample in dataset.samples) == {"Free": 9, "Crack": 2}


def test_soft_mask_edges_are_cut_at_127(magnetic: Path) -> None:
    dataset = open_dataset(f"magnetic:{magnetic}")
    mask = next(sample for sample in dataset.samples if sample.positive).read_mask()
    assert mask is not None
    assert mask.any(axis=1).tolist() == [True] * 5 + [False] * 75


def test_an_empty_mask_is_no_mask_and_said(magnetic: Path) -> None:
    save(magnetic, "Uneven", "exp3_num_14090", tile(7), 0)
    dataset = open_dataset(f"magnetic:{magnetic}")
    (sample,) = dataset.named(("Uneven/exp3_num_14090",))
    assert (sample.positive, sample.has_mask, sample.read_mask()) == (True, False, None)
    assert dataset.notes[0].startswith("1 defective pictures have an empty mask, used as without one: Uneven/exp3")
    (finding,) = check_dataset(dataset, dataset.root).findings
    assert finding.startswith("Uneven/exp3_num_14090: counts as defective, but its mask is empty.")


def test_a_tile_with_two_labels_is_said(magnetic: Path) -> None:
    save(magnetic, "Free", "exp3_num_14090", tile(7), 0)
    note = open_dataset(f"magnetic:{magnetic}").notes[-1]
    assert note.startswith("1 tiles count as good in some shots and as defective in others")
    assert "Uneven/exp1_num_14030" in note


def test_an_unreadable_picture_is_grouped_by_its_name_and_a_finding(magnetic: Path) -> None:
    (magnetic / "MT_Free" / "Imgs" / "exp2_num_60.jpg").write_bytes(b"")
    dataset = open_dataset(f"magnetic:{magnetic}")
    assert sorted(map(len, parts(dataset))) == [2] * 5 + [3] * 3
    assert any("exp2_num_60.jpg" in finding for finding in check_dataset(dataset, dataset.root).findings)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (",class=Dent", "class 'Dent', wanted all, Blowhole, Break, Crack, Fray, Uneven"),
        (",class=Free", "class 'Free', wanted all"),
        (",group=none", "group 'none', wanted tile or picture"),
        (",groups=tile", "unknown key 'groups', wanted class, group"),
    ],
)
def test_wrong_options_are_refused(magnetic: Path, options: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_dataset(f"magnetic:{magnetic}{options}")


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("MT_Crack/Imgs/*", "Imgs: no pictures there"),
        ("MT_Crack/Imgs/*.png", "2 defects have no mask, first exp1_num_10030.jpg"),
        ("MT_Free/Imgs/exp1_num_30.jpg", "1 masks have no picture, first exp1_num_30.png"),
    ],
)
def test_missing_files_are_refused(magnetic: Path, gone: str, words: str) -> None:
    for path in magnetic.glob(gone):
        path.unlink()
    with pytest.raises(DataError, match=words):
        open_dataset(f"magnetic:{magnetic}")


def shot(name: str, seed: int, exposure: int | None = None, frame: int | None = None) -> Shot:
    return Shot(name, exposure, frame, (80, 120), thumbnail_of(tile(seed, (16, 16)).astype(np.float64)))


def test_objects_taken_in_turns_are_told_apart_by_likeness() -> None:
    shots = [
        shot(f"{exposure}{seed}", seed, exposure, 100 * exposure + seed) for exposure in (1, 2, 3) for seed in (1, 2)
    ]
    assert exposure_runs(shots) == [[0, 2, 4], [1, 3, 5]]


def test_a_second_shot_with_one_exposure_is_another_object() -> None:
    assert exposure_runs([shot("a", 1, 1, 10), shot("b", 2, 1, 20)]) == [[0], [1]]


def test_shots_far_apart_are_other_objects_unless_they_look_alike() -> None:
    far = [shot("a", 1, 1, 10), shot("b", 2, 2, 11 + FRAMES)]
    assert group_twins(far) == [[0], [1]]
    assert group_twins([far[0], shot("b", 1, 2, 11 + FRAMES)]) == [[0, 1]]


def test_names_that_tell_nothing_are_grouped_by_likeness_alone() -> None:
    assert group_twins([shot("c", 1), shot("b", 2), shot("a", 1)]) == [[2, 0], [1]]


def test_likeness_is_blind_to_exposure_but_not_to_shape() -> None:
    grey = tile(1, (16, 16)).astype(np.float64)
    dark = Shot("dark", None, None, (80, 120), thumbnail_of(grey * 0.2 + 3))
    wide = Shot("wide", None, None, (80, 160), thumbnail_of(grey))
    assert group_twins([shot("a", 1), dark, wide]) == [[0, 1], [2]]


def test_flat_and_unreadable_shots_are_like_nothing() -> None:
    flat = [Shot(name, None, None, (8, 8), thumbnail_of(np.full((4, 4), 9.0))) for name in "ab"]
    assert group_twins([*flat, Shot("c", None, None, (1, 1), None)]) == [[0], [1], [2]]
    assert group_twins([]) == []


def test_the_order_of_shots_does_not_matter() -> None:
    shots = [shot(f"{at:02}", at % 7, at % 3, 250 * at) for at in range(20)]
    groups = {frozenset(shots[at].name for at in group) for group in group_twins(shots)}
    turned = shots[::-1]
    assert {frozenset(turned[at].name for at in group) for group in group_twins(turned)} == groups


@pytest.mark.data
def test_magnetic_tile_as_published(magnetic_root: Path) -> None:
    dataset = open_dataset(f"magnetic:{magnetic_root}")
    kinds = Counter(sample.name.split("/")[0] for sample in dataset.samples)
    assert kinds == {"Free": 952, "Blowhole": 115, "Uneven": 103, "Break": 85, "Crack": 57, "Fray": 32}
    unmasked = [sample.name for sample in dataset.samples if not sample.has_mask]
    assert len(unmasked) == 4
    assert all(name.startswith("Uneven/") for name in unmasked)
    sizes = [len(part) for part in parts(dataset)]
    assert 195 <= len(sizes) <= 215  # decoders differ by a grey level, and a pair or two lies at the limit
    assert min(sizes) >= 5
    assert max(sizes) <= 40
    split = split_by_part(dataset, 1337, 0.0, 0.3)
    part_of = {sample.name: sample.part for sample in dataset.samples}
    assert not {part_of[name] for name in split.train} & {part_of[name] for name in split.test}
    leaky = split_by_part(Dataset("x", open_dataset(f"magnetic:{magnetic_root},group=picture").samples), 1337, 0.0, 0.3)
    trained = {part_of[name] for name in leaky.train}
    assert sum(part_of[name] in trained for name in leaky.test) > 0.95 * len(leaky.test)
