"""Each tool's real export, written by hand: known shapes come back to the pixel as a data set."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from segdec_edge.types import BoolMask
from tests.data.annotated import SIZE_HW, disc, imported, pictures, rectangle, save, three_regions, turned, write_json
from tests.data.exports import (
    CVAT,
    coco_file,
    labelme_file,
    rectangle_result,
    task,
)
from tests.data.test_annotation_shapes import BRUSH, COCO_TEXT

Masks = dict[str, BoolMask | None]


def same(masks: Masks, **wanted: BoolMask | None) -> None:
    assert masks.keys() == wanted.keys()
    for name, mask in wanted.items():
        got = masks[name]
        assert (got is None) == (mask is None), name
        assert mask is None or np.array_equal(np.asarray(got), mask), name


def test_coco_polygons_runs_boxes_and_crowds(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png", "b.png", "c.png", "d.png", "e.png", "good.png")
    lengths = [8 * 24 + 5, *([7, 17] * 11), 7, 768 - (19 * 24 + 12)]
    annotations: list[dict[str, Any]] = [
        {"image_id": 1, "segmentation": [[8, 5, 20, 5, 20, 12, 8, 12], [3, 14, 6, 14, 6, 20, 3, 20]], "bbox": [0] * 4},
        {"image_id": 1, "segmentation": [[31, 23, 32, 23, 32, 24, 31, 24]], "bbox": [31, 23, 1, 1]},
        {"image_id": 2, "segmentation": {"counts": COCO_TEXT, "size": [24, 32]}, "bbox": [3, 5, 29, 19]},
        {"image_id": 3, "segmentation": {"counts": lengths, "size": [24, 32]}, "bbox": [8, 5, 12, 7], "iscrowd": 1},
        {"image_id": 4, "segmentation": [], "bbox": [8.0, 5.0, 12.0, 7.0], "category_id": 2},
        {"image_id": 5, "bbox": [9, 8, 14, 6], "attributes": {"occluded": False, "rotation": 30.0}},
    ]
    names = ("a.png", "b.png", "c.png", "d.png", "e.png", "good.png")
    source = write_json(tmp_path / "instances_default.json", coco_file(annotations, *names))
    masks, report = imported("coco", source, images, tmp_path / "out")
    marked = rectangle(8, 5, 20, 12)
    same(masks, a=three_regions(), b=three_regions(), c=marked, d=marked, e=turned((16, 11), 14, 6, 30), good=None)
    assert (report.good, report.defective, report.regions) == (1, 5, 7)
    assert any("1 crowd annotations" in note for note in report.notes)


@pytest.mark.parametrize("empty", [{"attributes": None}, {"attributes": []}, {"iscrowd": None}, {"segmentation": None}])
def test_coco_keys_that_say_nothing_may_be_null(empty: dict[str, Any], tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png", "b.png")
    annotations = [
        {"image_id": 1, "bbox": [8, 5, 12, 7]} | empty,
        {"image_id": 2, "bbox": None, "segmentation": [[8, 5, 20, 5, 20, 12, 8, 12]]},
    ]
    source = write_json(tmp_path / "a.json", coco_file(annotations, "a.png", "b.png"))
    masks, _ = imported("coco", source, images, tmp_path / "out")
    same(masks, a=rectangle(8, 5, 20, 12), b=rectangle(8, 5, 20, 12))


def test_labelme_shapes(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png", "b.png", "c.png", "d.png", "good.png")
    crop = base64.b64encode(cv2.imencode(".png", np.full((7, 12), 255, np.uint8))[1].tobytes()).decode()
    corner = [[16, 4], [16, 14], [13, 14], [13, 4]]
    shapes: dict[str, dict[str, Any]] = {
        "a": {"shape_type": "polygon", "points": [[8.0, 5.0], [20.0, 5.0], [20.0, 12.0], [8.0, 12.0]]},
        "b": {"shape_type": "rectangle", "points": [[20.0, 12.0], [8.0, 5.0]]},
        "c": {"shape_type": "mask", "points": [[8.0, 5.0], [19.0, 11.0]], "mask": crop},
        "d": {"shape_type": "oriented_rectangle", "points": corner},
    }
    for name, shape in shapes.items():
        write_json(tmp_path / "json" / f"{name}.json", labelme_file(f"..\\in\\{name}.png", shape))
    write_json(tmp_path / "json" / "good.json", labelme_file("good.png"))
    masks, _ = imported("labelme", tmp_path / "json", images, tmp_path / "out")
    marked = rectangle(8, 5, 20, 12)
    same(masks, a=marked, b=marked, c=marked, d=rectangle(13, 4, 16, 14), good=None)


def test_labelme_beside_its_picture_and_a_circle(tmp_path: Path) -> None:
    images = pictures(tmp_path, "a.png", "b.png")
    circle = {"shape_type": "circle", "points": [[16.0, 12.0], [16.0, 20.0]]}
    source = write_json(tmp_path / "a.json", labelme_file("a.png", circle))
    masks, report = imported("labelme", source, images, tmp_path / "out")
    same(masks, a=disc((16, 12), 8))
    assert any("1 pictures are not in the export" in note and "b.png" in note for note in report.notes)


def test_a_labelme_flag_alone_does_not_make_a_good_part(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png", "b.png", "good.png")
    polygon = {"shape_type": "polygon", "points": [[8.0, 5.0], [20.0, 5.0], [20.0, 12.0], [8.0, 12.0]]}
    defective = {"flags": {"__ignore__": False, "defective": True}}
    write_json(tmp_path / "json" / "a.json", labelme_file("a.png") | defective)
    write_json(tmp_path / "json" / "b.json", labelme_file("b.png", polygon) | defective)
    write_json(tmp_path / "json" / "good.json", labelme_file("good.png") | {"flags": {"defective": False}})
    masks, report = imported("labelme", tmp_path / "json", images, tmp_path / "out")
    same(masks, b=rectangle(8, 5, 20, 12), good=None)
    assert "1 pictures left out: nothing but a flag for the whole picture" in report.notes


@pytest.mark.parametrize("unpacked", [False, True])
def test_cvat_for_images(tmp_path: Path, unpacked: bool) -> None:
    names = ("a.png", "b.png", "c.png", "d.png", "good.png", "tagged.png")
    images = pictures(tmp_path / "task" / "images", *names)
    (tmp_path / "task" / "annotations.xml").write_text(CVAT)
    source = tmp_path / "task" if unpacked else tmp_path / "task" / "annotations.xml"
    masks, report = imported("cvat", source, images, tmp_path / "out")
    runs = rectangle(9, 5, 11, 6)
    same(masks, a=three_regions(), b=turned((16, 11), 14, 6, 330), c=runs, d=disc((16, 12), 8), good=None)
    assert "1 pictures left out: nothing but a tag" in report.notes


@pytest.mark.parametrize("channels", [1, 3])
def test_cvat_segmentation_masks(tmp_path: Path, channels: int) -> None:
    images = pictures(tmp_path / "in", "a.png", "sub/b.jpg", "good.png", "black.png")
    export = tmp_path / "export"
    (export / "ImageSets" / "Segmentation").mkdir(parents=True)
    (export / "ImageSets" / "Segmentation" / "default.txt").write_text("a\nsub/b\ngood\nblack\n")
    (export / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nscratch:250,50,83::\ndent:51,221,255::\n"
    )
    values: list[Any] = [1, 2] if channels == 1 else [(83, 50, 250), (255, 221, 51)]
    canvas = np.zeros((*SIZE_HW, channels), np.uint8)
    save(export / "SegmentationClass" / "black.png", canvas)
    canvas[rectangle(8, 5, 20, 12)] = values[0]
    save(export / "SegmentationClass" / "sub" / "b.png", canvas)
    canvas[rectangle(3, 14, 6, 20)] = values[1]
    save(export / "SegmentationClass" / "a.png", canvas)
    masks, _ = imported("cvat", export, images, tmp_path / "out", classes=("dent",))
    same(masks, **{"a": rectangle(3, 14, 6, 20), "sub/b": None, "good": None, "black": None})
    masks, _ = imported("cvat", export, images, tmp_path / "all")
    both = rectangle(3, 14, 6, 20) | rectangle(8, 5, 20, 12)
    same(masks, **{"a": both, "sub/b": rectangle(8, 5, 20, 12), "good": None, "black": None})


def test_label_studio_json(tmp_path: Path) -> None:
    names = ("a.png", "b.png", "c.png", "d.png", "e.png", "good.png", "open.png", "skipped.png", "choice.png")
    images = pictures(tmp_path / "in", *names)
    corners = [[25.0, 100 * 5 / 24], [62.5, 100 * 5 / 24], [62.5, 50.0], [25.0, 50.0]]
    polygon = {"type": "polygonlabels", "value": {"points": corners, "closed": True, "polygonlabels": ["dent"]}}
    brush = {"type": "brushlabels", "value": {"format": "rle", "rle": list(BRUSH), "brushlabels": ["scratch"]}}
    choice = {"type": "choices", "value": {"choices": ["defective"]}}
    plain = {"type": "rectangle", "id": "z", "value": {"x": 25, "y": 50, "width": 25, "height": 25, "rotation": 0}}
    twin = plain | {"type": "labels", "value": plain["value"] | {"labels": ["dent"]}}  # type: ignore[operator]
    source = write_json(
        tmp_path / "project-1.json",
        [
            task(1, "/data/upload/1/3f2a1b9c-a.png", rectangle_result(16, 4, 10, 3, 90)),
            task(2, "/data/local-files/?d=parts/b.png", polygon, {"type": "relation", "from_id": "a", "to_id": "b"}),
            task(3, "https://files.example/set/c.png?token=a%2Fb", brush, choice),
            task(4, "s3://bucket/d.png", rectangle_result(6, 8, 14, 6, 30)),
            task(5, "/data/upload/1/00ff00aa-e.png", plain, twin),
            task(6, "/data/upload/1/00ff00aa-good.png"),
            task(7, "/data/upload/1/00ff00aa-open.png", None),
            task(8, "/data/upload/1/00ff00aa-skipped.png", rectangle_result(1, 1, 5, 5), was_cancelled=True),
            task(9, "/data/upload/1/00ff00aa-choice.png", choice),
        ],
    )
    masks, report = imported("labelstudio", source, images, tmp_path / "out")
    cosine, sine = np.cos(np.pi / 6), np.sin(np.pi / 6)
    centre = (6 + 7 * cosine - 3 * sine, 8 + 7 * sine + 3 * cosine)
    marked = rectangle(8, 5, 20, 12)
    same(
        masks,
        a=rectangle(13, 4, 16, 14),
        b=marked,
        c=three_regions(),
        d=turned(centre, 14, 6, 30),
        e=rectangle(8, 12, 16, 18),
        good=None,
    )
    assert report.regions == 5
    left_out = [note for note in report.notes if "left out" in note]
    assert [note.partition(": ")[2] for note in left_out] == [
        "not annotated yet",
        "skipped by the annotator",
        "nothing but a class for the whole picture",
    ]


def test_label_studio_magic_wand_marks_as_a_brush_does(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png", "b.png")
    wand = {"type": "magicwand", "id": "w", "value": {"format": "rle", "rle": list(BRUSH)}}
    classed = {"type": "labels", "id": "w", "value": {"format": "rle", "rle": list(BRUSH), "labels": ["dent"]}}
    corner = rectangle_result(0, 0, 4, 3)
    source = write_json(tmp_path / "a.json", [task(1, "a.png", wand, corner), task(2, "b.png", wand, classed)])
    masks, report = imported("labelstudio", source, images, tmp_path / "out")
    same(masks, a=three_regions() | rectangle(0, 0, 4, 3), b=three_regions())
    assert report.regions == 3


def test_label_studio_several_annotations_are_united(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png")
    one, other = task(1, "a.png", rectangle_result(8, 5, 12, 7)), task(1, "a.png", rectangle_result(3, 14, 3, 6))
    source = write_json(tmp_path / "a.json", [one | {"annotations": one["annotations"] + other["annotations"]}])
    masks, report = imported("labelstudio", source, images, tmp_path / "out")
    same(masks, a=rectangle(8, 5, 20, 12) | rectangle(3, 14, 6, 20))
    assert any("1 pictures have several annotations" in note for note in report.notes)


def test_label_studio_png_masks_beside_the_json(tmp_path: Path) -> None:
    images = pictures(tmp_path / "in", "a.png", "b.png", "good.png")
    source = tmp_path / "export"
    names = ("/data/upload/1/3f2a1b9c-a.png", "/data/upload/1/3f2a1b9c-b.png", "/data/upload/1/3f2a1b9c-good.png")
    write_json(source / "project.json", [task(number, name) for number, name in enumerate(names, 7)])
    first, second = rectangle(8, 5, 20, 12), rectangle(3, 14, 6, 20)
    by = "annotation-9-by-me@example.org-tag"
    save(source / f"task-7-{by}-deep-scratch-0.png", first.astype(np.uint8) * 255)
    save(source / f"task-7-{by}-deep-scratch-1.png", second.astype(np.uint8) * 255)
    save(source / f"task-8-{by}-dent-0.png", second.astype(np.uint8) * 255)
    masks, _ = imported("labelstudio", source, images, tmp_path / "out")
    same(masks, a=first | second, b=second, good=None)
    masks, _ = imported("labelstudio", source, images, tmp_path / "some", classes=("deep-scratch",))
    same(masks, a=first | second, b=None, good=None)
