"""Published split files: lists of names, KolektorSDD's folds, the authors' pickles; overlaps and gaps are refused."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from segdec_edge.data.samples import Dataset, FileSample
from segdec_edge.data.splits import Split, choose_split, published_split
from segdec_edge.errors import DataError
from segdec_edge.files import sha256_of


def steel(count: int = 20) -> Dataset:
    """Pictures p00, p01, … of one part each, the even ones defective."""
    return Dataset(
        "severstal:/sets/steel",
        tuple(
            FileSample(
                f"p{at:02}", f"p{at:02}", at % 2 == 0, Path(f"p{at:02}.jpg"), Path("m.png") if at % 2 == 0 else None
            )
            for at in range(count)
        ),
    )


def pictures(first: int, end: int, suffix: str = "") -> list[str]:
    return [f"p{at:02}{suffix}" for at in range(first, end)]


def written(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content)) if path.suffix == ".pyb" else path.write_text(json.dumps(content))
    return path


def refusal(path: Path, content: Any, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        published_split(steel(), written(path, content), **{"fold": None, **options})
    assert "\n" not in str(caught.value)
    return str(caught.value)


SUBSETS = {"train": pictures(0, 12), "validation": pictures(12, 14, ".jpg"), "test": pictures(14, 20)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "splits.json"


def test_lists_of_names_are_read_with_or_without_suffix(file: Path) -> None:
    split = published_split(steel(), written(file, SUBSETS), None)
    assert split == Split(
        tuple(pictures(0, 12)), tuple(pictures(12, 14)), tuple(pictures(14, 20)), "published splits.json"
    )
    assert published_split(steel(), file, 0) == split


def test_a_splits_file_is_used_without_naming_a_fold(file: Path) -> None:
    split = choose_split(steel(), seed=0, validation=0, test=0.3, splits_file=written(file, SUBSETS))
    assert split.how == "published splits.json"


def test_items_keep_so_many_defective_pictures_nested_and_by_seed(file: Path) -> None:
    written(file, SUBSETS)
    sets = {items: set(published_split(steel(), file, 0, items, seed=7).train) for items in (1, 2, 4, 6)}
    good = {f"p{at:02}" for at in range(1, 12, 2)}
    for items, train in sets.items():
        assert len(train - good) == items
        assert train >= good
    assert sets[1] < sets[2] < sets[4] < sets[6] == set(pictures(0, 12))
    assert {frozenset(published_split(steel(), file, 0, 2, seed).train) for seed in range(8)} != {frozenset(sets[2])}
    assert published_split(steel(), file, 0, 2, seed=7).how == "published splits.json, 2 defective, seed 7"
    assert published_split(steel(), file, 0, 2).test == tuple(pictures(14, 20))


@pytest.mark.parametrize("items", [0, 7])
def test_more_items_than_there_are_is_refused(file: Path, items: int) -> None:
    assert f"items = {items}, wanted 1 to 6" in refusal(file, SUBSETS, items=items)


@pytest.mark.parametrize("pair", [("train", "test"), ("train", "validation"), ("validation", "test")])
def test_overlapping_subsets_are_refused(file: Path, pair: tuple[str, str]) -> None:
    content = {**SUBSETS, pair[1]: [*SUBSETS[pair[1]], SUBSETS[pair[0]][0]]}
    shared = SUBSETS[pair[0]][0].removesuffix(".jpg")
    assert f"{shared} is in {pair[0]} and in {pair[1]}" in refusal(file, content)


def test_a_part_in_two_subsets_is_refused_though_its_pictures_differ(file: Path) -> None:
    views = Dataset("folder:x", tuple(FileSample(f"lot/{at}", "lot", False, Path("x")) for at in range(2)))
    written(file, {"train": ["lot/0"], "test": ["lot/1"]})
    with pytest.raises(DataError, match="lot is in train and in test"):
        published_split(views, file, 0)


def test_entries_without_a_picture_are_refused(file: Path) -> None:
    content = {**SUBSETS, "test": [*SUBSETS["test"], "p99.jpg", "p98.jpg"]}
    assert "2 entries are no picture or part of severstal:/sets/steel, first p98.jpg" in refusal(file, content)


@pytest.mark.parametrize("fold", [1, -1])
def test_lists_hold_one_fold(file: Path, fold: int) -> None:
    assert f"no fold {fold}, wanted 0, it holds one split" in refusal(file, SUBSETS, fold=fold)


@pytest.mark.parametrize(
    "content",
    [{"train": ["p00"]}, {"train": [1], "test": []}, {"train": "p00", "test": []}, {"train": None, "test": []}],
)
def test_lists_that_are_none_are_refused(file: Path, content: Any) -> None:
    assert "not a readable splits file" in refusal(file, content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"train": [], "test": ["p00"]}, "its list of training pictures is empty, wanted at least one"),
        ({"train": {}, "test": []}, "no training set of any items, wanted a file with some"),
        ({"train": {"33": []}, "test": []}, "its list of folds is empty, wanted at least one fold"),
    ],
)
def test_empty_lists_are_refused_with_the_file(file: Path, content: Any, words: str) -> None:
    assert words in refusal(file, content)


FOLDS = {"train": {"33": [pictures(4, 20), pictures(0, 4)]}, "test": [pictures(0, 4), pictures(4, 20)]}


def test_folds_need_a_fold(file: Path) -> None:
    assert "no fold given, wanted 0 to 1. Set fold." in refusal(file, FOLDS)
    assert published_split(steel(), file, 1).train == tuple(pictures(0, 4))


def test_overlapping_folds_are_refused(file: Path) -> None:
    overlapping = {**FOLDS, "test": [pictures(0, 4), pictures(3, 20)]}
    assert "folds 0 and 1 test the same, 1 pictures, first p03" in refusal(file, overlapping, fold=0)


def test_folds_that_overlap_by_other_spellings_are_refused(file: Path) -> None:
    overlapping = {**FOLDS, "test": [pictures(0, 4), ["p03.jpg", *pictures(4, 20)]]}
    for fold in (0, 1):
        assert "folds 0 and 1 test the same, 1 pictures, first p03" in refusal(file, overlapping, fold=fold)


def test_a_byte_order_mark_and_backslashes_do_no_harm(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(SUBSETS).encode())
    plain = published_split(steel(), file, 0)
    file.write_text(json.dumps({**SUBSETS, "test": [f" {name}.jpg " for name in SUBSETS["test"]]}))
    assert published_split(steel(), file, 0).test == plain.test


def test_a_fold_that_trains_on_its_test_is_refused(file: Path) -> None:
    leaking = {**FOLDS, "train": {"33": [pictures(3, 20), pictures(0, 4)]}}
    assert "p03 is in train and in test" in refusal(file, leaking, fold=0)


def pairs(names: list[str], has_mask: bool = True) -> set[tuple[str, bool]]:
    return {(name, has_mask) for name in names}


def test_the_authors_pickles_are_read(tmp_path: Path) -> None:
    content = (pairs(pictures(0, 12, ".jpg")), pairs(pictures(14, 20)), pairs(pictures(12, 14)))
    split = published_split(steel(), written(tmp_path / "split_6_6.pyb", content), None)
    assert split == Split(
        tuple(pictures(0, 12)), tuple(pictures(12, 14)), tuple(pictures(14, 20)), "published split_6_6.pyb"
    )


def test_the_authors_pickles_of_folds_are_read(tmp_path: Path) -> None:
    folds = [list(pairs(pictures(0, 10))), list(pairs(pictures(10, 20)))]
    path = written(tmp_path / "split_33_33.pyb", (folds[::-1], folds))
    assert published_split(steel(), path, 1).test == tuple(pictures(10, 20))
    assert "items = 4 cannot be taken from it" in refusal(path, (folds[::-1], folds), fold=1, items=4)


@pytest.mark.parametrize("items", [33, 5, None])
def test_items_may_repeat_what_the_authors_file_holds(tmp_path: Path, items: int | None) -> None:
    folds = [list(pairs(pictures(0, 10))), list(pairs(pictures(10, 20)))]
    path = written(tmp_path / "split_33_33.pyb", (folds[::-1], folds))
    split = published_split(steel(), path, 0, items)
    assert (split.train, split.how) == (tuple(pictures(10, 20)), "published split_33_33.pyb, fold 0")


def in_folders(spec: str, train: list[str], test: list[str]) -> Dataset:
    """Pictures in two published folders, the even ones defective."""
    names = sorted([*train, *test])
    samples = tuple(FileSample(name, name, int(name[-4:]) % 2 == 0, Path(name)) for name in names)
    return Dataset(spec, samples, published_test=frozenset(test))


@pytest.mark.parametrize("kind", [str, int])
def test_the_authors_kolektor2_ids_are_found_in_either_folder(tmp_path: Path, kind: type) -> None:
    ids = {"train": range(10000, 10006), "test": range(20000, 20003)}
    steels = in_folders("kolektor2:x", *([f"{folder}/{one}" for one in numbers] for folder, numbers in ids.items()))
    content = tuple([(kind(one), True) for one in numbers] for numbers in ids.values())
    split = published_split(steels, written(tmp_path / "split_3.pyb", content), 0)
    assert split.train == tuple(f"train/{one}" for one in ids["train"])
    assert split.test == tuple(f"test/{one}" for one in ids["test"])
    assert len(published_split(steels, tmp_path / "split_3.pyb", None, 2).train) == 5
    missing = ([(kind(99999), True)], content[1])
    with pytest.raises(DataError, match="1 entries are no picture or part of kolektor2:x, first 99999"):
        published_split(steels, written(tmp_path / "split_4.pyb", missing), 0)


def dagm(number: int) -> Dataset:
    """Both folders count from 1, as every class's list does."""
    return in_folders(
        f"dagm:x,class={number}",
        [f"Class{number}/Train/{at:04}" for at in range(1, 7)],
        [f"Class{number}/Test/{at:04}" for at in range(1, 7)],
    )


