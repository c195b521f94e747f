"""Which picture on disk an export means. Knows no format and reads no picture."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from segdec_edge.data.annotations.shapes import AnnotatedPicture, Export
from segdec_edge.data.folder import composed, picture_files, visible_files
from segdec_edge.errors import DataError
from segdec_edge.pictures import SUFFIXES

_Known: TypeAlias = Mapping[PurePosixPath, list[PurePosixPath]]
_NOT_READ = frozenset({".avif", ".dib", ".gif", ".heic", ".jfif", ".jp2", ".jpe", ".pgm", ".ppm", ".tga"})
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded picture."""


@dataclass(frozen=True)
class Found:
    """A picture of the export and its file; below: the file's path below the folder of pictures."""

    picture: AnnotatedPicture
    path: Path
    below: PurePosixPath

    @property
    def name(self) -> str:
        return str(self.below.with_suffix(""))


@dataclass(frozen=True)
class Located:
    """found in the export's order; unlisted: pictures in the folder that the export does not name."""

    found: tuple[Found, ...]
    unlisted: tuple[Path, ...]


def plain_path(name: str, where: str) -> PurePosixPath:
    """A picture's path as an export has it, with forward slashes. Raises DataError where it climbs by `..`."""
    path = PurePosixPath(printable(name, where).replace("\\", "/"))
    if ".." in path.parts or not path.name:
        raise DataError(f"{where}: picture {name!r}, wanted a path that stays below the folder of pictures. Mend it.")
    return path


def printable(name: str, where: str) -> str:
    """The name itself. Raises DataError on control characters, as NUL, which no file system takes, and line breaks."""
    if any(character < " " for character in name):
        raise DataError(f"{where}: picture {name!r}, wanted a name without control characters. Mend it.")
    return name


def locate(export: Export, images: Path, apart: Sequence[Path] = ()) -> Located:
    """Find every picture of an export below a folder, by its path, or with leading folders of the path left away.

    apart: folders in it that hold no pictures of parts, as the export itself.
    Raises DataError, a line for each mistake: pictures that are not there, those found with another number of folders
    left away than the rest, or only without an upload's prefix where others need none, two entries for one file, and
    two files that differ by their suffix alone, which the folder layout cannot hold.
    """
    inside = [folder for folder in apart if folder != images and folder.is_relative_to(images)]
    files = {
        PurePosixPath(path.relative_to(images).as_posix()): path
        for path in picture_files(images)
        if not any(path.is_relative_to(folder) for folder in inside)
    }
    known: dict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
    uploaded: dict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
    for below in files:
        named = PurePosixPath(composed(str(below.with_suffix("") if export.bare_names else below)))
        known[named].append(below)
        uploaded[PurePosixPath(_as_uploaded(str(named)))].append(below)
    found, missing, mistakes = [], [], []
    left_away: dict[int, str] = {}
    stripped: dict[bool, str] = {}
    for picture in export.pictures:
        number, bare, fitting = next(_fitting(picture.name, images, known, uploaded), (0, False, []))
        if fitting:
            left_away.setdefault(number, picture.name)
            stripped.setdefault(bare, picture.name)
        if len(fitting) > 1:
            mistakes.append(f"{picture.name}: {len(fitting)} pictures have this name ({fitting[0]}, {fitting[1]}).")
        elif fitting:
            found.append(Found(picture, files[fitting[0]], fitting[0]))
        else:
            missing.append(picture.name)
    if missing:
        advice = _alike(missing[0], images) or "Give their folder (--images)."
        mistakes.append(f"{len(missing)} pictures of the export are not in {images}, first {missing[0]}. {advice}")
    mistakes += _mixture(left_away, found, export, images) or _half_stripped(stripped, images) or _doubles(found)
    if mistakes:
        raise DataError("\n".join(mistakes))
    taken = {one.below for one in found}
    return Located(tuple(found), tuple(path for below, path in files.items() if below not in taken))


def _fitting(
    name: str, images: Path, known: _Known, uploaded: _Known
) -> Iterator[tuple[int, bool, list[PurePosixPath]]]:
    """How many leading folders are left away, whether what may be an upload's prefix is too, and the files of it."""
    parts = [composed(part) for part in plain_path(name, str(images)).parts if part != "/"]
    for first in range(len(parts)):
        if (path := PurePosixPath(*parts[first:])) in known:
            yield first, False, known[path]
    if prefix := _UPLOADED.match(parts[-1]):
        path = PurePosixPath(parts[-1][prefix.end() :])
        for paths in (known, uploaded):
            if path in paths:
                yield len(parts) - 1, "upload" not in parts[:-1], paths[path]


def _as_uploaded(name: str) -> str:
    """A file's name as Label Studio's server keeps it (Django's get_valid_filename)."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))


def _alike(name: str, images: Path) -> str:
    """What to do where a picture of that name is there but for its letter case or suffix; "" where none is."""
    wanted = composed(plain_path(name, str(images)).stem).casefold()
    for path in visible_files(images):
        if path.suffix.lower() in SUFFIXES | _NOT_READ and composed(path.stem).casefold() == wanted:
            kinds = ", ".join(sorted(SUFFIXES))
            return f"There is {path}: rename it, or save it as one of {kinds}, as the export names it."
    return ""


def _half_stripped(stripped: Mapping[bool, str], images: Path) -> list[str]:
    if len(stripped) < 2:
        return []
    return [
        f"{stripped[True]} is in {images} only without the characters before its -, as names of uploads begin, and"
        f" {stripped[False]} as it stands, wanted one for the whole export: it may be another picture of that name."
        " Give all pictures as they lay for the annotation tool."
    ]


def _mixture(left_away: Mapping[int, str], found: Sequence[Found], export: Export, images: Path) -> list[str]:
    """left_away: number of folders left away → a picture found so. Of two the shorter path may be another picture's."""
    flat = export.own_paths and len({len(one.below.parts) for one in found}) == 1
    if len(left_away) < 2 or flat:
        return []
    (fewer, one), *_, (more, other) = sorted(left_away.items())
    return [
        f"{one} is in {images} with {fewer} leading folders left away, {other} with {more}, wanted one number for the"
        " whole export: it may be another picture of that name. Give all pictures as they lay for the annotation tool."
    ]


def _doubles(found: Sequence[Found]) -> Iterator[str]:
    first: dict[str, Found] = {}
    for one in found:
        before = first.setdefault(one.name, one)
        if before is one:
            continue
        if before.path == one.path:
            names = ", ".join(str(entry.picture.file or entry.picture.name) for entry in (before, one))
            yield f"{one.path}: two entries of the export name it ({names}). Keep one."
        else:
            yield f"{one.path}: {before.path.name} has the same name, wanted one file a name. Rename one."
