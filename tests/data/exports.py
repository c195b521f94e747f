"""What annotation tools export, as files and as what writes them, that the tests of imports share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from segdec_edge.data.annotations.write import Choice, import_annotations
from segdec_edge.errors import DataError
from tests.data.annotated import write_json


def coco_file(annotations: list[dict[str, Any]], *names: str) -> dict[str, Any]:
    return {
        "info": {"description": "parts", "version": "1.0"},
        "licenses": [{"id": 0, "name": "", "url": ""}],
        "images": [
            {"id": number, "file_name": name, "width": 32, "height": 24} for number, name in enumerate(names, 1)
        ],
        "categories": [
            {"id": 1, "name": "scratch", "supercategory": ""},
            {"id": 2, "name": "dent", "supercategory": ""},
        ],
        "annotations": [
            {"id": number, "category_id": 1, "iscrowd": 0, "area": 1.0} | annotation
            for number, annotation in enumerate(annotations, 1)
        ],
    }


def labelme_file(name: str, *shapes: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": [
            {"label": "scratch", "group_id": None, "description": "", "flags": {}, "mask": None} | one for one in shapes
        ],
        "imagePath": name,
        "imageData": None,
        "imageHeight": 24,
        "imageWidth": 32,
    }


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>4</id><name>parts</name><size>6</size><mode>annotation</mode>
      <labels>
        <label><name>scratch</name><color>#fa3253</color><type>any</type><attributes></attributes></label>
        <label><name>dent</name><color>#33ddff</color><type>any</type><attributes></attributes></label>
      </labels>
    </task>
    <dumped>2024-05-02 09:12:44.121+00:00</dumped>
  </meta>
  <image id="0" name="a.png" width="32" height="24">
    <box label="scratch" source="manual" occluded="0" xtl="8.00" ytl="5.00" xbr="20.00" ybr="12.00" z_order="0">
      <attribute name="depth">2</attribute>
    </box>
    <polygon label="dent" source="manual" occluded="0" points="3.00,14.00;6.00,14.00;6.00,20.00;3.00,20.00" z_order="0">
    </polygon>
    <mask label="dent" source="manual" occluded="0" rle="0, 1" left="31" top="23" width="1" height="1" z_order="0">
    </mask>
  </image>
  <image id="1" name="b.png" width="32" height="24">
    <box label="scratch" source="manual" occluded="0" xtl="9.00" ytl="8.00" xbr="23.00" ybr="14.00" rotation="330.00"
      z_order="0"></box>
  </image>
  <image id="2" name="c.png" width="32" height="24">
    <mask label="scratch" source="manual" occluded="0" rle="1, 2, 3" left="8" top="5" width="3" height="2" z_order="0">
    </mask>
  </image>
  <image id="3" name="d.png" width="32" height="24">
    <ellipse label="dent" source="manual" occluded="0" cx="16.00" cy="12.00" rx="8.00" ry="8.00" z_order="0"></ellipse>
  </image>
  <image id="4" name="good.png" width="32" height="24">
  </image>
  <image id="5" name="tagged.png" width="32" height="24">
    <tag label="dent" source="manual"></tag>
  </image>
</annotations>
"""


def task(number: int, image: str, *results: dict[str, Any] | None, **annotation: Any) -> dict[str, Any]:
    """A task with one annotation of these results; without annotation where the one result is None."""
    made = [
        {"id": f"r{index}", "from_name": "tag", "to_name": "image", "origin": "manual", "image_rotation": 0}
        | {"original_width": 32, "original_height": 24}
        | result
        for index, result in enumerate(results)
        if result is not None
    ]
    done = [] if None in results else [{"id": number + 100, "completed_by": 1, "result": made} | annotation]
    return {"id": number, "file_upload": "x", "annotations": done, "predictions": [], "data": {"image": image}}


def rectangle_result(x: float, y: float, width: float, height: float, rotation: float = 0) -> dict[str, Any]:
    """In pixels here, percent in the file."""
    across, down = 100 / 32, 100 / 24
    value = {"x": x * across, "y": y * down, "width": width * across, "height": height * down, "rotation": rotation}
    return {"type": "rectanglelabels", "value": value | {"rectanglelabels": ["scratch"]}}


BOX = {"image_id": 1, "bbox": [8, 5, 12, 7]}


Place = Callable[[Path], tuple[str, Path]]


def coco(*annotations: dict[str, Any], names: tuple[str, ...] = ("a.png",), **other: Any) -> Place:
    return lambda folder: ("coco", write_json(folder / "coco.json", coco_file(list(annotations), *names) | other))


def labelme(*shapes: dict[str, Any], name: str = "a.png", **other: Any) -> Place:
    return lambda folder: ("labelme", write_json(folder / "a.json", labelme_file(name, *shapes) | other))


def studio(*tasks: dict[str, Any]) -> Place:
    return lambda folder: ("labelstudio", write_json(folder / "project.json", list(tasks)))


def text(form: str, content: str | bytes, name: str = "export.xml") -> Place:
    def place(folder: Path) -> tuple[str, Path]:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return form, folder / name

    return place


def cvat(shape: str, name: str = "a.png") -> Place:
    image = f'<image id="0" name="{name}" width="32" height="24">{shape}</image>'
    return text("cvat", f"<annotations><version>1.1</version>{image}</annotations>")


def cvat_masks(names: str = "a\n", value: int = 1, labels: str = "background:0,0,0::\nscratch:9,8,7::\n") -> Place:
    def place(folder: Path) -> tuple[str, Path]:
        for below in ("ImageSets/Segmentation", "SegmentationClass"):
            (folder / "export" / below).mkdir(parents=True)
        (folder / "export/ImageSets/Segmentation/default.txt").write_text(names)
        (folder / "export/labelmap.txt").write_text(labels)
        cv2.imwrite(str(folder / "export/SegmentationClass/a.png"), np.full((24, 32), value, np.uint8))
        return "cvat", folder / "export"

    return place


def png_masks(name: str) -> Place:
    def place(folder: Path) -> tuple[str, Path]:
        write_json(folder / "export" / "project.json", [task(7, "a.png")])
        cv2.imwrite(str(folder / "export" / name), np.full((24, 32), 255, np.uint8))
        return "labelstudio", folder / "export"

    return place


def refusal(form: str, source: Path, images: Path, out: Path, **choice: Any) -> list[str]:
    before = sorted(out.parent.iterdir())
    with pytest.raises(DataError) as caught:
        import_annotations(form, source, images, out, Choice(**choice))
    assert sorted(out.parent.iterdir()) == before, "something was left behind"
    return str(caught.value).splitlines()
