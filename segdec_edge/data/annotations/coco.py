"""COCO object detection and segmentation: one JSON file. Knows no picture on disk.

A segmentation counts before its box; where there is none, the box does, turned by CVAT's attribute rotation. A crowd
annotation, one mask over several objects, marks a defect like any other. Source: cocodataset.org, data format.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from pydantic import Field, TypeAdapter

from segdec_edge.data.annotations.parse import Exported, parse_json
from segdec_edge.data.annotations.shapes import AnnotatedPicture, CocoRuns, Export, Polygon, Region, Shape, box
from segdec_edge.errors import DataError

WANTED = "COCO export (JSON with images, annotations and categories)"
Id = int | str
_COPY = re.compile(r"(.+_[A-Za-z]{3,4})\.rf\.[0-9A-Za-z]+")
_LOCAL = re.compile(r"/?data/local-files/\?d=")
_CLIMBS = re.compile(r"(\.\.[\\/])+")


class _Image(Exported):
    id: Id
    file_name: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    extra: Any = None

    @property
    def part(self) -> str | None:
        """Roboflow exports each picture several times, altered: all are of the one it says in extra, or in the name."""
        given = self.extra.get("name") if isinstance(self.extra, dict) else None
        if isinstance(given, str) and given.strip():
            return " ".join(given.split())
        match = _COPY.fullmatch(PurePosixPath(self.file_name.replace("\\", "/")).stem)
        return match[1] if match else None


class _Runs(Exported):
    counts: str | list[int]
    size: tuple[int, int]


class _Attributes(Exported):
    rotation: Any = None


class _Annotation(Exported):
    id: Id | None = None
    image_id: Id
    category_id: Id
    bbox: tuple[float, ...] | None = None
    segmentation: list[list[float]] | _Runs | None = None
    iscrowd: int | None = None
    attributes: _Attributes | list[Any] | None = None


class _Category(Exported):
    id: Id
    name: str


class _Coco(Exported):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


_ADAPTER = TypeAdapter(_Coco)


def read_coco(path: Path) -> Export:
    """Every picture that the file lists, with its regions.

    Raises DataError on another format, an id that two pictures or categories share, and an annotation whose picture or
    category is not in the file.
    """
    coco = parse_json(_ADAPTER, path, WANTED)
    ids = [image.id for image in coco.images]
    _refuse_doubles(path, "pictures", ids)
    _refuse_doubles(path, "categories", [category.id for category in coco.categories])
    names = {category.id: category.name for category in coco.categories}
    _refuse_unknown(path, coco.annotations, "image_id", ids)
    _refuse_unknown(path, coco.annotations, "category_id", list(names))
    regions: dict[Id, list[Region]] = defaultdict(list)
    for number, annotation in enumerate(coco.annotations):
        where = f"annotation {number if annotation.id is None else annotation.id}"
        label = names[annotation.category_id]
        regions[annotation.image_id] += [Region(shape, (label,), where) for shape in _shapes(annotation, path, where)]
    pictures = [
        AnnotatedPicture(_name(image), (image.height, image.width), tuple(regions[image.id]), part=image.part)
        for image in coco.images
    ]
    crowds = sum(bool(annotation.iscrowd) for annotation in coco.annotations)
    notes = (f"{crowds} crowd annotations are marked as defects like the others",) if crowds else ()
    return Export(tuple(pictures), frozenset(names.values()), notes)


def _refuse_doubles(path: Path, what: str, ids: Sequence[Id]) -> None:
    if len(set(ids)) < len(ids):
        double = next(one for one in ids if ids.count(one) > 1)
        raise DataError(f"{path}: two {what} have the id {double}, wanted unique ids. Export it again.")


def _shapes(annotation: _Annotation, path: Path, where: str) -> Iterator[Shape]:
    match annotation.segmentation:
        case _Runs() as runs:
            yield CocoRuns(runs.counts if isinstance(runs.counts, str) else tuple(runs.counts), runs.size)
        case [*polygons] if polygons:
            for flat in polygons:
                if len(flat) % 2:
                    raise DataError(f"{path}: {where}: polygon of {len(flat)} numbers, wanted x, y pairs. Mend it.")
                yield Polygon(tuple(zip(flat[::2], flat[1::2], strict=True)))
        case _:
            yield _box(annotation, path, where)


def _box(annotation: _Annotation, path: Path, where: str) -> Polygon:
    degrees = _degrees(annotation, path, where)
    match annotation.bbox:
        case [left, top, width, height] if width >= 0 and height >= 0:
            return box(left, top, width, height, degrees)
        case [] | None:
            raise DataError(f"{path}: {where}: neither segmentation nor bbox, wanted one. Delete or mend it.")
    raise DataError(f"{path}: {where}: bbox {list(annotation.bbox or ())}, wanted x, y, width, height. Mend it.")


def _degrees(annotation: _Annotation, path: Path, where: str) -> float:
    given = annotation.attributes.rotation if isinstance(annotation.attributes, _Attributes) else None
    if given is None:
        return 0.0
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise DataError(f"{path}: {where}: its box is turned by {given!r}, wanted degrees. Rename that attribute.")
    return float(given)


def _name(image: _Image) -> str:
    """The picture's path; of Label Studio's local files what `?d=` says, of its uploads without leading `..`."""
    local = _LOCAL.match(image.file_name)
    name = unquote(image.file_name[local.end() :]) if local else image.file_name
    climbing = _CLIMBS.match(name)
    return name[climbing.end() :] if climbing else name


def _refuse_unknown(path: Path, annotations: Sequence[_Annotation], key: str, known: Sequence[Id]) -> None:
    there = set(known)
    unknown = [one for one in annotations if getattr(one, key) not in there]
    if unknown:
        first = unknown[0]
        raise DataError(
            f"{path}: {len(unknown)} annotations have an unknown {key}, first annotation {first.id} with"
            f" {getattr(first, key)}. Export pictures and annotations together."
        )
