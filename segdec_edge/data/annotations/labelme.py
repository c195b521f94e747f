"""LabelMe: one JSON file a picture, beside it or in a folder of their own. Knows no picture on disk.

Regions are polygon, rectangle, oriented_rectangle (and rotation, as X-AnyLabeling writes it), circle and mask; a mask's
two points are its first and last pixel. A flag names a class for the whole picture, without a place.
Source: labelme, utils/shape.py and examples/classification.
"""

from __future__ import annotations

import base64
import binascii
import math
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field, TypeAdapter

from segdec_edge.data.annotations.locate import plain_path, printable
from segdec_edge.data.annotations.parse import Exported, parse_json
from segdec_edge.data.annotations.shapes import AnnotatedPicture, Crop, Export, Polygon, Region, Shape, box, ellipse
from segdec_edge.data.folder import visible_files
from segdec_edge.errors import DataError

WANTED = "LabelMe file (JSON with shapes, imagePath, imageHeight and imageWidth)"


class _Shape(Exported):
    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = "polygon"
    mask: str | None = None


class _LabelMe(Exported):
    shapes: list[_Shape]
    imagePath: str
    imageHeight: int = Field(gt=0)
    imageWidth: int = Field(gt=0)
    flags: Any = None

    @property
    def flagged(self) -> bool:
        return isinstance(self.flags, dict) and any(self.flags.values())


_ADAPTER = TypeAdapter(_LabelMe)


def read_labelme(source: Path, images: Path) -> Export:
    """The picture of one file, or of each JSON file below a folder; one with nothing but flags is left out.

    Raises DataError.
    """
    if not source.is_dir():
        files = [source]
    else:
        files = [path for path in visible_files(source) if path.suffix.lower() == ".json"]
    if not files:
        raise DataError(f"{source}: no JSON files there, wanted one a picture. Give the folder LabelMe saved them in.")
    pictures = tuple(_picture(path, source, images) for path in files)
    classes = frozenset(name for one in pictures for part in one.regions for name in part.labels)
    return Export(pictures, classes, own_paths=True)


def _picture(path: Path, source: Path, images: Path) -> AnnotatedPicture:
    file = parse_json(_ADAPTER, path, WANTED)
    regions = []
    for number, shape in enumerate(file.shapes, start=1):
        where = f"shape {number} ({shape.label})"
        regions.append(Region(_shape(shape, f"{path}: {where}"), (shape.label,), where))
    name = _name(file.imagePath, path, source, images)
    left_out = "nothing but a flag for the whole picture" if file.flagged and not regions else None
    return AnnotatedPicture(name, (file.imageHeight, file.imageWidth), tuple(regions), left_out, path)


def _name(image_path: str, path: Path, source: Path, images: Path) -> str:
    """The picture's path below images. imagePath is relative to its JSON file and may well begin with ../images/.

    Where that place is not there, its leading `..` lead out of the JSON's folder to folders of another machine.
    """
    beside = path.parent / printable(image_path, str(path)).replace("\\", "/")
    if beside.resolve().is_relative_to(images.resolve()) and beside.is_file():
        return beside.resolve().relative_to(images.resolve()).as_posix()
    parts = list(PurePosixPath(image_path.replace("\\", "/")).parts)
    below = list(path.parent.relative_to(source).parts) if source.is_dir() else []
    while parts[:1] == [".."]:
        del parts[:1], below[-1:]
    return str(PurePosixPath(*below) / plain_path(str(PurePosixPath(*parts)), str(path)))


def _shape(shape: _Shape, where: str) -> Shape:
    match shape.shape_type or "polygon", shape.points:
        case "polygon", points:
            return Polygon(tuple(points))
        case "rectangle" | "oriented_rectangle" | "rotation", [_, _, _, _] as points:
            return Polygon(tuple(points))
        case "rectangle", [(x0, y0), (x1, y1)]:
            return box(min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0))
        case "circle", [(x, y), (edge_x, edge_y)]:
            radius = math.hypot(edge_x - x, edge_y - y)
            return ellipse((x, y), (radius, radius))
        case "mask", [(x0, y0), (x1, y1)]:
            left, right = sorted((int(x0), int(x1)))
            top, bottom = sorted((int(y0), int(y1)))
            return Crop(_decoded(shape.mask, where), left, top, (bottom - top + 1, right - left + 1))
        case "rectangle" | "oriented_rectangle" | "rotation" | "circle" | "mask" as kind, points:
            raise DataError(f"{where}: {kind} of {len(points)} points. Delete it in LabelMe, or draw it again.")
    raise DataError(f"{where}: a {shape.shape_type} marks no region. Draw it as polygon, or delete it.")


def _decoded(mask: str | None, where: str) -> bytes:
    try:
        return base64.b64decode(mask or "", validate=True)
    except binascii.Error as error:
        raise DataError(f"{where}: its mask is no base64 ({error}). Draw it again.") from error
