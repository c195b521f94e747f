"""MagneticTile as published: MT_CLASS/Imgs/NAME.jpg with masks NAME.png. Knows no split; a tile is one part.

The set holds six shots of each tile, one with each exposure (expN_num_FRAME.jpg), cropped by hand and labelled one by
one. Split by picture, nearly every test picture has its twin in training.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from segdec_edge.data.folder import picture_files
from segdec_edge.data.samples import Dataset, FileSample, read_mask
from segdec_edge.data.twins import Shot, exposure_runs, group_twins, thumbnail_of
from segdec_edge.errors import DataError, MaskError, PictureError
from segdec_edge.pictures import read_bytes
from segdec_edge.types import Pixels

GOOD = "Free"
DEFECTS = ("Blowhole", "Break", "Crack", "Fray", "Uneven")
_NAME = re.compile(r"exp(?P<exposure>\d+)_num_(?P<frame>\d+)")
_SIDE = 32


def magnetic_dataset(spec: str, root: Path, options: Mapping[str, str]) -> Dataset:
    """Tiles without a defect against all defects, or against one: class=all (default), Blowhole, Break, Crack, …

    group=tile (default): a part is all shots of one tile and their near-duplicates; group=picture: each picture is a
    part of its own, so that a random split leaks (to show by how much). An empty mask of a defective tile counts as
    none; one that cannot be read is named when it is read.
    Raises DataError on an unknown option's value, a missing folder, a defect without mask, a mask without picture.
    """
    kind, group = options.get("class", "all"), options.get("group", "tile")
    if kind not in ("all", *DEFECTS):
        raise DataError(f"{spec!r}: class {kind!r}, wanted all, {', '.join(DEFECTS)}.")
    if group not in ("tile", "picture"):
        raise DataError(f"{spec!r}: group {group!r}, wanted tile or picture.")
    found = [one for name in (GOOD, *DEFECTS) if kind in ("all", name) or name == GOOD for one in _of_class(root, name)]
    unmasked = [sample.name for sample in found if not sample.has_mask]
    notes = [f"{len(unmasked)} defective pictures have an empty mask, used as without one: {', '.join(unmasked)}"]
    samples = tuple(sorted(found, key=lambda sample: sample.name))
    if group == "picture":
        return Dataset(spec, samples, notes=tuple(notes if unmasked else ()))
    shots = [_shot(sample) for sample in samples]
    samples = _by_tile(samples, shots)
    return Dataset(spec, samples, notes=(*(notes if unmasked else ()), *_tile_notes(samples, shots)))


def _of_class(root: Path, kind: str) -> list[FileSample]:
    folder = root / f"MT_{kind}" / "Imgs"
    files = list(picture_files(folder))
    masks = {path.stem: path for path in files if path.suffix.lower() == ".png"}
    pictures = {path.stem: path for path in files if path.suffix.lower() == ".jpg"}
    if not pictures:
        raise DataError(f"{folder}: no pictures there. Give the folder that holds MT_{GOOD}, MT_{DEFECTS[0]}, …")
    lone, missing = sorted(masks.keys() - pictures.keys()), sorted(pictures.keys() - masks.keys())
    if lone:
        raise DataError(f"{folder}: {len(lone)} masks have no picture, first {lone[0]}.png. Unpack the data set again.")
    if missing and kind != GOOD:
        raise DataError(f"{folder}: {len(missing)} defects have no mask, first {missing[0]}.jpg. Unpack the set again.")
    return [_sample(f"{kind}/{stem}", path, kind, masks.get(stem)) for stem, path in pictures.items()]


def _sample(name: str, path: Path, kind: str, mask: Path | None) -> FileSample:
    drawn = kind != GOOD and mask is not None and _marks_something(mask)
    return FileSample(name, name, kind != GOOD, path, mask if drawn else None)


def _marks_something(mask: Path) -> bool:
    try:
        return bool(read_mask(mask).any())
    except MaskError:
        return True


def _by_tile(samples: Sequence[FileSample], shots: Sequence[Shot]) -> tuple[FileSample, ...]:
    """The same samples; the part is the name of the tile's first one."""
    tiles = group_twins(shots)
    part_of = {samples[index].name: samples[tile[0]].name for tile in tiles for index in tile}
    return tuple(FileSample(one.name, part_of[one.name], one.positive, one.path, one.mask_path) for one in samples)


def _shot(sample: FileSample) -> Shot:
    match = _NAME.fullmatch(sample.path.stem)
    exposure, frame = (int(match["exposure"]), int(match["frame"])) if match else (None, None)
    quarter = _quarter(sample.path)
    if quarter is None:
        return Shot(sample.name, exposure, frame, (1, 1), None)
    small = cv2.resize(quarter, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    return Shot(sample.name, exposure, frame, (quarter.shape[0], quarter.shape[1]), thumbnail_of(small))


def _quarter(path: Path) -> Pixels | None:
    """The picture in grey at a quarter of its size, decoded as such: a quarter of the time. None where that fails; it
    is named when it is read for its content."""
    try:
        decoded = cv2.imdecode(np.frombuffer(read_bytes(path), np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_4)
    except (PictureError, cv2.error):  # an empty file is an error to OpenCV, any other damage gives None
        return None
    return None if decoded is None else np.asarray(decoded, np.uint8)


def _tile_notes(samples: Sequence[FileSample], shots: Sequence[Shot]) -> list[str]:
    sizes = Counter(sample.part for sample in samples)
    largest = max(sizes.values())
    notes = [f"{len(samples)} pictures in {len(sizes)} groups of one tile and its like, the largest of {largest}"]
    mixed = [run for run in exposure_runs(shots) if len({samples[index].positive for index in run}) > 1]
    if mixed:
        first = ", ".join(samples[run[0]].name for run in mixed)
        notes.append(
            f"{len(mixed)} tiles count as good in some shots and as defective in others, or two were taken for one,"
            f" look at the shots from: {first}"
        )
    return notes
