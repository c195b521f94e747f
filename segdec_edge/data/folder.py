"""Users' own pictures: a folder in one of two layouts becomes a data set. Knows no split and judges no content.

images/ + masks/         masks/ holds a mask of the same name for each defective part, in any picture format. A picture
                         without a mask, or with an all-black one, is a good part.
good/ + defect/ (+ masks/)   a picture in defect/ is defective, with or without a mask of the same name in masks/.

Sub-folders are allowed below each, masks/ repeats them. A split never divides one physical part. Which part a picture
shows is said by, in this order: parts.csv (header name,part; one line for each picture); the first sub-folder it lies
in; else each picture shows a part of its own. Names starting with a dot, and Windows' own files, are left out.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

from segdec_edge.data.samples import Dataset, FileSample, read_mask
from segdec_edge.data.tables import csv_rows, shown
from segdec_edge.errors import DataError, MaskError
from segdec_edge.pictures import SUFFIXES

IMAGES, GOOD, DEFECT, MASKS, PARTS = "images", "good", "defect", "masks", "parts.csv"
_WINDOWS_OWN = frozenset({"desktop.ini", "thumbs.db"})
_LAYOUTS = f"{IMAGES}/ with {MASKS}/, or {GOOD}/ and {DEFECT}/"


def folder_dataset(spec: str, root: Path, *, to_check: bool = False) -> Dataset:
    """All pictures below root, in one of the two layouts.

    Names are paths below images/ without suffix, or good/… and defect/… so that both may count from 1.
    A mask that cannot be read counts as a defect here, so that reading it later names it. to_check: of files with one
    name the first is taken and the others are findings, so that a check can tell what else is wrong.
    Raises DataError where the folder or a layout is missing, both are there, no picture is there, two files have one
    name, or parts.csv and the pictures do not fit together.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Give the one that holds {_LAYOUTS}.")
    doubled: dict[Path, str] = {}
    masks = {composed(name): path for name, path in _by_name(root / MASKS, doubled).items()}
    samples = _with_masks(root, masks, doubled) if _has_images(root) else _sorted_by_hand(root, masks, doubled)
    wrong = [*doubled.values(), *_strays(root, masks, {_below(root, sample.path) for sample in samples})]
    if wrong and not to_check:
        raise DataError(wrong[0])
    parts = _read_parts(root / PARTS, {sample.name for sample in samples})
    if parts:
        samples = [FileSample(one.name, parts[one.name], one.positive, one.path, one.mask_path) for one in samples]
    in_order = tuple(sorted(samples, key=lambda sample: sample.name))
    return Dataset(spec, in_order, left_out=frozenset(doubled), findings=tuple(doubled.values()))


def composed(name: str) -> str:
    """A name with each accented letter as one character: a Mac writes two, and both look alike."""
    return unicodedata.normalize("NFC", name)


def lone_mask(path: Path) -> str:
    return f"{path}: a mask without a picture of that name. Add the picture, or rename the mask."


def picture_files(folder: Path) -> Iterator[Path]:
    """Every picture below a folder by its suffix, sorted; none where it does not exist."""
    return (path for path in visible_files(folder) if path.suffix.lower() in SUFFIXES)


