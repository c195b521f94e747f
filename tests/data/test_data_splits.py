from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.data.kolektor import kolektor_dataset
from segdec_edge.data.samples import Dataset
from segdec_edge.data.spec import open_dataset, parse_size
from segdec_edge.data.splits import Split, choose_split, published_split, split_by_part
from segdec_edge.errors import DataError


@dataclass(frozen=True)
class FakeSample:
    name: str
    part: str
    positive: bool
    has_mask: bool = True
    path: Path | None = None
    pixels: np.ndarray = field(default_factory=lambda: np.zeros((8, 8), np.uint8))

    def read(self) -> np.ndarray:
        return self.pixels

    def read_mask(self) -> None:
        return None


def dataset_of(parts: int, views: int = 3, every: int = 4) -> Dataset:
    samples = tuple(
        FakeSample(f"part{part:03d}/view{view}", f"part{part:03d}", part % every == 0)
        for part in range(parts)
        for view in range(views)
    )
    return Dataset("fake:", samples)


def parts_of(names: tuple[str, ...]) -> set[str]:
    return {name.split("/")[0] for name in names}


def test_a_split_never_divides_a_part_and_uses_every_picture_once() -> None:
    dataset = dataset_of(40)
    split = split_by_part(dataset, seed=3, validation=0.2, test=0.3)
    subsets = [split.train, split.validation, split.test]
    assert sorted(name for subset in subsets for name in subset) == [sample.name for sample in dataset.samples]
    assert not parts_of(split.train) & parts_of(split.test)
    assert not parts_of(split.train) & parts_of(split.validation)
    assert not parts_of(split.validation) & parts_of(split.test)


def test_defective_parts_are_shared_out_in_proportion() -> None:
    split = split_by_part(dataset_of(40), seed=3, validation=0.2, test=0.3)
    defective = {f"part{part:03d}" for part in range(0, 40, 4)}
    assert len(parts_of(split.test) & defective) == 3
    assert len(parts_of(split.validation) & defective) == 2
    assert len(parts_of(split.test)) == 12


def test_items_keep_so_many_defective_training_pictures_without_a_published_split_too() -> None:
    dataset = dataset_of(40)
    whole = choose_split(dataset, seed=3, validation=0.2, test=0.3)
    split = choose_split(dataset, seed=3, validation=0.2, test=0.3, items=4)
    positive = {sample.name for sample in dataset.samples if sample.positive}
    assert len(positive & {*split.train}) == 4
    assert {*split.train} - positive == {*whole.train} - positive
    assert (split.validation, split.test) == (whole.validation, whole.test)
    assert split.how == f"{whole.how}, 4 defective, seed 3"
    with pytest.raises(DataError, match=r"items = 99, wanted 1 to 15, .* \(in a table choose other --rows\)"):
        choose_split(dataset, seed=3, validation=0.2, test=0.3, items=99)


def test_the_same_seed_gives_the_same_split_in_any_order_of_pictures() -> None:
    dataset = dataset_of(30)
    turned = Dataset("fake:", tuple(reversed(dataset.samples)))
    first, second = (split_by_part(one, 5, 0.1, 0.3) for one in (dataset, turned))
    assert set(first.test) == set(second.test)
    assert set(first.train) == set(second.train)
    assert set(split_by_part(dataset, 6, 0.1, 0.3).test) != set(first.test)


def test_a_small_share_still_holds_out_one_part_of_each_kind() -> None:
    split = split_by_part(dataset_of(12), seed=0, validation=0.0, test=0.05)
    assert len(parts_of(split.test)) == 2


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (-0.1, 0.2), (0.0, 1.0)])
def test_shares_that_leave_nothing_are_refused(validation: float, test: float) -> None:
    with pytest.raises(DataError, match="below 1"):
        split_by_part(dataset_of(8), 0, validation, test)