def test_the_authors_dagm_file_holds_a_list_a_class(tmp_path: Path) -> None:
    train, test = [[[(f"{at:04}.PNG", True) for at in range(1, 7 - less - k)] for k in (0, 1)] for less in (0, 2)]
    path = written(tmp_path / "split_1000.pyb", (train, test))
    for number in (1, 2):
        split = published_split(dagm(number), path, 0)
        assert split.train == tuple(f"Class{number}/Train/{at:04}" for at in range(1, 8 - number))
        assert split.test == tuple(f"Class{number}/Test/{at:04}" for at in range(1, 6 - number))
        assert split.how == f"published split_1000.pyb, class {number}"
    assert published_split(dagm(2), path, None) == split
    with pytest.raises(DataError, match="no class 3, it holds lists of 2 classes"):
        published_split(dagm(3), path, 0)
    with pytest.raises(DataError, match="no fold 1, wanted 0"):
        published_split(dagm(1), path, 1)


def test_a_dagm_class_that_trains_on_its_test_is_refused(tmp_path: Path) -> None:
    both = [[("0001.PNG", True), ("Class1/Test/0002", True)]]
    path = written(tmp_path / "split_1000.pyb", (both, [[("0002.PNG", True)]]))
    with pytest.raises(DataError, match="Class1/Test/0002 is in train and in test"):
        published_split(dagm(1), path, 0)


