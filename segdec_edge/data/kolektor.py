"""KolektorSDD as published: kosNN/PartM.jpg with PartM_label.bmp. Knows no fold; splits.py reads those."""

from __future__ import annotations

from pathlib import Path

from segdec_edge.data.samples import Dataset, FileSample, read_mask
from segdec_edge.errors import DataError


def kolektor_dataset(spec: str, root: Path) -> Dataset:
    """All pictures below root; an item folder is one physical part; positive where its mask has any defect pixel.

    Raises DataError where the folder is missing or holds no item folders, MaskError on an unreadable mask.
    Source: Tabernik et al. 2019.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Give the one that holds kos01 to kos50.")
    pictures = sorted(root.glob("kos*/Part*.jpg"))
    if not pictures:
        raise DataError(f"{root}: no kosNN/PartM.jpg below it, wanted KolektorSDD's layout. Check the path.")
    return Dataset(spec, tuple(_sample(path) for path in pictures))


def _sample(path: Path) -> FileSample:
    part = path.parent.name
    mask_path = path.with_name(f"{path.stem}_label.bmp")
    if not mask_path.is_file():
        raise DataError(f"{path}: its mask {mask_path.name} is not there, wanted one a picture. Unpack the set again.")
    positive = bool(read_mask(mask_path).any())
    return FileSample(f"{part}/{path.stem}", part, positive, path, mask_path if positive else None)
