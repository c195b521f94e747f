"""Users' own pictures: both layouts, which part a picture shows, and every way to lay them out wrongly."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.data.folder import folder_dataset
from segdec_edge.data.samples import Dataset
from segdec_edge.errors import DataError, MaskError


def save(path: Path, value: int = 0, defect: bool = False) -> Path:
    """A picture or mask of one value, with a white corner where it shows a defect."""
    pixels = np.full((8, 10), value, np.uint8)
    if defect:
        pixels[:2, :3] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def opened(root: Path) -> Dataset:
    return folder_dataset(f"folder:{root}", root)


def labels(root: Path) -> dict[str, bool]:
    return {sample.name: sample.positive for sample in opened(root).samples}


def parts(root: Path) -> dict[str, str]:
    return {sample.name: sample.part for sample in opened(root).samples}


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        opened(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_mask_that_marks_something_makes_a_defect(tmp_path: Path) -> None:
    save(tmp_path / "images" / "b.jpg", 90)
    save(tmp_path / "images" / "a.png", 90)
    save(tmp_path / "images" / "c.BMP", 90)
    save(tmp_path / "masks" / "b.png", defect=True)
    save(tmp_path / "masks" / "c.png")
    assert labels(tmp_path) == {"a": False, "b": True, "c": False}
    a, b, c = opened(tmp_path).samples
    assert (a.read_mask(), c.read_mask()) == (None, None)
    mask = b.read_mask()
    assert mask is not None
    assert (mask.shape, mask.dtype, int(mask.sum())) == ((8, 10), np.bool_, 6)
    assert [sample.has_mask for sample in (a, b, c)] == [True, True, True]
    np.testing.assert_array_equal(a.read(), np.full((8, 10), 90))


def test_no_masks_at_all_means_all_good(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    assert labels(tmp_path) == {"a": False}


def test_sorted_folders_say_what_is_defective(tmp_path: Path) -> None:
    for name in ("good/1", "defect/1", "defect/2", "defect/3"):
        save(tmp_path / f"{name}.png", 90)
    save(tmp_path / "masks" / "1.png", defect=True)
    save(tmp_path / "masks" / "3.png")
    samples = {sample.name: sample for sample in opened(tmp_path).samples}
    assert list(samples) == ["defect/1", "defect/2", "defect/3", "good/1"]
    assert [sample.positive for sample in samples.values()] == [True, True, True, False]
    assert [sample.has_mask for sample in samples.values()] == [True, False, True, True]
    marked, empty = samples["defect/1"].read_mask(), samples["defect/3"].read_mask()
    assert marked is not None and marked.any()
    assert empty is not None and not empty.any()  # the folder decides, the data check tells
    assert samples["defect/2"].read_mask() is None
    assert samples["good/1"].read_mask() is None


@pytest.mark.parametrize("kind", ["good", "defect"])
def test_one_sorted_folder_is_enough_to_look_at(tmp_path: Path, kind: str) -> None:
    save(tmp_path / kind / "1.png")
    assert labels(tmp_path) == {f"{kind}/1": kind == "defect"}


def test_a_sub_folder_is_one_part(tmp_path: Path) -> None:
    for name in ("lot1/left/1", "lot1/right", "lot2/1", "alone"):
        save(tmp_path / "images" / f"{name}.png")
    save(tmp_path / "masks" / "lot2" / "1.png", defect=True)
    assert parts(tmp_path) == {"alone": "alone", "lot1/left/1": "lot1", "lot1/right": "lot1", "lot2/1": "lot2"}
    assert labels(tmp_path)["lot2/1"]


def test_good_and_defective_views_of_a_sub_folder_are_one_part(tmp_path: Path) -> None:
    for name in ("good/part7/1", "defect/part7/2", "good/1", "defect/1"):
        save(tmp_path / f"{name}.png")
    save(tmp_path / "masks" / "part7" / "2.png", defect=True)
    assert parts(tmp_path) == {
        "good/part7/1": "part7",
        "defect/part7/2": "part7",
        "good/1": "good/1",
        "defect/1": "defect/1",
    }
    assert opened(tmp_path).samples[1].has_mask


def test_parts_csv_decides(tmp_path: Path) -> None:
    for name in ("lot1/1", "lot1/2", "3"):
        save(tmp_path / "images" / f"{name}.png")
    # As a spreadsheet writes it: byte order mark, CRLF; a suffix, spaces and empty lines do no harm.
    (tmp_path / "parts.csv").write_bytes(
        b"\xef\xbb\xbfname,part\r\nlot1/1.png,A\r\n lot1\\2 , B \r\n\r\n3,A\r\n3,A\r\n,\r\n"
    )
    assert parts(tmp_path) == {"lot1/1": "A", "lot1/2": "B", "3": "A"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,part\na,1\nb,2\nc,3\n", "1 names are no pictures, first c."),
        ("name,part\na,1\n", "1 pictures have no line, first b."),
        ("name,part\na,1\nb,2\na,3\n", "line 4: a is part 1 above and 3 here"),
        ("name,part\na,1\nb\n", "line 3: 'b', wanted a name and a part"),
        ("name,part\na,1\nb,\n", "line 3: 'b,', wanted a name and a part"),
        ("name;part\na;1\nb;2\n", "the first line is 'name;part', wanted 'name,part'"),
        ("a,1\nb,2\n", "the first line is 'a,1', wanted 'name,part'"),
        ("", "the first line is '', wanted 'name,part'"),
        ("name,part\na,Gr\xfcn\n", "Save it as CSV in UTF-8"),
    ],
)
def test_a_wrong_parts_csv_is_refused(tmp_path: Path, text: str, told: str) -> None:
    save(tmp_path / "images" / "a.png")
    save(tmp_path / "images" / "b.png")
    (tmp_path / "parts.csv").write_bytes(text.encode("latin-1"))
    message = refusal(tmp_path)
    assert message.startswith(str(tmp_path / "parts.csv"))
    assert told in message


def test_hidden_files_and_other_files_are_no_pictures(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    save(tmp_path / "images" / ".thumbnails" / "a.png")
    (tmp_path / "images" / "._a.png").write_bytes(b"left by a Mac")
    (tmp_path / "images" / "notes.txt").write_text("for the check to tell")
    assert labels(tmp_path) == {"a": False}


def test_an_unreadable_mask_opens_as_a_defect_and_is_refused_when_read(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes(b"no mask")
    (sample,) = opened(tmp_path).samples
    assert sample.positive
    with pytest.raises(MaskError, match=r"a\.png"):
        sample.read_mask()


def test_a_missing_folder_a_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "absent")
    (tmp_path / "file").write_bytes(b"")
    assert "no such folder" in refusal(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "it is empty, wanted images/ with masks/, or good/ and defect/" in refusal(tmp_path / "empty")


def test_pictures_without_a_layout_are_counted(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    assert "2 pictures, but no layout" in refusal(tmp_path)


@pytest.mark.parametrize("other", ["good", "defect"])
def test_both_layouts_are_refused(tmp_path: Path, other: str) -> None:
    save(tmp_path / "images" / "a.png")
    save(tmp_path / other / "b.png")
    assert f"both layouts are there (images/, {other}/)" in refusal(tmp_path)


@pytest.mark.parametrize("folders", [["images"], ["images", "masks"], ["good", "defect"]])
def test_a_layout_without_pictures_is_refused(tmp_path: Path, folders: list[str]) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir()
    assert "no pictures there" in refusal(tmp_path)


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_two_files_of_one_name_are_refused(tmp_path: Path, folder: str) -> None:
    save(tmp_path / "images" / "a.png")
    save(tmp_path / folder / "a.png")
    save(tmp_path / folder / "a.bmp")
    assert "a.png: a.bmp has the same name, wanted one file a name" in refusal(tmp_path)


def test_names_with_dots_spaces_and_accents_stay_apart(tmp_path: Path) -> None:
    for name in ("part.1", "part.2", "größe 3"):
        save(tmp_path / "images" / f"{name}.png")
    save(tmp_path / "masks" / "part.2.bmp", defect=True)
    assert labels(tmp_path) == {"part.1": False, "part.2": True, "größe 3": False}


def test_a_name_that_no_list_could_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / os.fsdecode(b"bad\xff.png")).write_bytes(b"")
    with pytest.raises(DataError, match=r"bad\\udcff.png': its name is no UTF-8"):
        folder_dataset("folder:x", tmp_path)


def test_an_unclosed_quote_in_the_parts_list_is_named_by_its_line(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    (tmp_path / "parts.csv").write_text('name,part\na,"1\n' + "b,2\n" * 60_000)
    with pytest.raises(DataError, match=r"parts\.csv, line 2: 'a,.1', wanted each quote closed") as caught:
        folder_dataset("folder:x", tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_linked_folders_and_files_are_followed(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "set", tmp_path / "elsewhere"
    save(elsewhere / "images" / "1.png")
    save(elsewhere / "masks" / "1.png", defect=True)
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
        (root / kind / "lot1").symlink_to(elsewhere / kind)
    save(root / "images" / "lot2" / "1.png")
    assert labels(root) == {"lot1/1": True, "lot2/1": False}


def test_links_in_a_circle_or_to_nothing_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "again").symlink_to(tmp_path / "images")
    assert "images/again: a link to a folder that it lies in" in refusal(tmp_path)
    (tmp_path / "images" / "again").unlink()
    (tmp_path / "images" / "b.png").symlink_to(tmp_path / "gone.png")
    assert f"images/b.png: a link to nothing. Remove it, or bring back {tmp_path / 'gone.png'}" in refusal(tmp_path)


def test_a_mask_that_fits_no_picture_is_refused(tmp_path: Path) -> None:
    """It would be a defect that counts as a good part."""
    save(tmp_path / "images" / "a.png")
    save(tmp_path / "masks" / "a_mask.png", defect=True)
    assert "masks/a_mask.png: a mask without a picture of that name" in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["images", "defect"])
def test_a_mask_in_a_format_that_is_not_read_is_refused(tmp_path: Path, kind: str) -> None:
    save(tmp_path / kind / "a.png")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "classes.txt").write_text("no mask, and of no picture")
    (tmp_path / "masks" / "a.gif").write_bytes(b"GIF89a")
    assert "masks/a.gif: the only mask of a, and no picture by its name" in refusal(tmp_path)
    save(tmp_path / "masks" / "a.png", defect=True)
    assert list(labels(tmp_path).values()) == [True]


def test_accents_of_a_mac_are_those_of_others(tmp_path: Path) -> None:
    for picture, mask in (("Pr\u00fcfteil", "Pru\u0308fteil"), ("e\u0301", "\u00e9")):
        save(tmp_path / "images" / f"{picture}.png")
        save(tmp_path / "masks" / f"{mask}.png", defect=True)
    assert labels(tmp_path) == {"Pr\u00fcfteil": True, "e\u0301": True}


def test_parts_csv_takes_names_that_end_like_files(tmp_path: Path) -> None:
    for name in ("scan.bmp", " blank "):
        save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "parts.csv").write_text("name,part\nscan.bmp,A\n blank ,B\n")
    assert parts(tmp_path) == {"scan.bmp": "A", " blank ": "B"}
