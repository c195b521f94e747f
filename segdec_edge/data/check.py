"""Is a data set fit to train on? Counts, and one line for each thing that is wrong. Knows no split and mends nothing.

A look at every picture, one in memory at a time. Duplicates are found by their decoded pixels, so a lossless copy in
another format counts, and a grey picture saved as colour counts as its grey self; a JPEG saved again does not.
"""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segdec_edge.data.dagm import LABELS_LIST
from segdec_edge.data.exif import refuse_turned
from segdec_edge.data.folder import DEFECT, GOOD, IMAGES, MASKS, composed, lone_mask, visible_files
from segdec_edge.data.samples import Dataset, Sample, read_mask
from segdec_edge.errors import MaskError, PictureError
from segdec_edge.pictures import SUFFIXES, decode, read_bytes, to_eight_bit
from segdec_edge.types import BoolMask

ASPECT_LIMIT = 1.10
"""Largest aspect ratio over smallest. KolektorSDD's cut-outs, 1235 to 1285 high at one width, have 1.04."""
_TWELVE_BITS = 1 << 12
_MASK_ENDS = ("_label", "_GT")  # KolektorSDD and DAGM, KolektorSDD2


@dataclass(frozen=True)
class DefectArea:
    """Defective share of a picture, over the defective parts with a mask; in (0, 1]."""

    smallest: float
    median: float
    largest: float


@dataclass(frozen=True)
class CheckReport:
    """What a data set holds, and what is wrong with it, one line a finding; nothing is wrong where there is none.

    notes: what to know of it that is not wrong, as pictures left out on purpose.
    sizes_hw and channels: value to number of readable pictures, the most frequent first; channels 1 grey, 3 colour.
    """

    spec: str
    pictures: int
    parts: int
    positives: int
    positives_without_mask: int
    sizes_hw: tuple[tuple[tuple[int, int], int], ...]
    channels: tuple[tuple[int, int], ...]
    defect_area: DefectArea | None
    findings: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Look:
    """What one picture showed. size_hw, channels and pixels_hash are None where it could not be read."""

    sample: Sample
    size_hw: tuple[int, int] | None = None
    channels: int | None = None
    pixels_hash: bytes | None = None
    sixteen_bit: bool = False
    looks_twelve_bit: bool = False
    mask_hash: bytes = b""
    area: float = 0.0
    findings: tuple[str, ...] = ()


