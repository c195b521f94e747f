"""Which picture an export means, however it names it: other machines, uploads, sub-folders, copies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.data.annotations.write import import_annotations
from segdec_edge.data.spec import open_dataset
from tests.data.annotated import imported, pictures, rectangle, write_json
from tests.data.exports import (
    BOX,
    coco,
    labelme_file,
    refusal,
    text,
)


@pytest.mark.parametrize("path", ["..\\images\\a.png", "../../pictures/line 3/a.png", "../a.png"])
def test_labelme_files_saved_apart_from_their_pictures_find_them(path: str, tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png", "sub/b.png")
    dent = {"label": "dent", "shape_type": "rectangle", "points": [[8, 5], [20, 12]]}
    write_json(tmp_path / "json" / "a.json", labelme_file(path, dent))
    masks, _ = imported("labelme", tmp_path / "json", images, tmp_path / "out")
    assert list(masks) == ["a"]
    assert np.array_equal(np.asarray(masks["a"]), rectangle(8, 5, 20, 12))


def test_labelme_files_of_sub_folders_climb_out_of_them(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png", "s1/a.png", "s2/a.png")
    for below, path in {"": "../images/a.png", "s1/": "../../images/s1/a.png", "s2/": "../../images/s2/a.png"}.items():
        write_json(tmp_path / "json" / f"{below}a.json", labelme_file(path))
    masks, _ = imported("labelme", tmp_path / "json", images, tmp_path / "out")
    assert list(masks) == ["a", "s1/a", "s2/a"]


def test_two_labelme_files_of_one_picture_are_both_named(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png")
    files = [write_json(tmp_path / "json" / name, labelme_file("a.png")) for name in ("a.json", "copy.json")]
    (line,) = refusal("labelme", tmp_path / "json", images, tmp_path / "out")
    assert line == f"{images / 'a.png'}: two entries of the export name it ({files[0]}, {files[1]}). Keep one."


def test_pictures_that_annotators_named_by_their_own_folders_are_found(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png", "b.png", "sub/c.png")
    for name, path in {"a": "C:\\Users\\ann\\a.png", "b": "b.png"}.items():
        write_json(tmp_path / "json" / f"{name}.json", labelme_file(path))
    assert list(imported("labelme", tmp_path / "json", images, tmp_path / "out")[0]) == ["a", "b"]
    write_json(tmp_path / "json" / "c.json", labelme_file("sub/c.png"))
    (line,) = refusal("labelme", tmp_path / "json", images, tmp_path / "mixed")
    assert "wanted one number for the whole export" in line


@pytest.mark.parametrize("name", ["/home/me/sets/line 3/in/cam1/a.png", "C:\\sets\\cam1\\a.png", "cam1/a.png"])
def test_leading_folders_of_another_machine_do_not_matter(name: str, tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "cam1/a.png", "cam2/a.png")
    masks, _ = imported(*coco(BOX, names=(name,))(tmp_path), images, tmp_path / "out")
    assert list(masks) == ["cam1/a"]


def test_names_that_begin_like_uploads_are_found_where_all_do(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png", "my part (1).png")
    names = ("images/0123abcd-a.png", "images/89abcdef-my_part_1.png")
    assert list(imported(*coco(BOX, names=names)(tmp_path), images, tmp_path / "out")[0]) == ["a", "my part (1)"]


@pytest.mark.parametrize(
    "name",
    [
        "../../label-studio/data/media/upload/1/0123abcd-a b.png",
        "..\\..\\upload\\1\\0123abcd-a_b.png",
        "/data/local-files/?d=set/a%20b.png",
        "data/local-files/?d=a b.png",
    ],
)
def test_paths_of_label_studio_in_coco_are_found(name: str, tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a b.png")
    assert list(imported(*coco(BOX, names=(name,))(tmp_path), images, tmp_path / "out")[0]) == ["a b"]


def test_altered_copies_of_one_picture_are_one_part(tmp_path: Path) -> None:
    names = [f"part_{number}_png.rf.{copy}.png" for number in (1, 2) for copy in ("0a", "1b")]
    images = pictures(tmp_path / "in", *names, "other.png")
    listed = [
        {"id": number, "file_name": name, "width": 32, "height": 24}
        for number, name in enumerate([*names, "other.png"], 1)
    ]
    for out, extra in (("named", {}), ("said", {"extra": {"name": "one.png"}})):
        place = coco(BOX, images=[image | (extra if image["id"] < 5 else {}) for image in listed])
        report = import_annotations(*place(tmp_path), images, tmp_path / out)
        counts = Counter(sample.part for sample in open_dataset(f"folder:{tmp_path / out}").samples)
        assert sorted(counts.values()) == ([1, 2, 2] if out == "named" else [1, 4])
        assert any("altered copies" in note for note in report.notes)


def test_pictures_of_a_cvat_project_lie_in_a_folder_a_subset(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "train/a.png", "val/a.png")
    shape = '<box label="scratch" xtl="8" ytl="5" xbr="20" ybr="12"/>'
    entries = [
        f'<image id="{number}" name="a.png" subset="{subset}" width="32" height="24">{content}</image>'
        for number, (subset, content) in enumerate({"train": "", "val": shape}.items())
    ]
    form, source = text("cvat", f"<annotations>{''.join(entries)}</annotations>")(tmp_path)
    masks, _ = imported(form, source, images, tmp_path / "out")
    assert {name: mask is not None for name, mask in masks.items()} == {"train/a": False, "val/a": True}


def test_a_missing_picture_of_another_kind_is_named_and_the_export_beside_it_is_not(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "b.png")
    write_json(images / "a.json", labelme_file("a.png"))
    (line,) = refusal("labelme", images / "a.json", images, tmp_path / "out")
    assert line.endswith("first a.png. Give their folder (--images).")
    (images / "a.jfif").write_bytes(b"a picture that is not read")
    (line,) = refusal("labelme", images / "a.json", images, tmp_path / "out")
    assert f"There is {images / 'a.jfif'}: rename it, or save it as one of" in line
