"""Which picture on disk an export means. Knows no format and reads no picture."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segdec_edge.data.annotations.shapes import AnnotatedPicture, Export
from segdec_edge.data.folder import picture_files
from segdec_edge.errors import DataError

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
    left away than the rest, two entries for one file, and two files that differ by their suffix alone, which the folder
    layout cannot hold.
    """
    inside = [folder for folder in apart if folder != images and folder.is_relative_to(images)]
    files = {
        PurePosixPath(path.relative_to(images).as_posix()): path
        for path in picture_files(images)
        if not any(path.is_relative_to(folder) for folder in inside)
    }
    known: dict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
    for below in files:
        known[below.with_suffix("") if export.bare_names else below].append(below)
    found, missing, mistakes = [], [], []
    left_away: dict[int, str] = {}
    for picture in export.pictures:
        number, fitting = next(
            ((number, known[name]) for number, name in _candidates(picture.name, images) if name in known), (0, [])
        )
        if fitting:
            left_away.setdefault(number, picture.name)
        if len(fitting) > 1:
            mistakes.append(f"{picture.name}: {len(fitting)} pictures have this name ({fitting[0]}, {fitting[1]}).")
        elif fitting:
            found.append(Found(picture, files[fitting[0]], fitting[0]))
        else:
            missing.append(picture.name)
    if missing:
        mistakes.append(
            f"{len(missing)} pictures of the export are not in {images}, first {missing[0]}."
            " Give their folder (--images)."
        )
    mistakes += _mixture(left_away, found, export, images) or _doubles(found)
    if mistakes:
        raise DataError("\n".join(mistakes))
    taken = {one.below for one in found}
    return Located(tuple(found), tuple(path for below, path in files.items() if below not in taken))


def _candidates(name: str, images: Path) -> Iterator[tuple[int, PurePosixPath]]:
    """How many leading folders are left away, and the path that remains."""
    parts = [part for part in plain_path(name, str(images)).parts if part != "/"]
    for first in range(len(parts)):
        yield first, PurePosixPath(*parts[first:])
    if uploaded := _UPLOADED.match(parts[-1]):
        yield len(parts) - 1, PurePosixPath(parts[-1][uploaded.end() :])


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
