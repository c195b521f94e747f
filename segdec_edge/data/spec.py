"""One string names a data set everywhere: KIND:PATH or KIND:key=value,… . Knows the kinds, not their layouts."""

from __future__ import annotations

import re
from pathlib import Path

from segdec_edge.data.folder import folder_dataset
from segdec_edge.data.kolektor import kolektor_dataset
from segdec_edge.data.samples import Dataset
from segdec_edge.data.synthetic import synthetic_samples
from segdec_edge.errors import DataError

FORMS = "kolektor:PATH, folder:PATH or synthetic:seed=0,n=200,size=256x256"


def open_dataset(spec: str) -> Dataset:
    """Open the data set that a spec names.

    kolektor:PATH; folder:PATH (images/ with masks/, or good/ and defect/);
    synthetic:seed=0,n=200,size=HEIGHTxWIDTH,defects=0.4 (each key optional).
    Raises DataError.
    """
    kind, colon, rest = spec.partition(":")
    match kind if colon else "":
        case "kolektor" if rest:
            return kolektor_dataset(spec, Path(rest).expanduser())
        case "folder" if rest:
            return folder_dataset(spec, Path(rest).expanduser())
        case "synthetic":
            return _synthetic(spec, rest)
    raise DataError(f"{spec!r} names no data set, wanted {FORMS}.")


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
    if seed < 0 or count < 1 or not 0.0 <= share <= 1.0:
        raise DataError(f"{spec!r}: wanted seed at least 0, n at least 1, defects between 0 and 1.")
    return Dataset(spec, synthetic_samples(seed, count, parse_size(known["size"]), share))
