"""KolektorSDD2 as published: {train,test}/ID.png with ID_GT.png. Knows no split beyond these folders."""

from __future__ import annotations

from pathlib import Path

from segdec_edge.data.folder import picture_files
from segdec_edge.data.samples import Dataset, FileSample, read_mask
from segdec_edge.errors import DataError, MaskError

_SUBSETS = ("train", "test")
_MASK_END = "_GT"


def kolektor2_dataset(spec: str, root: Path) -> Dataset:
    """All pictures below root, each a part of its own; positive where its mask has any defect pixel.

    A mask that cannot be read counts as a defect here, so that reading it later names it. The published split is the
    one into train and test. Raises DataError on a missing folder, a picture without mask, a mask without picture.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Give the one that holds train and test.")
    samples = {subset: _subset(root / subset) for subset in _SUBSETS}
    everything = sorted((*samples["train"], *samples["test"]), key=lambda sample: sample.name)
    return Dataset(spec, tuple(everything), frozenset(sample.name for sample in samples["test"]))


def _subset(folder: Path) -> list[FileSample]:
    files = [path for path in picture_files(folder) if path.parent == folder]
    masks = {path.stem.removesuffix(_MASK_END): path for path in files if path.stem.endswith(_MASK_END)}
    pictures = {path.stem: path for path in files if not path.stem.endswith(_MASK_END)}
    if not pictures:
        raise DataError(f"{folder}: no pictures there, wanted ID.png with ID_GT.png in train and in test.")
    for kind, missing in (
        ("pictures have no mask", pictures.keys() - masks),
        ("masks have no picture", masks.keys() - pictures),
    ):
        if missing:
            raise DataError(f"{folder}: {len(missing)} {kind}, first {min(missing)}. Unpack the data set again.")
    return [_sample(f"{folder.name}/{stem}", path, masks[stem]) for stem, path in pictures.items()]


def _sample(name: str, path: Path, mask: Path) -> FileSample:
    positive = _marks_something(mask)
    return FileSample(name, name, positive, path, mask if positive else None)


def _marks_something(mask: Path) -> bool:
    try:
        return bool(read_mask(mask).any())
    except MaskError:
        return True
