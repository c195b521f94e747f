"""Calibration manifests: which pictures INT8 ranges are measured on, with the hash of each. Knows no network.

calibration/parts.toml names training pictures only. What they are chosen for: a range is set by its extremes, and the
histogram under it by the ordinary pictures, so half of the pictures cover the spread of brightness, contrast and
sharpness (farthest-point), and half are drawn at random. Defective ones are half of them where there are enough: they
drive the last layers to values that no good part reaches, and those values decide what is caught.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from segdec_edge.bundle import Bundle
from segdec_edge.config.load import Settings, load_toml
from segdec_edge.data.samples import Dataset, Sample
from segdec_edge.data.spec import open_dataset
from segdec_edge.data.splits import Split
from segdec_edge.data.words import take_apart
from segdec_edge.errors import CalibrationError, PictureError
from segdec_edge.files import make_folder, sha256_of, write_atomic
from segdec_edge.pictures import prepare, refuse_flat
from segdec_edge.types import Pixels

FEWEST = 16
"""Four good and four defective ones for coverage, as many at random: below it one part's lighting decides a range."""
USUAL = 32
_POOL = 1000
_ROBUST = 1.4826  # median absolute deviation to standard deviation, for normal data


class Chosen(Settings):
    """How the pictures were chosen: reproducible from method, count and seed on the same training pictures."""

    method: Literal["coverage"]
    count: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]
    subset: str
    of: Annotated[int, Field(ge=1)]
    split: str


class Picture(Settings):
    """name and part as in the data set; sha256 of the file's bytes, or of shape and pixels where it is generated."""

    name: str
    part: str
    defective: bool
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Manifest(Settings):
    """The whole of a manifest. data: a spec; its path, where relative, starts at the manifest's own folder."""

    format: Literal[1]
    data: str
    size_hw: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    channels: Literal[1, 3]
    chosen: Chosen
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class CalibrationSet:
    """A manifest whose every picture is there and unchanged. sha256 of the manifest's content, as caches name it."""

    path: Path
    manifest: Manifest
    sha256: str
    samples: tuple[Sample, ...]

    def pixels(self) -> Iterator[Pixels]:
        """Each picture as the network takes it, (1, H, W, C) uint8. Raises PictureError."""
        for sample in self.samples:
            yield prepare(sample.read(), self.manifest.size_hw, self.manifest.channels)[None]


def write_manifest(
    path: Path,
    bundle: Bundle,
    data: str,
    *,
    count: int | None = None,
    seed: int = 0,
    all_training: bool = False,
) -> Manifest:
    """Choose training pictures for a bundle's network and write their manifest; nothing else is written.

    count: None for 32, or all where there are fewer.
    all_training: every picture of the data set was trained on or never evaluated on: the user's word, where the bundle
    holds no split. Raises CalibrationError (too few, no split), DataError, StorageError.
    """
    if count is not None and count < FEWEST:
        raise CalibrationError(f"{count} calibration pictures, wanted at least {FEWEST}. Raise --count.")
    dataset = open_dataset(data)
    samples, how = _training_samples(dataset, bundle, all_training)
    count = count or max(FEWEST, min(USUAL, len(samples)))
    chosen, pool = choose(samples, count, seed, bundle.spec.size_hw, bundle.spec.channels)
    manifest = Manifest(
        format=1,
        data=_relative_to(path.parent, data),
        size_hw=bundle.spec.size_hw,
        channels=1 if bundle.spec.channels == 1 else 3,
        chosen=Chosen(method="coverage", count=count, seed=seed, subset="train", of=pool, split=how),
        pictures=tuple(Picture(name=s.name, part=s.part, defective=s.positive, sha256=hash_of(s)) for s in chosen),
    )
    make_folder(path.parent)
    write_atomic(path, to_toml(manifest))
    return manifest


