"""CVAT for images 1.1: one XML file. Knows no picture on disk.

Boxes and ellipses turn clockwise about their centre; a mask's runs go along the rows of its own rectangle. A tag names
a class without a place. Source: docs.cvat.ai, XML annotation format, version 1.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from segdec_edge.data.annotations.locate import plain_path
from segdec_edge.data.annotations.parse import read_export_file
from segdec_edge.data.annotations.shapes import AnnotatedPicture, CvatRuns, Export, Polygon, Region, Shape, box, ellipse
from segdec_edge.errors import DataError

WANTED = "CVAT export (XML, CVAT for images 1.1)"
_SHAPES = frozenset({"box", "polygon", "ellipse", "mask"})
_TAG = "tag"


class _Attributes:
    """An element's attributes as values. Raises DataError where one is missing or no number."""

    def __init__(self, element: ElementTree.Element, where: str) -> None:
        self._element = element
        self.where = where

    def text(self, name: str) -> str:
        value = self._element.get(name)
        if value is None:
            raise DataError(f"{self.where}: {name} is missing, wanted {WANTED}. Export it again.")
        return value

    def number(self, name: str, default: str | None = None) -> float:
        text = self.text(name) if default is None else self._element.get(name, default)
        return _number(text, f"{self.where}: {name}")

    def whole(self, name: str) -> int:
        return _whole(self.text(name), f"{self.where}: {name}")


class _Builder(ElementTree.TreeBuilder):
    """Refuses a document type: entities in it can blow up a small file, and CVAT writes none."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise DataError(f"declares the document type {name}, which CVAT never writes. Export it again.")


def read_cvat(path: Path, images: Path) -> Export:
    """Every picture that the file lists, with its regions; one with nothing but tags is left out.

    A project's pictures lie in a folder a subset, which their names leave out. Raises DataError.
    """
    root = _parsed(path)
    listed = root.findall("image")
    if root.tag != "annotations" or (not listed and root.find("track") is not None):
        what = "CVAT for video" if root.find("track") is not None else f"<{root.tag}>"
        raise DataError(f"{path}: is {what}, wanted {WANTED}. Export it as CVAT for images 1.1.")
    pictures = tuple(_picture(image, path, images) for image in listed)
    declared = {label.text or "" for label in root.iterfind("meta//label/name")}
    used = {name for picture in pictures for region in picture.regions for name in region.labels}
    return Export(pictures, frozenset(declared | used))


def _parsed(path: Path) -> ElementTree.Element:
    data = read_export_file(path, WANTED)
    try:
        return ElementTree.fromstring(data, ElementTree.XMLParser(target=_Builder()))
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: an encoding it cannot read
        raise DataError(f"{path}: no {WANTED} ({error}). Check the format, or export it again.") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _picture(image: ElementTree.Element, path: Path, images: Path) -> AnnotatedPicture:
    values = _Attributes(image, f"{path}: image {image.get('name', image.get('id'))}")
    unplaced = sorted({element.tag for element in image} - _SHAPES - {_TAG})
    if unplaced:  # polylines, points, cuboids, skeletons, and what later versions may add
        raise DataError(f"{values.where}: a {unplaced[0]} marks no region. Draw it as polygon or mask, or delete it.")
    regions = tuple(_regions(image, values.where))
    tagged = not regions and image.find(_TAG) is not None
    size_hw = (values.whole("height"), values.whole("width"))
    name = values.text("name")
    below = plain_path(f"{image.get('subset', '')}/{name}".lstrip("/"), values.where)
    name = str(below) if (images / below).is_file() else name
    return AnnotatedPicture(name, size_hw, regions, "nothing but a tag" if tagged else None)


def _regions(image: ElementTree.Element, where: str) -> Iterator[Region]:
    for number, element in enumerate(image, start=1):
        if element.tag in _SHAPES:
            name = f"{element.tag} {number} ({element.get('label')})"
            values = _Attributes(element, f"{where}: {name}")
            yield Region(_shape(element.tag, values), (values.text("label"),), name)


def _shape(kind: str, values: _Attributes) -> Shape:
    match kind:
        case "box":
            left, top, right, bottom = (values.number(name) for name in ("xtl", "ytl", "xbr", "ybr"))
            if right < left or bottom < top:
                raise DataError(f"{values.where}: xbr, ybr lies before xtl, ytl. Delete it, or draw it again.")
            return box(left, top, right - left, bottom - top, values.number("rotation", "0"))
        case "ellipse":
            centre = (values.number("cx"), values.number("cy"))
            return ellipse(centre, (values.number("rx"), values.number("ry")), values.number("rotation", "0"))
        case "mask":
            counts = tuple(_whole(text, f"{values.where}: rle") for text in values.text("rle").split(","))
            size_hw = (values.whole("height"), values.whole("width"))
            return CvatRuns(counts, values.whole("left"), values.whole("top"), size_hw)
    return Polygon(tuple(_points(values)))


def _points(values: _Attributes) -> Iterator[tuple[float, float]]:
    where = f"{values.where}: points"
    for pair in filter(None, values.text("points").split(";")):
        x, comma, y = pair.partition(",")
        if not comma:
            raise DataError(f"{where} hold {pair!r}, wanted x,y pairs divided by semicolons. Export it again.")
        yield _number(x, where), _number(y, where)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where} is {text[:40]!r}, wanted a number. Export it again.")
    return value


def _whole(text: str, where: str) -> int:
    value = _number(text, where)
    if not value.is_integer():
        raise DataError(f"{where} is {text[:40]!r}, wanted a whole number. Export it again.")
    return int(value)
