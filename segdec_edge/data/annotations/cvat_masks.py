"""CVAT's Segmentation mask 1.1: a folder of coloured masks. Knows no picture of parts.

ImageSets/Segmentation/*.txt lists the pictures, without suffix; SegmentationClass/ holds a mask for each that shows
something; labelmap.txt says which colour is which class, black is background. Instances (SegmentationObject/) are not
needed. Source: docs.cvat.ai, Segmentation Mask.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from segdec_edge.data.annotations.locate import plain_path
from segdec_edge.data.annotations.parse import read_export_file
from segdec_edge.data.annotations.shapes import AnnotatedPicture, Export, MaskFile, Region
from segdec_edge.errors import DataError
from segdec_edge.pictures import decode, read_bytes

LISTS, MASKS, LABELS = "ImageSets/Segmentation", "SegmentationClass", "labelmap.txt"
_INSTANCES = "SegmentationObject"
WANTED = f"CVAT export Segmentation mask 1.1 ({LISTS}/, {MASKS}/, {LABELS})"
_BACKGROUND = "background"
_LINE = re.compile(r"([^:]+):(\d+),(\d+),(\d+):.*")
Value = tuple[int, ...]


def read_cvat_masks(folder: Path) -> Export:
    """Every picture that the export lists; one without a mask, or with a black one, is a good part.

    Raises DataError.
    """
    lists = sorted((folder / LISTS).glob("*.txt"))
    if not lists or not (folder / MASKS).is_dir():
        raise DataError(f"{folder}: no {WANTED}. Unpack the export and give its folder.")
    names = [name.strip() for path in lists for name in _lines(path) if name.strip()]
    labels = _labels(folder / LABELS)
    pictures = tuple(_picture(name, folder, labels) for name in names)
    spare = {path.relative_to(folder / MASKS).with_suffix("").as_posix() for path in (folder / MASKS).rglob("*.png")}
    spare -= {str(plain_path(name, str(folder))) for name in names}
    if spare:
        raise DataError(
            f"{folder / MASKS}: {len(spare)} masks are not in {LISTS}, first {min(spare)}. Export it again."
        )
    return Export(pictures, frozenset(labels.values()) - {_BACKGROUND}, bare_names=True)


def _picture(name: str, folder: Path, labels: dict[Value, str]) -> AnnotatedPicture:
    path = folder / MASKS / f"{plain_path(name, str(folder))}.png"
    if not path.is_file():
        if (instances := folder / _INSTANCES / path.relative_to(folder / MASKS)).is_file():
            raise DataError(f"{instances}: has no counterpart in {MASKS}/. Unpack the whole export again.")
        return AnnotatedPicture(name, None, ())
    regions = []
    for value in _values(path):
        label = labels.get(value)
        if label is None:
            colour = ",".join(map(str, value[::-1]))
            raise DataError(f"{path}: colour {colour} is no class in {LABELS}. Export it again.")
        if label != _BACKGROUND:
            regions.append(Region(MaskFile(path, value), (label,), f"mask of {label}"))
    return AnnotatedPicture(name, None, tuple(regions))


def _values(path: Path) -> list[Value]:
    """The different pixels of a mask, in OpenCV's order: one number, or blue, green, red."""
    pixels = np.atleast_3d(decode(read_bytes(path), str(path)))
    if pixels.shape[2] not in (1, 3) or pixels.dtype != np.uint8:
        raise DataError(
            f"{path}: {pixels.shape[2]} channels of {pixels.dtype}, wanted 1 or 3 of 8 bits. Export it again."
        )
    return [tuple(map(int, value)) for value in np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)]


def _labels(path: Path) -> dict[Value, str]:
    """Pixel value to class: each colour as blue, green, red; one-channel masks hold a grey or the line's number."""
    lines = [line for line in _lines(path) if line.strip() and not line.startswith("#")]
    labels: dict[Value, str] = {(0, 0, 0): _BACKGROUND, (0,): _BACKGROUND}
    for number, line in enumerate(lines):
        match = _LINE.fullmatch(line.strip())
        if not match:
            raise DataError(f"{path}: {line!r}, wanted label:red,green,blue:parts:actions. Export it again.")
        labels.setdefault((number,), match[1])
        blue_green_red = (int(match[4]), int(match[3]), int(match[2]))
        if labels.setdefault(blue_green_red, match[1]) != match[1]:
            raise DataError(
                f"{path}: the colour {','.join(match.groups()[1:])} stands for {labels[blue_green_red]} and for"
                f" {match[1]}, wanted one class a colour. Give them different colours in CVAT and export again."
            )
    for colour, label in [(colour, label) for colour, label in labels.items() if len(set(colour)) == 1]:
        labels[colour[:1]] = label
    return labels


def _lines(path: Path) -> list[str]:
    return read_export_file(path, WANTED).decode(errors="replace").splitlines()
