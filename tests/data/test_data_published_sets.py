"""DAGM, KolektorSDD2 and Severstal: small sets of exactly the published layout, and what can be wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segdec_edge.data.check import check_dataset
from segdec_edge.data.samples import Dataset
from segdec_edge.data.severstal import SIZE_HW, decode_runs
from segdec_edge.data.spec import open_dataset
from segdec_edge.data.splits import choose_split
from segdec_edge.errors import DataError, MaskError

Array = NDArray[Any]


def save(path: Path, pixels: Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def texture(seed: int, size_hw: tuple[int, int] = (64, 64), colour: bool = False) -> Array:
    shape = (*size_hw, 3) if colour else size_hw
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def blot(size_hw: tuple[int, int] = (64, 64), filled: bool = True) -> Array:
    mask = np.zeros(size_hw, np.uint8)
    if filled:
        cv2.ellipse(mask, (size_hw[1] // 2, size_hw[0] // 2), (12, 6), 30, 0, 360, 255, -1)
    return mask


def refusal(spec: str) -> str:
    with pytest.raises(DataError) as caught:
        open_dataset(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def checked(spec: str) -> tuple[Dataset, tuple[str, ...]]:
    dataset = open_dataset(spec)
    return dataset, check_dataset(dataset, dataset.root).findings


@pytest.fixture
def dagm(tmp_path: Path) -> Path:
    """Classes 1 and 10; in each subset four pictures, number 2 of them with a label, and the set's own list."""
    for number in (1, 10):
        for subset, first in (("Train", 1), ("Test", 5)):
            folder = tmp_path / f"Class{number}" / subset
            for index in range(first, first + 4):
                save(folder / f"{index:04}.PNG", texture(1000 * number + index))
            save(folder / "Label" / f"{first + 1:04}_label.PNG", blot())
            good, bad = f"{first}\t0\t{first:04}.PNG\t0\t0", f"2\t1\t0002.PNG\t0\t{first + 1:04}_label.PNG"
            (folder / "Label" / "Labels.txt").write_text(f"1\n{good}\n{bad}\n")
    return tmp_path


def test_a_dagm_class_is_read_with_its_ellipses_as_masks(dagm: Path) -> None:
    dataset, findings = checked(f"dagm:{dagm},class=1")
    assert [sample.name for sample in dataset.samples if sample.positive] == ["Class1/Test/0006", "Class1/Train/0002"]
    assert len(dataset.samples) == 8
    mask = dataset.named(("Class1/Train/0002",))[0].read_mask()
    assert mask is not None
    assert (mask == (blot() > 0)).all()
    assert dataset.root == dagm
    assert findings == ()


def test_the_folders_of_dagm_are_its_published_split(dagm: Path) -> None:
    dataset = open_dataset(f"dagm:{dagm},class=10")
    split = choose_split(dataset, seed=0, validation=0, test=0.5, fold=0)
    assert split.train == tuple(f"Class10/Train/000{number}" for number in (1, 2, 3, 4))
    assert split.test == tuple(f"Class10/Test/000{number}" for number in (5, 6, 7, 8))
    with pytest.raises(DataError, match="no fold 1, its folders are one published split"):
        choose_split(dataset, seed=0, validation=0, test=0.5, fold=1)
    assert choose_split(dataset, seed=0, validation=0, test=0.5).how.startswith("by part")


def test_a_splits_file_that_is_given_wins_over_the_folders(dagm: Path) -> None:
    file = dagm / "mine.json"
    file.write_text('{"train": ["Class1/Test/0005", "Class1/Test/0006"], "test": ["Class1/Train/0001"]}')
    dataset = open_dataset(f"dagm:{dagm},class=1")
    split = choose_split(dataset, seed=0, validation=0, test=0.5, fold=0, splits_file=file)
    assert (split.train, split.test) == (("Class1/Test/0005", "Class1/Test/0006"), ("Class1/Train/0001",))


@pytest.mark.parametrize("options", ["", ",class=0", ",class=11", ",class=one", ",class=²"])
def test_a_wrong_dagm_class_is_refused(dagm: Path, options: str) -> None:
    assert "wanted 1 to 10. Write dagm:PATH,class=1" in refusal(f"dagm:{dagm}{options}")