def test_a_pickle_that_withholds_masks_names_them(tmp_path: Path) -> None:
    content = (pairs(pictures(0, 6)) | pairs(pictures(6, 12), False), pairs(pictures(14, 20), False), set())
    path = written(tmp_path / "split_6_3.pyb", content)
    split = published_split(steel(), path, None)
    assert split.withheld == ("p06", "p08", "p10")  # the good ones have no mask to withhold, the test is not trained on
    assert split.how == "published split_6_3.pyb, 3 defective without mask"
    assert Split.from_json(json.loads(json.dumps(split.to_json()))) == split
    fewer = published_split(steel(), path, None, 2, seed=1)
    assert set(fewer.withheld) == {*split.withheld} & {*fewer.train} != set()
    folds = [sorted(pairs(pictures(0, 10))), sorted(pairs(pictures(10, 20), False))]
    many = written(tmp_path / "split_33_0.pyb", (folds[::-1], folds))
    assert [len(published_split(steel(), many, fold).withheld) for fold in (0, 1)] == [5, 0]


def test_a_withheld_mask_of_no_picture_is_refused(tmp_path: Path) -> None:
    words = refusal(tmp_path / "split_6_3.pyb", (pairs(pictures(0, 6)) | {("q1", False)}, pairs(pictures(14, 20))))
    assert "1 entries are no picture or part of severstal:/sets/steel, first q1" in words


