"""Small pictures and known shapes that the tests of annotation imports share."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segdec_edge.data.annotations.write import Choice, ImportReport, import_annotations
from segdec_edge.data.spec import open_dataset
from segdec_edge.types import BoolMask

SIZE_HW = (24, 32)


def save(path: Path, pixels: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def pictures(folder: Path, *names: str, size_hw: tuple[int, int] = SIZE_HW) -> Path:
    """Noise pictures of these names, all different."""
    for seed, name in enumerate(names):
        save(folder / name, np.random.default_rng(seed).integers(0, 256, size_hw, dtype=np.uint8))
    return folder


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def rectangle(left: int, top: int, right: int, bottom: int) -> BoolMask:
    mask = np.zeros(SIZE_HW, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def three_regions() -> BoolMask:
    """What the run lengths in these tests encode; they were made by pycocotools 2.0.11 and label-studio-converter."""
    return rectangle(8, 5, 20, 12) | rectangle(3, 14, 6, 20) | rectangle(31, 23, 32, 24)


def turned(centre: tuple[float, float], width: float, height: float, degrees: float) -> BoolMask:
    """A box turned clockwise about its centre, pixel by pixel: is the pixel's centre, turned back, in the box?"""
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + 0.5
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along = cosine * (x - centre[0]) + sine * (y - centre[1])
    across = cosine * (y - centre[1]) - sine * (x - centre[0])
    return np.asarray((abs(along) < width / 2) & (abs(across) < height / 2), np.bool_)


def disc(centre: tuple[float, float], radius: float) -> BoolMask:
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + 0.5
    return np.asarray(np.hypot(x - centre[0], y - centre[1]) < radius, np.bool_)


def imported(
    form: str, source: Path, images: Path, out: Path, **choice: Any
) -> tuple[dict[str, BoolMask | None], ImportReport]:
    """Import, open as a data set, and give every picture's mask by name."""
    report = import_annotations(form, source, images, out, Choice(**choice))
    return {sample.name: sample.read_mask() for sample in open_dataset(f"folder:{out}").samples}, report