def test_a_dagm_class_that_is_not_there_is_refused(dagm: Path) -> None:
    assert "Class3: no such folder" in refusal(f"dagm:{dagm},class=3")


def test_dagm_without_its_labels_would_be_all_good_and_is_refused(dagm: Path) -> None:
    label = dagm / "Class1" / "Test" / "Label" / "0006_label.PNG"
    label.unlink()
    assert "Label: no labels of defects there" in refusal(f"dagm:{dagm},class=1")
    save(label.with_name("0005_label.PNG"), blot())
    assert "1 labels of Labels.txt are not there, first 0006_label" in refusal(f"dagm:{dagm},class=1")


def test_a_dagm_label_without_a_picture_is_refused(dagm: Path) -> None:
    (dagm / "Class1" / "Train" / "0002.PNG").unlink()
    assert "1 labels have no picture, first 0002_label.PNG" in refusal(f"dagm:{dagm},class=1")


def test_an_empty_dagm_folder_is_refused(dagm: Path) -> None:
    for path in (dagm / "Class1" / "Test").glob("*.PNG"):
        path.unlink()
    assert "Test: no pictures there" in refusal(f"dagm:{dagm},class=1")


@pytest.fixture
def kolektor2(tmp_path: Path) -> Path:
    """Five training pictures and three test ones, colour, 1 and 20001 defective."""
    for number in range(10000, 10005):
        save(tmp_path / "train" / f"{number}.png", texture(number, (62, 23), True))
        save(tmp_path / "train" / f"{number}_GT.png", blot((62, 23), number == 10001))
    for number in range(20000, 20003):
        save(tmp_path / "test" / f"{number}.png", texture(number, (62, 23), True))
        save(tmp_path / "test" / f"{number}_GT.png", blot((62, 23), number == 20001))
    return tmp_path


def test_kolektor2_is_read_with_its_published_split(kolektor2: Path) -> None:
    dataset, findings = checked(f"kolektor2:{kolektor2}")
    assert [sample.name for sample in dataset.samples if sample.positive] == ["test/20001", "train/10001"]
    assert findings == ()
    split = choose_split(dataset, seed=0, validation=0, test=0.3, fold=0)
    assert (len(split.train), split.validation, len(split.test)) == (5, (), 3)


def test_kolektor2_gaps_are_refused(kolektor2: Path) -> None:
    (kolektor2 / "train" / "10003_GT.png").unlink()
    assert "train: 1 pictures have no mask, first 10003" in refusal(f"kolektor2:{kolektor2}")
    (kolektor2 / "train" / "10003.png").unlink()
    (kolektor2 / "train" / "10002.png").unlink()
    assert "train: 1 masks have no picture, first 10002" in refusal(f"kolektor2:{kolektor2}")


def test_kolektor2_without_its_test_folder_is_refused(kolektor2: Path, tmp_path: Path) -> None:
    (kolektor2 / "test").rename(tmp_path / "elsewhere")
    assert "test: no pictures there" in refusal(f"kolektor2:{kolektor2}")


def test_an_unreadable_kolektor2_mask_is_a_finding(kolektor2: Path) -> None:
    (kolektor2 / "train" / "10001_GT.png").write_bytes(b"no picture")
    _, findings = checked(f"kolektor2:{kolektor2}")
    assert len(findings) == 1
    assert "10001_GT.png: not a readable picture" in findings[0]


@pytest.fixture
def kolektor(tmp_path: Path) -> Path:
    """Two items of two pictures; Part0 defective."""
    for part in ("kos01", "kos02"):
        for number in (0, 1):
            save(tmp_path / part / f"Part{number}.jpg", texture(number))
            save(tmp_path / part / f"Part{number}_label.bmp", blot(filled=number == 0))
    return tmp_path


def test_kolektor_gaps_are_refused(kolektor: Path) -> None:
    (kolektor / "kos02" / "Part0.jpg").unlink()
    assert "1 masks have no picture, first kos02/Part0." in refusal(f"kolektor:{kolektor}")
    (kolektor / "kos01" / "Part1_label.bmp").unlink()
    assert "1 pictures have no mask, first kos01/Part1." in refusal(f"kolektor:{kolektor}")


