"""DAGM 2007, one class of it: ClassN/{Train,Test}/NNNN.PNG, ellipses in Label/NNNN_label.PNG. Knows no split."""

from __future__ import annotations

import re
from pathlib import Path

from segdec_edge.data.folder import picture_files
from segdec_edge.data.samples import Dataset, FileSample
from segdec_edge.errors import DataError

CLASSES = range(1, 11)
LABELS_LIST = "Labels.txt"
_SUBSETS = ("Train", "Test")
_LABEL_END = "_label"


def dagm_dataset(spec: str, root: Path, number: str | None) -> Dataset:
    """All pictures of class `number` (1 to 10); a picture with a label is defective, its ellipse is the mask.

    The published split is the one into Train and Test. Raises DataError on a wrong class, a missing folder, a label
    without a picture, and a label that Labels.txt lists and that is not there.
    """
    if number is None or not number.isdecimal() or int(number) not in CLASSES:
        raise DataError(f"{spec!r}: class {number or 'not given'}, wanted 1 to 10. Write dagm:PATH,class=1")
    folder = root / f"Class{int(number)}"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give the one that holds Class1 to Class10.")
    samples = {subset: _subset(root, folder / subset) for subset in _SUBSETS}
    everything = sorted((*samples["Train"], *samples["Test"]), key=lambda sample: sample.name)
    return Dataset(spec, tuple(everything), frozenset(sample.name for sample in samples["Test"]))


def _subset(root: Path, folder: Path) -> list[FileSample]:
    pictures = [path for path in picture_files(folder) if path.parent == folder]
    labels = {path.stem.removesuffix(_LABEL_END): path for path in picture_files(folder / "Label")}
    if not pictures or not labels:
        missing = f"{folder}: no pictures" if not pictures else f"{folder / 'Label'}: no labels of defects"
        raise DataError(f"{missing} there, wanted Train and Test with NNNN.PNG and Label/NNNN_label.PNG. Unpack again.")
    _refuse_gaps(folder, {path.stem for path in pictures}, labels)
    return [_sample(root, path, labels.get(path.stem)) for path in pictures]


def _sample(root: Path, path: Path, label: Path | None) -> FileSample:
    name = path.relative_to(root).with_suffix("").as_posix()
    return FileSample(name, name, label is not None, path, label)


def _refuse_gaps(folder: Path, pictures: set[str], labels: dict[str, Path]) -> None:
    lone = sorted(labels.keys() - pictures)
    if lone:
        raise DataError(f"{folder}: {len(lone)} labels have no picture, first {labels[lone[0]].name}. Unpack it again.")
    missing = sorted(_listed(folder / "Label" / LABELS_LIST) - labels.keys())
    if missing:
        raise DataError(
            f"{folder / 'Label'}: {len(missing)} labels of {LABELS_LIST} are not there, first {missing[0]}{_LABEL_END}."
            " Those pictures would count as good: unpack it again."
        )


def _listed(path: Path) -> set[str]:
    """Stems of the label files that the data set's own list names; its other columns say nothing more."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error
    return set(re.findall(rf"(\w+){_LABEL_END}\.png", text, re.IGNORECASE))
