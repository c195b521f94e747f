"""Label Studio: its JSON export, alone or with its brush masks as PNG beside it. Knows no picture on disk.

Coordinates are percent of the picture; a rectangle turns clockwise about its top left corner, an ellipse about its
centre. PNG masks name their task, not their picture (task-7-annotation-9-by-me@x.org-tag-scratch-0.png): the JSON says
which one that is. Predictions are not annotations.
Source: labelstud.io, export and tags; label-studio-converter, brush.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, TypeAdapter

from segdec_edge.data.annotations.mask_names import KnownNames, task_and_class
from segdec_edge.data.annotations.parse import Exported, parse_json
from segdec_edge.data.annotations.shapes import (
    AnnotatedPicture,
    BrushRuns,
    Export,
    MaskFile,
    Polygon,
    Region,
    Shape,
    ellipse,
    turned_box,
)
from segdec_edge.errors import DataError
from segdec_edge.pictures import SUFFIXES

WANTED = "Label Studio export (JSON, not JSON-MIN)"
_SHAPES = frozenset({"rectangle", "polygon", "ellipse", "brush"})
_NO_REGIONS = frozenset({"keypoint", "vector", "bitmask"})
Masks: TypeAlias = Mapping[int, Sequence[Region]]


class _Value(Exported):
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    rotation: float = 0.0
    radiusX: float | None = None
    radiusY: float | None = None
    points: Any = None
    rle: list[int] | None = None
    labels: list[str] | None = None
    rectanglelabels: list[str] | None = None
    polygonlabels: list[str] | None = None
    ellipselabels: list[str] | None = None
    brushlabels: list[str] | None = None

    def classes(self) -> tuple[str, ...]:
        lists = (self.labels, self.rectanglelabels, self.polygonlabels, self.ellipselabels, self.brushlabels)
        return tuple(name for names in lists for name in names or ())


class _Result(Exported):
    id: str = ""
    type: str
    from_name: str = ""
    value: _Value | None = None
    original_width: int | None = Field(None, gt=0)
    original_height: int | None = Field(None, gt=0)
    image_rotation: float = 0.0

    @property
    def kind(self) -> str:
        """rectangle, polygon, ellipse, brush; of a result with `labels` alone, what its value holds.

        The magic wand stores what the brush does.
        """
        if self.type == "magicwand":
            return "brush"
        if self.type != "labels" or self.value is None:
            return self.type.removesuffix("labels")
        keys = {"rle": "brush", "points": "polygon", "radiusX": "ellipse", "width": "rectangle"}
        return next((kind for key, kind in keys.items() if getattr(self.value, key) is not None), "")


class _Annotation(Exported):
    result: list[_Result]
    was_cancelled: bool | None = False


class _Task(Exported):
    id: int
    annotations: list[_Annotation]
    data: dict[str, Any]


_ADAPTER = TypeAdapter(list[_Task])


def read_labelstudio(source: Path, asked: Sequence[str] = ()) -> Export:
    """Every picture of a JSON export, or of a folder that holds one and PNG masks; several annotations are united.

    asked: classes that the user asked for; they help to read the names of PNG masks.

    A task nobody annotated, one that was skipped, and one with nothing but a class for the whole picture are left out.
    Raises DataError.
    """
    path = _json_in(source) if source.is_dir() else source
    tasks = parse_json(_ADAPTER, path, WANTED)
    masks = _masks(source, KnownNames(_pairs(tasks), frozenset(asked))) if source.is_dir() else {}
    unknown = sorted(masks.keys() - {task.id for task in tasks})
    if unknown:
        raise DataError(f"{source}: masks of task {unknown[0]}, which is not in {path.name}. Export both again.")
    pictures = tuple(_picture(task, path, masks.get(task.id, ())) for task in tasks)
    several = sum(len([one for one in task.annotations if not one.was_cancelled]) > 1 for task in tasks)
    notes = (f"{several} pictures have several annotations: whatever one of them marks is a defect",) if several else ()
    classes = frozenset(name for picture in pictures for region in picture.regions for name in region.labels)
    return Export(pictures, classes, notes, own_paths=True)


def _json_in(folder: Path) -> Path:
    files = sorted(folder.glob("*.json"))
    if len(files) != 1:
        raise DataError(
            f"{folder}: {len(files)} JSON files, wanted one. Put the project's JSON export beside its PNG masks."
        )
    return files[0]


def _pairs(tasks: Sequence[_Task]) -> frozenset[tuple[str, str]]:
    """Control and class of every result that has one."""
    results = [one for task in tasks for annotation in task.annotations for one in annotation.result if one.value]
    return frozenset((one.from_name, name) for one in results if one.value for name in one.value.classes())


def _masks(folder: Path, known: KnownNames) -> Masks:
    masks: dict[int, list[Region]] = defaultdict(list)
    for path in sorted(folder.rglob("task-*.png")):
        task, name = task_and_class(path, known)
        masks[task].append(Region(MaskFile(path), (name,), path.name))
    return masks


def _picture(task: _Task, path: Path, masks: Sequence[Region]) -> AnnotatedPicture:
    where = f"{path}: task {task.id}"
    done = [annotation for annotation in task.annotations if not annotation.was_cancelled]
    results = [result for annotation in done for result in annotation.result]
    shown = [result for result in results if result.kind in _SHAPES | _NO_REGIONS]
    regions = (*_regions(shown, where), *masks)
    left_out = None
    if not regions:
        left_out = _undecided(task, done, results)
    return AnnotatedPicture(_name(task.data, where), _size(shown, where), regions, left_out)


def _undecided(task: _Task, done: Sequence[_Annotation], results: Sequence[_Result]) -> str | None:
    if not task.annotations:
        return "not annotated yet"
    if not done:
        return "skipped by the annotator"
    return "nothing but a class for the whole picture" if results else None


def _regions(results: Sequence[_Result], where: str) -> Iterator[Region]:
    """One for each shape; a shape and its class may be two results of one id, of which only the one with it counts."""
    classed = {result.id for result in results if result.id and result.value and result.value.classes()}
    for result in results:
        labels = result.value.classes() if result.value else ()
        if labels or result.id not in classed:
            name = f"{result.kind} {result.id}".strip()
            yield Region(_shape(result, f"{where}: {name}"), labels, name)


def _shape(result: _Result, where: str) -> Shape:
    value, wide, high = result.value or _Value(), result.original_width, result.original_height
    if result.kind in _NO_REGIONS:
        raise DataError(f"{where}: a {result.kind} marks no region here. Draw it as polygon or brush, or delete it.")
    if wide is None or high is None:
        raise DataError(f"{where}: original_width or original_height is missing. Open the task once and export again.")
    if result.image_rotation:
        raise DataError(f"{where}: was drawn on a turned picture. Turn the picture file and annotate that one.")
    across, down = wide / 100.0, high / 100.0
    match result.kind, value:
        case "rectangle", _Value(x=float(x), y=float(y), width=float(width), height=float(height)):
            corner = (x * across, y * down)
            return turned_box(*corner, width * across, height * down, value.rotation, corner)
        case "ellipse", _Value(x=float(x), y=float(y), radiusX=float(radius_x), radiusY=float(radius_y)):
            return ellipse((x * across, y * down), (radius_x * across, radius_y * down), value.rotation)
        case "polygon", _Value(points=list(points)) if all(map(_is_point, points)):
            return Polygon(tuple((x * across, y * down) for x, y in points))
        case "brush", _Value(rle=list(code)) if all(0 <= number < 256 for number in code):
            return BrushRuns(bytes(code))
    raise DataError(f"{where}: its value is no {result.kind}, wanted {WANTED}. Export it again.")


def _is_point(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(type(one) in (int, float) for one in value)


def _size(results: Sequence[_Result], where: str) -> tuple[int, int] | None:
    sizes = {(one.original_height, one.original_width) for one in results}
    if len(sizes) > 1:
        raise DataError(f"{where}: its shapes were drawn on pictures of different sizes. Annotate it again.")
    for height, width in sizes:
        if height is not None and width is not None:
            return height, width
    return None


def _name(data: Mapping[str, Any], where: str) -> str:
    """The picture's path: of an address its path, of local files what `?d=` says."""
    texts = [value for value in data.values() if isinstance(value, str)]
    try:
        paths = [path for path in map(_path_in, texts) if _is_picture(path)]
    except ValueError as error:
        raise DataError(f"{where}: an address in its data is broken ({error}). Mend it and export again.") from error
    if len(set(paths)) != 1:
        raise DataError(f"{where}: {len(set(paths))} pictures in its data, wanted one. Export a project of pictures.")
    return paths[0]


def _path_in(address: str) -> str:
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path) if parts.scheme else unquote(address.partition("?")[0])


def _is_picture(path: str) -> bool:
    return PurePosixPath(path.replace("\\", "/")).suffix.lower() in SUFFIXES