def test_kolektor_suffixes_count_in_either_case(kolektor: Path) -> None:
    before = [(sample.name, sample.part, sample.positive) for sample in open_dataset(f"kolektor:{kolektor}").samples]
    assert before[0] == ("kos01/Part0", "kos01", True)
    (kolektor / "kos01" / "Part0.jpg").rename(kolektor / "kos01" / "Part0.JPG")
    (kolektor / "kos02" / "Part1_label.bmp").rename(kolektor / "kos02" / "Part1_label.BMP")
    dataset, findings = checked(f"kolektor:{kolektor}")
    assert [(sample.name, sample.part, sample.positive) for sample in dataset.samples] == before
    assert not [finding for finding in findings if "duplicates" not in finding]


CSV = "ImageId,ClassId,EncodedPixels\n"


@pytest.fixture
def severstal(tmp_path: Path) -> Path:
    """Defect-free a and b; c and d with class 3; e with classes 3 and 1, f with class 4."""
    for number, stem in enumerate("abcdef"):
        save(tmp_path / "train_images" / f"{stem}.jpg", texture(number, SIZE_HW, True))
    (tmp_path / "train.csv").write_text(
        f"{CSV}c.jpg,3,1 2 257 1\nd.jpg,3,409600 1\ne.jpg,3,5 5\ne.jpg,1,1 3\nf.jpg,4,1 1\n"
    )
    return tmp_path


def names(dataset: Dataset, positive: bool) -> list[str]:
    return [sample.name for sample in dataset.samples if sample.positive == positive]


def test_severstal_keeps_class_3_and_defect_free_pictures(severstal: Path) -> None:
    dataset, findings = checked(f"severstal:{severstal}")
    assert (names(dataset, False), names(dataset, True)) == (["a", "b"], ["c", "d"])
    assert dataset.notes == ("2 pictures with a defect of another class than 3 are left out, as in the paper",)
    assert findings == ()


def test_severstal_pictures_in_folders_below_are_not_taken(severstal: Path) -> None:
    before = open_dataset(f"severstal:{severstal}")
    save(severstal / "train_images" / "copies" / "c.jpg", texture(9, SIZE_HW, True))
    assert open_dataset(f"severstal:{severstal}") == before


def test_run_lengths_count_from_one_down_the_columns(severstal: Path) -> None:
    first, last = (sample.read_mask() for sample in open_dataset(f"severstal:{severstal}").named(("c", "d")))
    assert first is not None
    assert last is not None
    assert first.shape == last.shape == SIZE_HW
    assert {(int(row), int(column)) for row, column in np.argwhere(first)} == {(0, 0), (1, 0), (0, 1)}
    assert np.argwhere(last).tolist() == [[255, 1599]]


def test_the_older_form_of_train_csv_means_the_same(severstal: Path) -> None:
    rows = {"c": {3: "1 2 257 1"}, "d": {3: "409600 1"}, "e": {3: "5 5", 1: "1 3"}, "f": {4: "1 1"}}
    lines = [f"{stem}.jpg_{kind},{rows.get(stem, {}).get(kind, '')}" for stem in "abcdef" for kind in (1, 2, 3, 4)]
    before = open_dataset(f"severstal:{severstal}")
    (severstal / "train.csv").write_text("\n".join(["ImageId_ClassId,EncodedPixels", *lines]) + "\n")
    assert open_dataset(f"severstal:{severstal}") == before


def test_the_older_form_cut_short_is_refused(severstal: Path) -> None:
    """Its last pictures would count as free of defects."""
    names = sorted(path.name for path in (severstal / "train_images").iterdir() if path.is_file())
    lines = [f"{name}_{kind}," for name in names for kind in "1234"]
    whole = "\n".join(["ImageId_ClassId,EncodedPixels", *lines]) + "\n"
    (severstal / "train.csv").write_text(whole)
    assert len(open_dataset(f"severstal:{severstal}").samples) == len(names)
    for cut, missing in ((2, 1), (4, 1), (5, 2)):
        (severstal / "train.csv").write_text("\n".join(whole.splitlines()[:-cut]) + "\n")
        told = refusal(f"severstal:{severstal}")
        assert f"{missing} pictures have fewer lines than the 4 of this form, one a class, first" in told