LONG = [(f"p{at:02}", True) for at in range(12)]


@pytest.mark.parametrize(
    "content",
    [
        {"train": LONG, "test": LONG},
        (pictures(0, 12), pictures(14, 20)),
        ([(*one, 3) for one in LONG], []),
        ([LONG, LONG], LONG),
        ([LONG, LONG], [LONG]),
        ([LONG, LONG], [LONG, LONG], [LONG]),
        ([("p00", None)], []),
        ([("p00", "False")], []),
        ([(True, True)], []),
    ],
)
def test_a_pickle_of_another_shape_is_refused(tmp_path: Path, content: Any) -> None:
    words = refusal(tmp_path / "split_33_33.pyb", content, fold=0)
    assert "(wanted (train, test) or (train, test, validation), each a list of (name, has mask), or as many" in words


def test_a_picture_with_and_without_mask_is_refused(tmp_path: Path) -> None:
    words = refusal(tmp_path / "split_33_33.pyb", ([*LONG, ("p03", False)], [("p14", True)]))
    assert "not a readable splits file (p03 stands there with and without mask)" in words
    doubled = published_split(steel(), written(tmp_path / "x.pyb", ([*LONG, ("p03", True)], [("p14", True)])), None)
    assert doubled.train == tuple(pictures(0, 12))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"train": {"33": [["p00"], ["p01"]]}, "test": [["p02"]]}, "1 folds to test on and 2 to train on"),
        (
            {"train": {"33": [["p00"]]}, "test": [["p02"]], "validation": [["p03"], ["p04"]]},
            "1 folds to test on and 1 to train on, wanted as many",
        ),
        ([1], "wanted train and test with lists of names"),
    ],
)
def test_lists_of_folds_that_do_not_match_are_refused(file: Path, content: Any, words: str) -> None:
    assert words in refusal(file, content, fold=0)


def test_the_one_number_of_a_pickles_name_is_that_of_masks(tmp_path: Path) -> None:
    path = written(tmp_path / "split_2.pyb", ([LONG[:6]], [[("p14", True)]]))
    with pytest.raises(DataError, match=r"of one size \(3 defective pictures\), so items = 2 cannot be taken from it"):
        published_split(steel(), path, 0, 2)


def test_a_splits_file_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path / "splits.json", SUBSETS)
    split = published_split(steel(), Path("~/splits.json"), None)
    assert split.file_sha256 == sha256_of(tmp_path / "splits.json")
    assert Split.from_json(split.to_json()).file_sha256 == split.file_sha256


def test_a_split_of_an_earlier_version_withholds_nothing() -> None:
    values = Split(("a",), (), ("b",), "x").to_json()
    for one in ({key: values[key] for key in ("train", "validation", "test", "how")}, values | {"withheld": None}):
        assert Split.from_json(one) == Split(("a",), (), ("b",), "x")


def test_deeply_nested_lists_are_refused(file: Path) -> None:
    file.write_text("[" * 200_000)
    with pytest.raises(DataError, match=r"not a readable splits file \(maximum recursion depth"):
        published_split(steel(), file, None)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["EVIL_FOLDER"],)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVIL_FOLDER", str(tmp_path / "ran"))
    assert "not a readable splits file (it holds" in refusal(tmp_path / "split.pyb", (Evil(), []))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data", [b"", b"cut", pickle.dumps(([("a", True)], []))[:-9], pickle.dumps(3), pickle.dumps((1,))]
)
def test_a_damaged_pickle_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "split.pyb").write_bytes(data)
    with pytest.raises(DataError, match=r"not a readable splits file.*to train --set 'splits="):
        published_split(steel(), tmp_path / "split.pyb", None)