def read_manifest(path: Path, bundle: Bundle | None = None, data: str | None = None) -> CalibrationSet:
    """A manifest with its pictures, each checked. bundle: the network that it is to serve; data: a spec instead of its.

    Raises CalibrationError (too few, a changed or missing picture by name, one that the bundle's split holds out,
    another input size), ConfigError (not a manifest), DataError.
    """
    manifest = load_toml(Manifest, path)
    different = len({picture.name for picture in manifest.pictures})
    if different < max(FEWEST, len(manifest.pictures)):
        twice = ", some of them more than once" if different < len(manifest.pictures) else ""
        raise CalibrationError(f"{path}: names {different} pictures{twice}, wanted at least {FEWEST}. {_again(path)}")
    if bundle is not None:
        _refuse_other_network(path, manifest, bundle)
    dataset = open_dataset(data or _from(path.parent, manifest.data))
    by_name = {sample.name: sample for sample in dataset.samples}
    for picture in manifest.pictures:
        sample = by_name.get(picture.name)
        if sample is None:
            raise CalibrationError(f"{path}: {picture.name} is not in {dataset.spec} any more. {_again(path)}")
        if hash_of(sample) != picture.sha256:
            raise CalibrationError(
                f"{path}: {sample.path or picture.name} is not the picture that was chosen: its hash differs."
                f" {_again(path)}"
            )
    content = hashlib.sha256(json.dumps(manifest.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
    return CalibrationSet(path, manifest, content, tuple(by_name[picture.name] for picture in manifest.pictures))


def manifest_data(calibration: CalibrationSet) -> str:
    """The spec of the data set that a manifest was made from, as it opens from here."""
    return _from(calibration.path.parent, calibration.manifest.data)


def choose(
    samples: Sequence[Sample], count: int, seed: int, size_hw: tuple[int, int], channels: int
) -> tuple[tuple[Sample, ...], int]:
    """`count` of the samples, and from how many usable ones. The same samples and seed give the same choice.

    Of more than a thousand a seeded thousand is looked at, defective ones first. Raises CalibrationError where fewer
    than `count` are readable and have contrast.
    """
    rng = np.random.default_rng(seed)
    shuffled = [samples[i] for i in rng.permutation(len(samples))]
    pool = sorted(shuffled, key=lambda sample: not sample.positive)[: max(_POOL, count)]
    usable, features = _usable(pool, size_hw, channels)
    if len(usable) < count:
        advice = f"Lower --count (at least {FEWEST}), or add pictures." if count > FEWEST else "Add pictures."
        raise CalibrationError(f"{len(usable)} usable training pictures, wanted {count} for calibration. {advice}")
    defective = [i for i, sample in enumerate(usable) if sample.positive]
    good = [i for i, sample in enumerate(usable) if not sample.positive]
    wanted = min(len(defective), max(count // 2, count - len(good)))
    picked = _spread(features, defective, wanted) + _spread(features, good, count - wanted)
    return tuple(sorted((usable[i] for i in picked), key=lambda sample: sample.name)), len(samples)


def hash_of(sample: Sample) -> str:
    """SHA-256 of a sample's file, or of shape and pixels where it is generated. Raises PictureError."""
    if sample.path is None:
        pixels = np.ascontiguousarray(sample.read())
        return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
    try:
        return sha256_of(sample.path)
    except OSError as error:
        raise PictureError(f"{sample.path}: cannot be read ({error.strerror}). Check the file.") from error


def to_toml(manifest: Manifest) -> str:
    """The manifest as TOML; JSON's strings, numbers, booleans and flat arrays are TOML's."""
    lines = ["# Which pictures INT8 calibration uses: training pictures only. Written by segdec calibrate."]
    lines += [f"{key} = {_word(getattr(manifest, key))}" for key in ("format", "data", "size_hw", "channels")]
    lines += ["", "[chosen]", *(f"{key} = {_word(value)}" for key, value in manifest.chosen)]
    for picture in manifest.pictures:
        lines += ["", "[[pictures]]", *(f"{key} = {_word(value)}" for key, value in picture)]
    return "\n".join(lines) + "\n"


def _word(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _training_samples(dataset: Dataset, bundle: Bundle, all_training: bool) -> tuple[Sequence[Sample], str]:
    stored = bundle.split()
    if stored is not None:
        split = Split.from_json(stored)
        return dataset.named(split.train), split.how
    if all_training:
        return dataset.samples, "unknown; all pictures taken for training ones, as told"
    raise CalibrationError(
        f"{bundle.path}: does not say which pictures it was trained on, and none that it is evaluated on may calibrate"
        " it. Where the data set holds training pictures only, say so: --all-training"
    )


def _refuse_other_network(path: Path, manifest: Manifest, bundle: Bundle) -> None:
    found, wanted = (*manifest.size_hw, manifest.channels), (*bundle.spec.size_hw, bundle.spec.channels)
    if found != wanted:
        raise CalibrationError(
            f"{path}: made for {_size(found)} pictures, {bundle.path} takes {_size(wanted)}. {_again(path)}"
        )
    stored = bundle.split()
    if stored is None:
        return
    split = Split.from_json(stored)
    train, held_out = set(split.train), {*split.validation, *split.test}
    for picture in manifest.pictures:
        if picture.name in held_out or picture.name not in train:
            where = "is held out" if picture.name in held_out else "is no training picture"
            raise CalibrationError(f"{path}: {picture.name} {where} by the split of {bundle.path}. {_again(path)}")


def _usable(
    pool: Sequence[Sample], size_hw: tuple[int, int], channels: int
) -> tuple[list[Sample], NDArray[np.float64]]:
    usable, rows = [], []
    for sample in pool:
        try:
            pixels = refuse_flat(prepare(sample.read(), size_hw, channels), sample.name)
        except PictureError:
            continue
        usable.append(sample)
        rows.append(_features(pixels))
    return usable, _standardised(np.array(rows, np.float64))


def _features(pixels: Pixels) -> list[float]:
    """Brightness, contrast, both ends of the grey levels, sharpness: what moves activations as a whole."""
    grey = pixels.astype(np.float32).mean(axis=2)
    low, high = np.percentile(grey, (1, 99))
    sharpness = np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()
    return [float(grey.mean()), float(grey.std()), float(low), float(high), float(sharpness)]


def _standardised(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """By median and median deviation, so that one odd picture does not hide the spread of the others."""
    if not len(rows):
        return rows
    centred = rows - np.median(rows, axis=0)
    spread = _ROBUST * np.median(np.abs(centred), axis=0)
    return centred / np.maximum(spread, 1e-6)


def _spread(features: NDArray[np.float64], among: Sequence[int], count: int) -> list[int]:
    """`count` indices of `among`: half farthest-point from the oddest picture on, half in their (random) order."""
    if count <= 0:
        return []
    near = np.linalg.norm(features[list(among)], axis=1)  # the first one: farthest from the median picture
    picked: list[int] = []
    for _ in range((count + 1) // 2):
        best = int(np.argmax(near))
        picked.append(among[best])
        distance = np.linalg.norm(features[list(among)] - features[among[best]], axis=1)
        near = distance if len(picked) == 1 else np.minimum(near, distance)
    taken = set(picked)
    return picked + [i for i in among if i not in taken][: count - len(picked)]


def _relative_to(folder: Path, spec: str) -> str:
    """The spec with a relative path written as seen from the manifest's folder; absolute, ~ and generated ones stay."""
    return _moved(spec, lambda path: Path(os.path.relpath(path, folder)))


def _from(folder: Path, spec: str) -> str:
    return _moved(spec, lambda path: Path(os.path.normpath(folder / path)))


def _moved(spec: str, move: Callable[[Path], Path]) -> str:
    words = take_apart(spec)
    if words.path is None or words.path.is_absolute():
        return spec
    return ",".join([f"{words.kind}:{move(words.path).as_posix()}", *(f"{k}={v}" for k, v in words.options.items())])


def _size(size: tuple[int, ...]) -> str:
    return "x".join(str(one) for one in size)


def _again(path: Path) -> str:
    return f"Choose the pictures anew: segdec calibrate BUNDLE --data SPEC -o {path}"