def check_dataset(
    dataset: Dataset, root: Path | None, progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Look at every picture and mask of a data set.

    root: its folder, searched for files that belong to no picture; None for a generated one.
    progress: called after each picture with how many are done and how many there are.
    """
    beside = _Beside.of(dataset, root) if root is not None else _Beside({}, ())
    looks = []
    for sample in dataset.samples:
        looks.append(_look(sample, beside.mask_of_good.get(sample.name)))
        if progress is not None:
            progress(len(looks), len(dataset.samples))
    findings = [
        *dataset.findings,
        *(line for look in looks for line in look.findings),
        *beside.findings,
        *_whole_set_findings(looks),
    ]
    return _report(dataset, looks, findings)


def render(report: CheckReport) -> str:
    """The report as plain text for a terminal, findings last, one a line."""
    good = report.pictures - report.positives
    unmasked = f" ({report.positives_without_mask} without a mask)" if report.positives_without_mask else ""
    lines = [
        f"data set      {report.spec}",
        f"pictures      {report.pictures} of {_count(report.parts, 'part')}",
        f"labels        {good} good, {report.positives} defective{unmasked}",
        f"sizes (h×w)   {_sizes_text(report.sizes_hw)}",
        f"channels      {', '.join(f'{_channels_text(value)} {count}' for value, count in report.channels) or 'none'}",
    ]
    if area := report.defect_area:
        shares = (f"{100 * share:.3g} %" for share in (area.smallest, area.median, area.largest))
        lines.append("defect area   smallest {}, median {}, largest {} of the picture".format(*shares))
    lines += [f"note          {note}" for note in report.notes]
    lines.append(f"findings      {len(report.findings) or 'none'}")
    return "\n".join([*lines, *(f"  {finding}" for finding in report.findings)])


@dataclass(frozen=True)
class _Beside:
    """Files below the root that no sample names: masks of good parts by the sample's name, and what is wrong."""

    mask_of_good: Mapping[str, Path]
    findings: tuple[str, ...]

    @staticmethod
    def of(dataset: Dataset, root: Path) -> _Beside:
        pictures = {sample.path: sample for sample in dataset.samples if sample.path is not None}
        by_place = {_place(path.relative_to(root)): sample.name for path, sample in pictures.items()}
        used = {*pictures, *(getattr(sample, "mask_path", None) for sample in dataset.samples)}
        mask_of_good, findings = {}, []
        for path in _files_among(pictures, root):
            if path in used or path in dataset.left_out or path.name == LABELS_LIST:
                continue
            place = _place(path.relative_to(root))
            owner = by_place.get(place) or by_place.get(f"{GOOD}/{place}")
            if owner is not None and path.suffix.lower() in SUFFIXES:
                mask_of_good[owner] = path
            else:
                findings.append(_stray_line(path, path.relative_to(root)))
        return _Beside(mask_of_good, tuple(findings))


def _files_among(pictures: Iterable[Path], root: Path) -> Iterator[Path]:
    # Only where pictures and masks lie: lists, licences and results beside them are the user's own affair.
    for folder in sorted({path.relative_to(root).parts[0] for path in pictures} | {MASKS}):
        yield from visible_files(root / folder)


def _place(relative: Path) -> str:
    """What a picture and its mask share: the path without suffix, layout folder and a published set's mask ending."""
    stem = composed(relative.with_suffix("").as_posix())
    if relative.parts[0] in (IMAGES, DEFECT, MASKS):
        return stem.partition("/")[2]
    if relative.parts[0] == GOOD:
        return stem
    return next((stem.removesuffix(end) for end in _MASK_ENDS if stem.endswith(end)), stem)


def _stray_line(path: Path, relative: Path) -> str:
    if path.suffix.lower() not in SUFFIXES:
        return f"{path}: is no picture by its name. Move it out of the pictures' folder."
    if relative.parts[0] == MASKS or path.stem.endswith(_MASK_ENDS):
        return lone_mask(path)
    return f"{path}: is left out, its name does not fit the layout. Rename it, or move it out of the pictures' folder."


def _look(sample: Sample, mask_of_good: Path | None) -> _Look:
    try:
        raw, size_hw = _read(sample)
    except PictureError as error:
        return _Look(sample, findings=(str(error), *_read_mask(sample, mask_of_good, None)[1]))
    mask, findings = _read_mask(sample, mask_of_good, size_hw)
    findings += tuple(_turned(sample, mask))
    deep, area = raw.dtype == np.uint16, 0.0 if mask is None else float(mask.mean())
    return _Look(
        sample,
        size_hw,
        channels=3 if raw.ndim == 3 and raw.shape[2] >= 3 else 1,
        pixels_hash=_pixels_hash(raw),
        sixteen_bit=deep,
        looks_twelve_bit=deep and 0 < int(raw.max()) < _TWELVE_BITS,
        mask_hash=b"" if mask is None or area == 0 else hashlib.sha256(np.packbits(mask).tobytes()).digest(),
        area=area,
        findings=findings,
    )


def _read(sample: Sample) -> tuple[NDArray[Any], tuple[int, int]]:
    """The picture's pixels in their own depth, and its size. Raises PictureError wherever training would."""
    if sample.path is None:
        raw: NDArray[Any] = sample.read()
    else:
        raw = decode(read_bytes(sample.path), str(sample.path))
        to_eight_bit(raw, str(sample.path))
    return raw, (int(raw.shape[0]), int(raw.shape[1]))


def _read_mask(
    sample: Sample, mask_of_good: Path | None, size_hw: tuple[int, int] | None
) -> tuple[BoolMask | None, tuple[str, ...]]:
    try:
        mask = sample.read_mask() if mask_of_good is None else read_mask(mask_of_good)
    except MaskError as error:
        return None, (str(error),)
    return (None, ()) if mask is None else (mask, tuple(_mask_findings(sample, mask, size_hw)))


def _turned(sample: Sample, mask: BoolMask | None) -> Iterator[str]:
    if mask is None or not mask.any() or sample.path is None:
        return
    try:
        refuse_turned(read_bytes(sample.path), str(sample.path))
    except PictureError as error:
        yield str(error)


def _mask_findings(sample: Sample, mask: BoolMask, size_hw: tuple[int, int] | None) -> Iterator[str]:
    if size_hw is not None and mask.shape != size_hw:
        yield (
            f"{sample.name}: its mask is {_size_text(mask.shape)} (h×w), the picture {_size_text(size_hw)}."
            " Draw the mask again at the picture's size."
        )
    if sample.positive and not mask.any():
        yield f"{sample.name}: counts as defective, but its mask is empty. Draw the defect, or sort it with the good."
    if not sample.positive and mask.any():
        yield f"{sample.name}: counts as good, but its mask marks a defect. Move it to the defective, or drop the mask."


def _pixels_hash(raw: NDArray[Any]) -> bytes:
    colour = raw[:, :, :3] if raw.ndim == 3 and raw.shape[2] >= 3 else raw.reshape(raw.shape[0], raw.shape[1], 1)
    if (colour == colour[:, :, :1]).all():
        colour = colour[:, :, :1]
    digest = hashlib.sha256(f"{colour.shape} {colour.dtype}".encode())
    digest.update(np.ascontiguousarray(colour).tobytes())
    return digest.digest()


def _whole_set_findings(looks: list[_Look]) -> Iterator[str]:
    yield from _label_findings(looks)
    yield from _form_findings(looks)
    yield from _duplicate_findings(looks)


def _label_findings(looks: list[_Look]) -> Iterator[str]:
    positives = sum(look.sample.positive for look in looks)
    if positives == 0:
        yield f"none of {_count(len(looks), 'picture')} is defective. Training needs both kinds: add defective parts."
    if positives == len(looks):
        yield f"all of {_count(len(looks), 'picture')} are defective. Training needs both kinds: add good parts."


def _form_findings(looks: list[_Look]) -> Iterator[str]:
    channels = Counter(look.channels for look in looks if look.channels is not None)
    if len(channels) > 1:
        rarer = min(channels, key=lambda value: channels[value])
        first = next(look.sample.name for look in looks if look.channels == rarer)
        mixed = " and ".join(f"{channels[value]} {_channels_text(value)}" for value in sorted(channels))
        yield f"{mixed} pictures are mixed, first {_channels_text(rarer)} one {first}. Save them all alike."
    wide = sorted((look.size_hw[1] / look.size_hw[0], look.sample.name, look.size_hw) for look in looks if look.size_hw)
    if wide and wide[-1][0] > ASPECT_LIMIT * wide[0][0]:
        tall, flat = (f"{name} {_size_text(size_hw)}" for _, name, size_hw in (wide[0], wide[-1]))
        yield f"shapes differ: {tall}, {flat} (h×w). Resizing distorts such pictures unlike: crop them to one shape."
    dark = [look.sample.name for look in looks if look.looks_twelve_bit]
    if dark:
        deep = sum(look.sixteen_bit for look in looks)
        yield (
            f"{len(dark)} of {_count(deep, '16-bit picture')} hold no value above {_TWELVE_BITS - 1}, first {dark[0]}:"
            " 12-bit data would turn almost black. Multiply it by 16, or save it with 8 bits."
        )


def _duplicate_findings(looks: list[_Look]) -> Iterator[str]:
    """One line for each set of parts that share pictures, and for each part that repeats its own."""
    copies: dict[bytes, list[_Look]] = {}
    for look in looks:
        if look.pixels_hash is not None:
            copies.setdefault(look.pixels_hash, []).append(look)
    by_parts: dict[tuple[str, ...], list[list[_Look]]] = {}
    for group in copies.values():
        if len(group) > 1:
            by_parts.setdefault(tuple(sorted({look.sample.part for look in group})), []).append(group)
    for parts, groups in sorted(by_parts.items()):
        yield _duplicate_line(parts, groups)


def _duplicate_line(parts: tuple[str, ...], groups: list[list[_Look]]) -> str:
    example = " = ".join(look.sample.name for look in groups[0])
    other_labels = sum(len({look.sample.positive for look in group}) > 1 for group in groups)
    other_masks = sum(len({(look.sample.positive, look.mask_hash) for look in group}) > 1 for group in groups)
    told = [f"duplicates: {_count(len(groups), 'picture')} more than once, first {example}"]
    if other_labels:
        told.append(f"{other_labels} with different labels")
    if other_masks > other_labels:
        told.append(f"{other_masks - other_labels} with different masks")
    if len(parts) == 1:
        return f"{', '.join(told)}, all in part {parts[0]}. Keep one of each."
    told.append(f"in different parts ({', '.join(parts)})")
    return f"{', '.join(told)}: a split by part can leak. Keep one of each, or give them one part."


def _report(dataset: Dataset, looks: list[_Look], findings: Iterable[str]) -> CheckReport:
    areas = [look.area for look in looks if look.area > 0 and look.sample.positive]
    positives = [look.sample for look in looks if look.sample.positive]
    return CheckReport(
        spec=dataset.spec,
        pictures=len(looks),
        parts=len({look.sample.part for look in looks}),
        positives=len(positives),
        positives_without_mask=sum(not sample.has_mask for sample in positives),
        sizes_hw=tuple(Counter(look.size_hw for look in looks if look.size_hw is not None).most_common()),
        channels=tuple(Counter(look.channels for look in looks if look.channels is not None).most_common()),
        defect_area=DefectArea(min(areas), statistics.median(areas), max(areas)) if areas else None,
        findings=tuple(findings),
        notes=dataset.notes,
    )


def _sizes_text(sizes_hw: tuple[tuple[tuple[int, int], int], ...]) -> str:
    if len(sizes_hw) <= 4:
        return ", ".join(f"{_size_text(size)} {count}" for size, count in sizes_hw) or "none"
    high, wide = (_range_text([size[axis] for size, _ in sizes_hw]) for axis in (0, 1))
    most, count = sizes_hw[0]
    return f"{high} high, {wide} wide, {len(sizes_hw)} sizes, most often {_size_text(most)} {count}"


def _range_text(values: list[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _size_text(size_hw: tuple[int, ...]) -> str:
    return "×".join(str(side) for side in size_hw)


def _channels_text(channels: int) -> str:
    return "grey" if channels == 1 else "colour"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