def test_severstal_holds_no_pictures(severstal: Path) -> None:
    dataset = open_dataset(f"severstal:{severstal}")
    assert {field for sample in dataset.samples for field in vars(sample)} == {"name", "path", "runs"}


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ("1 2 3", "3 run lengths, wanted pairs"),
        ("1 two", "run length 'two', wanted whole numbers from 1"),
        ("0 3", "run length '0'"),
        ("-1 3", "run length '-1'"),
        ("1 0", "run length '0'"),
        ("1.5 3", "run length '1.5'"),
        ("99999999999999999999 3", "run length '99999999999999999999'"),
        ("409600 2", "a run ends at pixel 409601, the picture has 409600"),
        ("1 5 409599 999 7 2", "a run ends at pixel 410597"),
        ("10 5 1 10", "runs overlap at pixel 10"),
        ("5 1 5 1", "runs overlap at pixel 5"),
    ],
)
def test_broken_run_lengths_are_refused_and_a_finding(severstal: Path, runs: str, words: str) -> None:
    with pytest.raises(MaskError, match=words) as caught:
        decode_runs(runs, SIZE_HW, "c")
    assert "\n" not in str(caught.value)
    (severstal / "train.csv").write_text(f"{CSV}c.jpg,3,{runs}\n")
    _, findings = checked(f"severstal:{severstal}")
    assert findings == (str(caught.value),)


def test_runs_in_any_order_that_touch_are_fine() -> None:
    assert decode_runs("4 2 1 3", (3, 2), "x").tolist() == [[True, True], [True, True], [True, False]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the first line is ''"),
        ("name,part\na,b\n", "the first line is 'name,part'"),
        (f"{CSV}c.jpg,5,1 2\n", "line 2: class '5', wanted 1, 2, 3, 4"),
        (f"{CSV}c.jpg,,1 2\n", "line 2: class ''"),
        (f"{CSV}c.jpg,3\n", ", wanted 3 columns as in the first line"),
        (f"{CSV}c.jpg,3,1 2,4\n", ", wanted 3 columns as in the first line"),
        (f"{CSV}z.jpg,3,1 2\n", "1 ids have no picture, first z.jpg"),
        (f"{CSV}c.jpg,3,1 2\nc.jpg,3,9 2\n", "line 3: c.jpg has class 3 above already"),
        ("ImageId_ClassId,EncodedPixels\nc.jpg,1 2\n", "line 2: class 'c.jpg'"),
    ],
)
def test_a_train_csv_that_does_not_fit_is_refused(severstal: Path, content: str, words: str) -> None:
    (severstal / "train.csv").write_text(content)
    assert words in refusal(f"severstal:{severstal}")


@pytest.mark.parametrize("rows", [1, 3, 20_000])
def test_an_unclosed_quote_in_train_csv_is_named_by_its_line(severstal: Path, rows: int) -> None:
    rest = "".join(f"{row:05}.jpg,3,1 3\n" for row in range(rows - 1))
    (severstal / "train.csv").write_text(f'{CSV}c.jpg,3,1 2\nd.jpg,3,"1 3\n{rest}')
    words = refusal(f"severstal:{severstal}")
    assert "train.csv, line 3: 'd.jpg,3,\"1 3', wanted each quote closed on its line" in words
    assert len(words) < 400


def test_severstal_without_its_files_is_refused(severstal: Path, tmp_path: Path) -> None:
    (severstal / "train.csv").unlink()
    assert "train.csv: cannot be read" in refusal(f"severstal:{severstal}")
    assert "train_images: no pictures there" in refusal(f"severstal:{tmp_path / 'empty'}")


def test_options_after_the_path_are_refused_by_name() -> None:
    assert "unknown key 'clas', wanted class" in refusal("dagm:/sets/DAGM,clas=1")
    assert "unknown key 'class', wanted no key, only a path" in refusal("kolektor:/sets,class=1")
    assert "a key stands there twice" in refusal("dagm:/sets,class=1,class=2")


def test_a_comma_in_a_path_stays_in_it(tmp_path: Path) -> None:
    save(tmp_path / "a,b" / "good" / "1.png", texture(1))
    assert open_dataset(f"folder:{tmp_path}/a,b").root == tmp_path / "a,b"