def test_a_split_survives_json() -> None:
    split = split_by_part(dataset_of(9), 1, 0.2, 0.3)
    assert Split.from_json(json.loads(json.dumps(split.to_json()))) == split
    with pytest.raises(DataError, match="not a split"):
        Split.from_json({"train": []})
    with pytest.raises(DataError, match="subset"):
        split.subset("tset")


@pytest.fixture
def published(tmp_path: Path) -> Path:
    content = {
        "train": {"33": [["part000", "part001"], ["part002"]], "5": [["part000"], ["part002"]]},
        "test": [["part002", "part003"], ["part000"]],
    }
    file = tmp_path / "splits.json"
    file.write_text(json.dumps(content))
    return file


def test_a_published_fold_is_read_as_it_stands(published: Path) -> None:
    split = published_split(dataset_of(4), published, fold=0)
    assert parts_of(split.train) == {"part000", "part001"}
    assert parts_of(split.test) == {"part002", "part003"}
    assert split.validation == ()
    assert parts_of(published_split(dataset_of(4), published, fold=0, items=5).train) == {"part000"}


@pytest.mark.parametrize(
    ("fold", "items", "words"), [(2, 33, "no fold 2"), (-1, 33, "no fold"), (0, 7, "no training set of 7")]
)
def test_an_unknown_fold_is_refused(published: Path, fold: int, items: int, words: str) -> None:
    with pytest.raises(DataError, match=words):
        published_split(dataset_of(4), published, fold, items)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"train": 3}'])
def test_an_unreadable_splits_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(DataError, match="not a readable splits file"):
        published_split(dataset_of(4), tmp_path / "splits.json", 0)


def test_a_generated_data_set_has_no_published_fold() -> None:
    with pytest.raises(DataError, match="generated"):
        choose_split(open_dataset("synthetic:n=4"), seed=0, validation=0, test=0.3, fold=0)


@pytest.mark.data
def test_kolektor_as_published(kolektor_root: Path) -> None:
    dataset = kolektor_dataset(f"kolektor:{kolektor_root}", kolektor_root)
    assert len(dataset.samples) == 399
    assert sum(sample.positive for sample in dataset.samples) == 52
    assert len({sample.part for sample in dataset.samples}) == 50
    positive = next(sample for sample in dataset.samples if sample.positive)
    mask, picture = positive.read_mask(), positive.read()
    assert mask is not None
    assert mask.shape == picture.shape
    assert 0 < mask.mean() < 0.2


@pytest.mark.data
def test_kolektor_folds_are_as_large_as_published_and_share_no_item(kolektor_root: Path) -> None:
    dataset = open_dataset(f"kolektor:{kolektor_root}")
    sizes = []
    for fold in range(3):
        split = choose_split(dataset, seed=0, validation=0, test=0, fold=fold)
        assert not parts_of(split.train) & parts_of(split.test)
        sizes.append((len(split.train), len(split.test)))
    assert sizes[0] == (264, 135)
    assert sum(test for _, test in sizes) == 399


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("kolektor", "names no data set"),
        ("kolektor:", "names no data set"),
        ("kolektro:/tmp", "names no data set"),
        ("", "names no data set"),
        ("kolektor:/nowhere", "no such folder"),
        ("synthetic:m=3", "unknown key"),
        ("synthetic:n=many", "wanted numbers"),
        ("synthetic:n=0", "n from 1 to 1000000"),
        ("synthetic:size=big", "HEIGHTxWIDTH"),
    ],
)
def test_a_wrong_spec_says_what_is_wanted(spec: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_dataset(spec)


def test_an_empty_kolektor_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="layout"):
        open_dataset(f"kolektor:{tmp_path}")


def test_a_size_is_written_height_first() -> None:
    assert parse_size("704x256") == (704, 256)


def test_two_pictures_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="two pictures are named a"):
        Dataset("fake:", (FakeSample("a", "a", True), FakeSample("a", "b", False)))
