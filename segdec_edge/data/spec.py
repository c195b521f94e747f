"""One string names a data set everywhere: KIND:PATH,key=value,… (synthetic: no path). Knows no layout on disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from segdec_edge.data.dagm import dagm_dataset
from segdec_edge.data.folder import folder_dataset
from segdec_edge.data.kolektor import kolektor_dataset
from segdec_edge.data.kolektor2 import kolektor2_dataset
from segdec_edge.data.magnetic import magnetic_dataset
from segdec_edge.data.samples import Dataset
from segdec_edge.data.severstal import severstal_dataset
from segdec_edge.data.synthetic import synthetic_samples
from segdec_edge.data.words import take_apart
from segdec_edge.errors import DataError


@dataclass(frozen=True)
class _Form:
    """written: as a user writes it; opens: from spec, path and options; options: the keys that may follow the path."""

    written: str
    opens: Callable[[str, Path, Mapping[str, str]], Dataset]
    options: tuple[str, ...] = ()


_ON_DISK = {
    "folder": _Form("folder:PATH", lambda spec, path, _: folder_dataset(spec, path)),
    "kolektor": _Form("kolektor:PATH", lambda spec, path, _: kolektor_dataset(spec, path)),
    "kolektor2": _Form("kolektor2:PATH", lambda spec, path, _: kolektor2_dataset(spec, path)),
    "dagm": _Form(
        "dagm:PATH,class=1", lambda spec, path, keys: dagm_dataset(spec, path, keys.get("class")), ("class",)
    ),
    "severstal": _Form("severstal:PATH", lambda spec, path, _: severstal_dataset(spec, path)),
    "magnetic": _Form("magnetic:PATH", magnetic_dataset, ("class", "group")),
}

_MOST_SYNTHETIC = 1_000_000
FORMS = f"{', '.join(form.written for form in _ON_DISK.values())} or synthetic:seed=0,n=200,size=256x256"


def open_dataset(spec: str) -> Dataset:
    """Open the data set that a spec names.

    folder:PATH (images/ with masks/, or good/ and defect/); published layouts: kolektor:PATH, kolektor2:PATH,
    dagm:PATH,class=1, severstal:PATH, magnetic:PATH (class=all or a defect's name, group=tile or picture);
    synthetic:seed=0,n=200,size=HEIGHTxWIDTH,defects=0.4 (each key optional).
    Raises DataError.
    """
    kind, _, rest = spec.partition(":")
    if spec.startswith("synthetic:"):
        return _synthetic(spec, rest)
    words, form = take_apart(spec), _ON_DISK.get(kind)
    if form is None or words.path is None or not words.kind:
        raise DataError(f"{spec!r} names no data set, wanted {FORMS}.")
    words.refuse_unknown(spec, form.options)
    return form.opens(spec, words.path, words.options)


def open_to_check(spec: str) -> Dataset:
    """As open_dataset, but files that share a name in a user's folder become findings. Raises DataError."""
    words = take_apart(spec)
    if words.kind != "folder" or words.path is None or words.options:
        return open_dataset(spec)
    return folder_dataset(spec, words.path, to_check=True)


def open_remembered(spec: str, by: Path) -> Dataset:
    """Open the data set that a checkpoint or bundle `by` was made on, by what its spec was then. Raises DataError."""
    try:
        return open_dataset(spec)
    except DataError as error:
        raise DataError(f"{error} {by} remembers {spec}: say where that is seen from here with --data.") from error


def is_on_disk(spec: str) -> bool:
    return not spec.startswith("synthetic:")


def parse_size(text: str) -> tuple[int, int]:
    """'704x256' → (704, 256), height first. Raises DataError."""
    match = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if not match:
        raise DataError(f"size {text!r}, wanted HEIGHTxWIDTH, as 704x256.")
    return int(match[1]), int(match[2])


def _synthetic(spec: str, rest: str) -> Dataset:
    known = {"seed": "0", "n": "200", "size": "256x256", "defects": "0.4"}
    for item in filter(None, rest.split(",")):
        key, _, value = item.partition("=")
        if key not in known:
            raise DataError(f"{spec!r}: unknown key {key!r}, wanted {', '.join(known)}.")
        known[key] = value
    try:
        seed, count, share = int(known["seed"]), int(known["n"]), float(known["defects"])
    except ValueError as error:
        raise DataError(f"{spec!r}: {error}, wanted numbers as in synthetic:seed=0,n=200,size=256x256.") from error
    if not 0 <= seed < 2**63 or not 1 <= count <= _MOST_SYNTHETIC or not 0.0 <= share <= 1.0:
        raise DataError(f"{spec!r}: wanted seed at least 0, n from 1 to {_MOST_SYNTHETIC}, defects between 0 and 1.")
    return Dataset(spec, synthetic_samples(seed, count, parse_size(known["size"]), share))
