"""The data set that an import writes, whole or not at all, and what is refused, one line each."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.data.annotations.write import Choice, import_annotations
from segdec_edge.data.check import check_dataset
from segdec_edge.data.spec import open_dataset
from tests.data.annotated import imported, pictures, rectangle
from tests.data.exports import (
    BOX,
    CVAT,
    Place,
    coco,
    cvat,
    cvat_masks,
    labelme,
    png_masks,
    rectangle_result,
    refusal,
    studio,
    task,
    text,
)

BILLION = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]><annotations>&c;</annotations>'
OUTSIDE = {"image_id": 1, "segmentation": [[40, 5, 46, 5, 46, 9]]}
RUNS = {"image_id": 1, "segmentation": {"counts": [8, 9], "size": [24, 32]}}


PNG_MASK = base64.b64encode(cv2.imencode(".png", np.full((6, 8), 255, np.uint8))[1].tobytes()).decode()

MISTAKES: dict[str, tuple[Place, str]] = {
    "outside": (coco(OUTSIDE), "a.png: annotation 1: x 40 to 46, y 5 to 9 is outside"),
    "two points": (coco({"image_id": 1, "segmentation": [[4, 5, 6, 7]]}), "polygon of 2 points"),
    "odd numbers": (coco({"image_id": 1, "segmentation": [[4, 5, 6]]}), "polygon of 3 numbers"),
    "broken runs": (coco(RUNS), "annotation 1: run lengths sum to 17, wanted 768"),
    "short bbox": (coco(BOX | {"bbox": [1, 2, 3]}), "bbox [1.0, 2.0, 3.0], wanted x, y, width"),
    "negative bbox": (coco(BOX | {"bbox": [1, 2, -3, 4]}), "annotation 1: bbox [1.0, 2.0, -3.0"),
    "no shape": (coco({"image_id": 1}), "neither segmentation nor bbox"),
    "image id": (coco(BOX, BOX | {"image_id": 9}), "unknown image_id, first annotation 2 with 9"),
    "category id": (coco(BOX | {"category_id": 7}), "unknown category_id, first annotation 1 with 7"),
    "gone": (coco(BOX, names=("a.png", "no.png", "nor.png")), "2 pictures of the export are not in"),
    "twice": (coco(BOX, names=("x/a.png", "y/a.png")), "two entries of the export name it"),
    "mixed": (coco(BOX, names=("top/b.png", "bottom/a.png")), "bottom/a.png with 1, wanted one number for the whole"),
    "suffix": (coco(BOX, names=("same.png", "same.jpg")), "same.png has the same name"),
    "climbs": (coco(BOX, names=("x/../in/a.png",)), "'x/../in/a.png', wanted a path that stays below"),
    "line break": (coco(BOX, names=("a\n.png",)), "'a\\n.png', wanted a name without control characters"),
    "labelme, NUL": (labelme(name="a\0.png"), "wanted a name without control characters"),
    "climbs, Windows": (coco(BOX, names=("x\\..\\in\\a.png",)), "wanted a path that stays below"),
    "case": (coco(BOX, names=("A.png",)), "There is "),
    "half an upload": (
        coco(BOX, names=("20240101-a.png", "same.jpg")),
        "20240101-a.png is in ",
    ),
    "turned by words": (
        coco(BOX | {"attributes": {"rotation": "left"}}),
        "its box is turned by 'left', wanted degrees",
    ),
    "empty": (coco(names=()), "lists no picture"),
    "size": (
        coco(BOX, images=[{"id": 1, "file_name": "a.png", "width": 24, "height": 32}]),
        "a.png: 32 × 24 (width × height), but 24 × 32",
    ),
    "image id twice": (
        coco(BOX, images=[{"id": 1, "file_name": "a.png", "width": 32, "height": 24}] * 2),
        "two pictures have the id 1",
    ),
    "category id twice": (
        coco(BOX, categories=[{"id": 1, "name": "scratch"}, {"id": 1, "name": "dirt"}]),
        "two categories have the id 1",
    ),
    "unreadable": (coco(names=("broken.png",)), "broken.png: not a readable picture"),
    "exif": (
        coco(names=("turned.jpg",), images=[{"id": 1, "file_name": "turned.jpg", "width": 32, "height": 24}]),
        "its EXIF data turns it",
    ),
    "coco, other JSON": (text("coco", "[1, 2]"), "export.xml: no COCO export"),
    "coco, cut": (text("coco", '{"images": ['), "export.xml: no COCO export"),
    "zip": (text("coco", b"PK\x03\x04rest"), "is a zip archive"),
    "labelme, other JSON": (text("labelme", '{"images": []}'), "no LabelMe file"),
    "line": (labelme({"shape_type": "line", "points": [[1, 1], [5, 5]]}), "a line marks no region"),
    "circle": (labelme({"shape_type": "circle", "points": [[1, 1]]}), "circle of 1 points"),
    "mask's points": (
        labelme({"shape_type": "mask", "points": [[3, 4], [20, 20]], "mask": PNG_MASK}),
        "its mask is 8 × 6 (width × height), its points span 18 × 17",
    ),
    "dot": (labelme({"shape_type": "polygon", "points": [[1, 1]]}), "shape 1 (scratch): polygon of 1"),
    "base64": (labelme({"shape_type": "mask", "points": [[1, 1], [2, 2]], "mask": "?"}), "no base64"),
    "labelme, climbs": (labelme(name="../x/../../a.png"), "wanted a path that stays below"),
    "labelme, size": (labelme(imageHeight=25), "a.png: 32 × 24 (width × height), but 32 × 25"),
    "labelme, empty folder": (lambda folder: ("labelme", folder / "none"), "no JSON files there"),
    "cvat, no XML": (text("cvat", "{}"), "export.xml: no CVAT export"),
    "cvat, other XML": (text("cvat", "<html/>"), "is <html>, wanted CVAT export"),
    "cvat, video": (text("cvat", "<annotations><track id='0'/></annotations>"), "is CVAT for video"),
    "cvat, empty": (text("cvat", "<annotations/>"), "lists no picture"),
    "cvat, entities": (text("cvat", BILLION), "declares the document type a"),
    "cvat, polyline": (cvat('<polyline label="a" points="1,1;2,2"/>'), "a polyline marks no region"),
    "cvat, pairs": (cvat('<polygon label="a" points="1,1;2"/>'), "hold '2', wanted x,y pairs"),
    "cvat, two points": (cvat('<polygon label="a" points="1,1;2,2;"/>'), "polygon of 2 points"),
    "cvat, x": (cvat('<box label="a" xtl="1" ytl="1" xbr="x" ybr="4"/>'), "xbr is 'x', wanted a number"),
    "cvat, missing": (cvat('<box label="a" xtl="1" ytl="1" xbr="5"/>'), "box 1 (a): ybr is missing"),
    "cvat, infinite": (
        cvat('<box label="a" xtl="1" ytl="1" xbr="5" ybr="4" rotation="inf"/>'),
        "rotation is 'inf', wanted a number",
    ),
    "cvat, shape of a later version": (cvat('<blob label="a"/>'), "a blob marks no region"),
    "cvat, encoding": (text("cvat", '<?xml version="1.0" encoding="foo"?><annotations/>'), "unknown encoding: foo"),
    "cvat, order": (cvat('<box label="a" xtl="9" ytl="1" xbr="5" ybr="4"/>'), "xbr, ybr lies before"),
    "cvat, runs": (
        cvat('<mask label="a" rle="1,1" left="0" top="0" width="2" height="2"/>'),
        "mask 1 (a): run lengths sum to 2, wanted 4",
    ),
    "cvat, climbs": (cvat("", name="/etc/../a.png"), "wanted a path that stays below"),
    "masks, colour": (cvat_masks(value=5), "colour 5 is no class in labelmap.txt"),
    "masks, unlisted": (cvat_masks(names="same\n"), "1 masks are not in ImageSets"),
    "masks, two suffixes": (cvat_masks(names="a\nsame\n"), "same: 2 pictures have this name"),
    "masks, climbs": (cvat_masks(names="../a\n"), "wanted a path that stays below"),
    "masks, labelmap": (cvat_masks(labels="scratch\n"), "'scratch', wanted label:red,green,blue"),
    "masks, one colour": (
        cvat_masks(labels="scratch:9,8,7::\nok:9,8,7::\n"),
        "the colour 9,8,7 stands for scratch and for ok",
    ),
    "masks, black": (cvat_masks(labels="scratch:0,0,0::\n"), "the colour 0,0,0 stands for background and for scratch"),
    "masks, empty": (lambda folder: ("cvat", folder / "none"), "no CVAT export Segmentation mask 1.1"),
    "studio, empty": (studio(), "lists no picture"),
    "studio, nothing done": (studio(task(1, "a.png", None)), "no annotated picture in it"),
    "studio, JSON-MIN": (studio({"id": 1, "image": "a.png", "label": []}), "(JSON, not JSON-MIN)"),
    "studio, no picture": (studio(task(1, "text")), "task 1: 0 pictures in its data"),
    "studio, address": (studio(task(1, "http://[bad/a.png")), "task 1: an address in its data is broken"),
    "studio, climbs": (studio(task(1, "/data/../a.png")), "wanted a path that stays below"),
    "studio, outside": (
        studio(task(1, "a.png", rectangle_result(40, 1, 5, 5))),
        "a.png: rectangle r0: x 40 to 45, y 1 to 6 is outside",
    ),
    "studio, vector": (
        studio(
            task(1, "a.png", {**rectangle_result(1, 1, 5, 5), "type": "vectorlabels", "value": {"points": [{"x": 1}]}})
        ),
        "a vector marks no region here",
    ),
    "studio, turned": (
        studio(task(1, "a.png", rectangle_result(1, 1, 5, 5) | {"image_rotation": 90})),
        "on a turned picture",
    ),
    "studio, size": (studio(task(1, "a.png", rectangle_result(1, 1, 5, 5) | {"original_width": 33})), "but 33 × 24"),
    "studio, brush": (studio(task(1, "a.png", {"type": "brushlabels", "value": {"rle": [999]}})), "value is no brush"),
    "studio, keypoint": (
        studio(task(1, "a.png", {"type": "keypointlabels", "value": {"x": 1, "y": 1}})),
        "a keypoint marks no region",
    ),
    "png, other task": (png_masks("task-8-annotation-9-by-me-tag-a-0.png"), "masks of task 8"),
    "png, name": (png_masks("task-mine.png"), "as Label Studio names masks"),
    "format": (text("yolo", ""), "format 'yolo', wanted coco, labelme, cvat, labelstudio"),
    "no source": (lambda folder: ("coco", folder / "no.json"), "no such file or folder"),
    "folder for file": (lambda folder: ("coco", folder), "is a folder, wanted a file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_bad_input_is_one_line_and_nothing_is_written(mistake: str, tmp_path: Path) -> None:
    place, words = MISTAKES[mistake]
    images = pictures(tmp_path / "in", "a.png", "same.png", "same.jpg", "turned.jpg")
    pictures(images, "top/b.png")
    (images / "broken.png").write_bytes(b"not a picture")
    upright = (images / "turned.jpg").read_bytes()
    exif = b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"
    (images / "turned.jpg").write_bytes(upright[:2] + exif + upright[2:])
    (tmp_path / "none").mkdir()
    lines = refusal(*place(tmp_path), images, tmp_path / "out")
    assert words in lines[0]
    assert len(lines) == 1


def test_every_broken_picture_is_told_at_once_up_to_twenty(tmp_path: Path) -> None:
    names = tuple(f"{number:02}.png" for number in range(30))
    images = pictures(tmp_path / "in", *names)
    outside = [OUTSIDE | {"image_id": number} for number in range(1, 31)]
    lines = refusal(*coco(*outside[:3], names=names)(tmp_path), images, tmp_path / "out")
    assert [line.partition(":")[0] for line in lines] == ["00.png", "01.png", "02.png"]
    lines = refusal(*coco(*outside, names=names)(tmp_path), images, tmp_path / "out")
    assert len(lines) == 21
    assert lines[-1] == "… and 10 more."


def test_classes_that_are_not_there_are_refused_with_those_that_are(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png")
    lines = refusal(*coco(BOX)(tmp_path), images, tmp_path / "out", classes=("dent", "rust"))
    assert lines == [f"{tmp_path / 'coco.json'}: no class rust, there are: dent, scratch. Correct --classes."]


def test_a_folder_that_holds_something_is_not_touched(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    assert "is there already" in refusal(*coco(BOX)(tmp_path), images, tmp_path / "out")[0]
    assert (tmp_path / "out" / "mine.txt").read_text() == "kept"
    (tmp_path / "out" / "mine.txt").unlink()
    import_annotations(*coco(BOX)(tmp_path), images, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images", "masks"]


def test_classes_and_least_area_choose_what_marks_a_defect(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png", "b.png", "c.png", "d.png")
    dent = {"category_id": 2, "bbox": [3, 14, 3, 6]}
    place = coco(BOX, dent | {"image_id": 1}, dent | {"image_id": 2}, {"image_id": 3, "bbox": [1, 1, 2, 2]},
                 names=("a.png", "b.png", "c.png"))  # fmt: skip
    masks, report = imported(*place(tmp_path), images, tmp_path / "out", classes=("scratch",), min_area=5)
    assert np.array_equal(np.asarray(masks["a"]), rectangle(8, 5, 20, 12))
    assert (masks["b"], masks["c"]) == (None, None)
    assert list(report.notes) == [
        "1 regions are smaller than 5 pixels and mark nothing",
        "2 regions are of classes not asked for and mark nothing",
        "2 pictures count as good because none of their regions was taken",
        f"1 pictures are not in the export and were not taken, first {images / 'd.png'}",
    ]


def test_an_export_without_any_region_is_told(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png")
    masks, report = imported(*coco()(tmp_path), images, tmp_path / "out")
    assert masks == {"a": None}
    assert any(note.startswith("no picture has a region") for note in report.notes)


def test_regions_over_the_border_are_clipped_and_counted(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png")
    masks, report = imported(*coco({"image_id": 1, "bbox": [28, 20, 9, 9]})(tmp_path), images, tmp_path / "out")
    assert np.array_equal(np.asarray(masks["a"]), rectangle(28, 20, 32, 24))
    assert report.notes == ("1 regions reach beyond their picture and were clipped",)


def test_pictures_are_copies_or_links(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png")
    for link in (False, True):
        out = tmp_path / f"out{link}"
        import_annotations(*coco(BOX)(tmp_path), images, out, Choice(link=link))
        assert (out / "images" / "a.png").read_bytes() == (images / "a.png").read_bytes()
        assert (out / "images" / "a.png").samefile(images / "a.png") == link


def test_parts_csv_makes_each_picture_a_part_where_asked(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "day, one/a.png", "day, one/b.png")
    place = coco(BOX, names=("day, one/a.png", "day, one/b.png"))
    for parts, wanted in ((False, 1), (True, 2)):
        out = tmp_path / f"out{parts}"
        report = import_annotations(*place(tmp_path), images, out, Choice(parts=parts))
        assert (out / "parts.csv").exists() == parts
        assert len({sample.part for sample in open_dataset(f"folder:{out}").samples}) == wanted
        assert any("--parts" in note for note in report.notes) != parts


def test_progress_counts_the_pictures(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png", "b.png")
    seen: list[tuple[int, int]] = []
    form, source = coco(BOX, names=("a.png", "b.png"))(tmp_path)
    import_annotations(form, source, images, tmp_path / "out", progress=lambda done, count: seen.append((done, count)))
    assert seen == [(1, 2), (2, 2)]


def segdec(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from segdec_edge.cli import main; main()", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_command_makes_a_data_set_that_passes_its_check(tmp_path: Path) -> None:
    names = ("a.png", "b.png", "c.png", "d.png", "good.png", "tagged.png", "new.png")
    images = pictures(tmp_path / "in", *names, size_hw=(24, 32))
    (tmp_path / "annotations.xml").write_text(CVAT)
    out = tmp_path / "sets" / "parts"
    done = segdec("data", "import", "cvat", tmp_path / "annotations.xml", "--images", images, "-o", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{out}: 5 pictures, 1 good, 4 defective with 6 regions",
        "note: 1 pictures left out: nothing but a tag",
        f"note: 1 pictures are not in the export and were not taken, first {images / 'new.png'}",
        f"Next: segdec data check folder:{out}",
    ]
    dataset = open_dataset(f"folder:{out}")
    assert check_dataset(dataset, out).findings == ()
    wrong = segdec("data", "import", "cvat", tmp_path / "annotations.xml", "--images", images, "-o", tmp_path / "x",
                   "--classes", "scratch, rust")  # fmt: skip
    assert wrong.returncode == 1
    assert "no class rust, there are: dent, scratch" in wrong.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_labelme_mask_lies_between_its_points(swapped: bool, alpha: bool, tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png")
    crop = np.zeros((6, 8, 4), np.uint8)
    crop[1:3, 2:5, :3], crop[:, :, 3] = 255, 255
    data = cv2.imencode(".png", crop if alpha else crop[:, :, 0])[1].tobytes()
    points = [[3, 4], [10, 9]]
    shape = {"label": "a", "shape_type": "mask", "points": points[::-1] if swapped else points}
    place = labelme(shape | {"mask": base64.b64encode(data).decode()})
    masks, _ = imported(*place(tmp_path), images, tmp_path / "out")
    assert np.array_equal(np.asarray(masks["a"]), rectangle(5, 5, 8, 7))


def test_a_transparent_mask_is_refused(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png")
    form, folder = png_masks("task-7-annotation-9-by-me-tag-a-0.png")(tmp_path)
    cv2.imwrite(str(folder / "task-7-annotation-9-by-me-tag-a-0.png"), np.zeros((24, 32, 4), np.uint8))
    (line,) = refusal(form, folder, images, tmp_path / "out")
    assert "parts of it are transparent, wanted an opaque picture" in line


def test_half_an_unpacked_cvat_export_is_refused(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png", "b.png")
    form, folder = cvat_masks(names="a\nb\n")(tmp_path)
    (folder / "SegmentationObject").mkdir()
    shutil.copy(folder / "SegmentationClass/a.png", folder / "SegmentationObject/b.png")
    (line,) = refusal(form, folder, images, tmp_path / "out")
    assert "SegmentationObject/b.png: has no counterpart in SegmentationClass/" in line
