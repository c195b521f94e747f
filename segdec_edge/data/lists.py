"""Subsets as files a camera can replay: lists of picture paths. Knows no camera."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2

from segdec_edge.data.samples import Dataset, Sample
from segdec_edge.data.splits import SUBSETS, Split
from segdec_edge.errors import StorageError
from segdec_edge.files import make_folder, write_atomic


def write_lists(folder: Path, dataset: Dataset, split: Split) -> dict[Path, int]:
    """Write train.txt, validation.txt and test.txt, absolute paths, one a line; returns how many each holds.

    Pictures of a data set that is generated are written beside the lists first. Raises StorageError.
    """
    make_folder(folder)
    counts = {}
    for subset in SUBSETS:
        samples = dataset.named(split.subset(subset))
        paths = [sample.path or _written(sample, make_folder(folder / subset)) for sample in samples]
        write_atomic(folder / f"{subset}.txt", "".join(f"{path.resolve()}\n" for path in paths))
        counts[folder / f"{subset}.txt"] = len(paths)
    return counts


def write_pictures(folder: Path, samples: Iterable[Sample]) -> int:
    """Write samples as NAME.png into a folder; returns how many. Raises StorageError."""
    make_folder(folder)
    return len([_written(sample, folder) for sample in samples])


def _written(sample: Sample, folder: Path) -> Path:
    path = folder / f"{sample.name}.png"
    done, data = cv2.imencode(".png", sample.read())
    if not done:
        raise StorageError(f"{path}: could not be encoded as PNG. Check the picture.")
    write_atomic(path, data.tobytes())
    return path
