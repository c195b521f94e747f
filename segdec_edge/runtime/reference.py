"""Reference pictures: what a bundle's model must score them, wherever it runs. Made by `segdec reference`.

reference/
  00.png …       pictures as the network's training saw them, good and defective
  expected.json  score and label of each, their hashes, how far a score may be off, and the model that gave them

Reads and checks the files; who judges the pictures is station/selfcheck.py.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, ValidationError

from segdec_edge.bundle import DIGEST, REFERENCE, Bundle, digest_of
from segdec_edge.errors import BundleError, PictureError
from segdec_edge.pictures import decode, read_bytes, to_eight_bit
from segdec_edge.record import Record, Sha256, Share
from segdec_edge.types import Pixels

EXPECTED = "expected.json"
FORMAT = 1
_AGAIN = "Make them again: segdec reference {}"


class ReferencePicture(Record):
    """file: beside expected.json; name: in the data set; score and label: by the model at its bundle's threshold."""

    file: Annotated[str, Field(pattern=r"^[0-9]+\.png$")]
    name: str
    sha256: Sha256
    score: Share
    label: Literal["OK", "DEFECT"]


class Reference(Record):
    """tolerance: the largest difference of a score that counts as the same, whatever the runtime and its precision."""

    model_sha256: Sha256
    tolerance: Annotated[float, Field(gt=0, le=1)]
    data: str
    subset: str
    backend: str
    when: AwareDatetime
    pictures: Annotated[tuple[ReferencePicture, ...], Field(min_length=1)]
    format: Literal[1] = 1


def reference_of(bundle: Bundle, folder: Path | None = None) -> tuple[Path, Reference] | None:
    """The reference pictures of a bundle, in its own folder `reference` or in another one; None where it has none.

    Raises BundleError: damaged, of another model, or a folder that was named and is not there.
    """
    place = folder or bundle.path / REFERENCE
    if folder is None and not place.exists():
        return None
    again = _AGAIN.format(bundle.path)
    reference = _read(place / EXPECTED, again)
    if reference.model_sha256 != bundle.meta.model.sha256:
        raise BundleError(
            f"{place}: scores of model {reference.model_sha256[:12]}, the bundle holds {bundle.meta.model.sha256[:12]}."
            f" {again}"
        )
    return place, reference


def read_reference_picture(folder: Path, one: ReferencePicture) -> Pixels:
    """(H, W) or (H, W, 3) BGR. Raises BundleError where it is missing or not the one that was scored."""
    path = folder / one.file
    try:
        data = read_bytes(path)
        if sha256(data).hexdigest() != one.sha256:
            raise BundleError(f"{path}: changed or damaged since it was scored. Copy the bundle again.")
        return to_eight_bit(decode(data, str(path)), str(path))
    except PictureError as error:
        raise BundleError(str(error)) from error


def expected_text(reference: Reference) -> str:
    """What expected.json holds."""
    values = json.loads(reference.model_dump_json())
    return json.dumps({**values, DIGEST: digest_of(values)}, indent=2, ensure_ascii=False) + "\n"


def _read(path: Path, again: str) -> Reference:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"a {type(values).__name__}, wanted an object")
        stored = values.pop(DIGEST, None)
        if stored != digest_of(values):
            raise BundleError(f"{path}: its content is not what its digest says: changed by hand or damaged. {again}")
        return Reference.model_validate_json(json.dumps(values))
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}). {again}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path}: {key}: {first['msg'][0].lower()}{first['msg'][1:]}. {again}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not valid JSON ({' '.join(str(error).split())[:200]}). {again}") from error