def visible_files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, sorted, without those in or under a name that starts with a dot; links are followed.

    Raises DataError on a folder that cannot be read and a link that leads nowhere or round in a circle.
    """
    return _visible(folder, ()) if folder.is_dir() else iter(())


def _visible(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:
        raise DataError(f"{folder}: a link to a folder that it lies in. Remove it.")
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}). Check its permissions.") from error
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith(".") or entry.name.lower() in _WINDOWS_OWN:
            continue
        if entry.is_dir():
            yield from _visible(path, (*above, real))
        elif entry.is_file():
            yield path
        elif entry.is_symlink():
            raise DataError(f"{path}: a link to nothing. Remove it, or bring back {os.path.realpath(path)}.")


def _has_images(root: Path) -> bool:
    """Which layout it is. Raises DataError on both or neither."""
    there = [name for name in (IMAGES, GOOD, DEFECT) if (root / name).is_dir()]
    if not there:
        found = (
            "it is empty" if not any(root.iterdir()) else f"{len(list(picture_files(root)))} pictures, but no layout"
        )
        raise DataError(f"{root}: {found}, wanted {_LAYOUTS}. Sort the pictures into these folders.")
    if IMAGES in there and len(there) > 1:
        raise DataError(f"{root}: both layouts are there ({'/, '.join(there)}/), wanted {_LAYOUTS}. Keep one of them.")
    return there == [IMAGES]


def _with_masks(root: Path, masks: Mapping[str, Path], doubled: dict[Path, str]) -> list[FileSample]:
    samples = []
    for name, path in _by_name(root / IMAGES, doubled).items():
        mask_path = masks.get(composed(name))
        positive = mask_path is not None and _marks_something(mask_path)
        samples.append(FileSample(name, default_part(name), positive, path, mask_path if positive else None))
    return samples


def _sorted_by_hand(root: Path, masks: Mapping[str, Path], doubled: dict[Path, str]) -> list[FileSample]:
    samples = []
    for kind in (GOOD, DEFECT):
        for below, path in _by_name(root / kind, doubled).items():
            name, positive = f"{kind}/{below}", kind == DEFECT
            part = default_part(below) if "/" in below else name
            samples.append(FileSample(name, part, positive, path, masks.get(composed(below)) if positive else None))
    return samples


def _below(root: Path, picture: Path) -> str:
    """A picture's path below images/, good/ or defect/ without suffix, as its mask's name must be."""
    return composed(PurePosixPath(*picture.relative_to(root).parts[1:]).with_suffix("").as_posix())


def _strays(root: Path, masks: Mapping[str, Path], pictures: Collection[str]) -> Iterator[str]:
    """Files in masks/ that no picture uses: a defect would count as a good part, or be trained without its mask."""
    yield from (lone_mask(path) for name, path in masks.items() if name not in pictures)
    for path in visible_files(root / MASKS):
        name = composed(path.relative_to(root / MASKS).with_suffix("").as_posix())
        if path.suffix.lower() not in SUFFIXES and name in pictures and name not in masks:
            yield f"{path}: the only mask of {name}, and no picture by its name. Save it as PNG."


def _by_name(folder: Path, doubled: dict[Path, str]) -> dict[str, Path]:
    """Pictures below a folder by their path in it, without suffix. Of two with one name the second goes to doubled,
    with what is wrong. Raises DataError on a name that is no UTF-8."""
    found: dict[str, Path] = {}
    for path in picture_files(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{str(path)!a}: its name is no UTF-8, so no list could hold it. Rename the file."
            ) from None
        if name in found:
            doubled[path] = f"{path}: {found[name].name} has the same name, wanted one file a name. Rename one."
        found.setdefault(name, path)
    return found


def default_part(name: str) -> str:
    """The part that a picture shows where no list says: the first folder of its name, else the name."""
    return PurePosixPath(name).parts[0]


def _marks_something(mask_path: Path) -> bool:
    try:
        return bool(read_mask(mask_path).any())
    except MaskError:
        return True


def _read_parts(path: Path, names: set[str]) -> dict[str, str]:
    """parts.csv as picture name → part; empty where there is no such file. Raises DataError."""
    if not path.is_file():
        return {}
    parts: dict[str, str] = {}
    for number, (cell, part) in _rows(path):
        name = listed_name(cell, names)
        if parts.setdefault(name, part) != part:
            raise DataError(f"{path}, line {number}: {name} is part {parts[name]} above and {part} here. Keep one.")
    unknown, missing = sorted(parts.keys() - names), sorted(names - parts.keys())
    if unknown:
        raise DataError(f"{path}: {len(unknown)} names are no pictures, first {unknown[0]}. Remove or correct them.")
    if missing:
        raise DataError(f"{path}: {len(missing)} pictures have no line, first {missing[0]}. Add name,part for each.")
    return parts


def _rows(path: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    """Line number, then name as it stands and part. Raises DataError on anything but two filled columns."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # spreadsheets begin a file with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Save it as CSV in UTF-8.") from error
    rows = csv_rows(lines, path)
    header = [cell.strip() for cell in next(rows, (1, []))[1]]
    if header != ["name", "part"]:
        raise DataError(f"{path}: the first line is {shown(header)}, wanted 'name,part'. Save it with commas.")
    for number, row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) != 2 or not all(cells):
            raise DataError(f"{path}, line {number}: {shown(row)}, wanted a name and a part. Correct that line.")
        yield number, (row[0], cells[1])


def listed_name(entry: str, names: Collection[str]) -> str:
    """The picture that an entry of a list means: its name, the same with a suffix, blanks about it or backslashes."""
    slashed = entry.replace("\\", "/")
    path = PurePosixPath(slashed.strip())
    bare = str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path)
    return next((one for one in (entry, slashed, slashed.strip(), bare) if one in names), bare)
