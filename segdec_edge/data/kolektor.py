"""KolektorSDD as published: kosNN/PartM.jpg with PartM_label.bmp. Knows no fold; splits.py reads those."""

from __future__ import annotations

import re
from pathlib import Path

from segdec_edge.data.samples import Dataset, FileSample, read_mask
from segdec_edge.errors import DataError

_PICTURE = re.compile(r"(Part.*)\.jpg", re.IGNORECASE)
_MASK = re.compile(r"(Part.*)_label\.bmp", re.IGNORECASE)


def kolektor_dataset(spec: str, root: Path) -> Dataset:
    """All pictures below root; an item folder is one physical part; positive where its mask has any defect pixel.

    Raises DataError where the folder is missing or holds no item folders, on a picture without mask and a mask without
    picture, MaskError on an unreadable mask. Source: Tabernik et al. 2019.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Give the one that holds kos01 to kos50.")
    pictures, masks = _files(root, _PICTURE), _files(root, _MASK)
    if not pictures:
        raise DataError(f"{root}: no kosNN/PartM.jpg below it, wanted KolektorSDD's layout. Check the path.")
    for kind, missing in (
        ("pictures have no mask", pictures.keys() - masks),
        ("masks have no picture", masks.keys() - pictures),
    ):
        if missing:
            raise DataError(f"{root}: {len(missing)} {kind}, first {min(missing)}. Unpack the set again.")
    return Dataset(spec, tuple(_sample(name, path, masks[name]) for name, path in pictures.items()))


def _files(root: Path, form: re.Pattern[str]) -> dict[str, Path]:
    """Files whose name fits, sorted, by kosNN/PartM. Suffixes count in either case, as other systems write them."""
    found = {}
    for path in sorted(root.glob("kos*/Part*")):
        if match := form.fullmatch(path.name):
            found[f"{path.parent.name}/{match[1]}"] = path
    return found


def _sample(name: str, path: Path, mask_path: Path) -> FileSample:
    positive = bool(read_mask(mask_path).any())
    return FileSample(name, path.parent.name, positive, path, mask_path if positive else None)
