"""JSON and text of an export, checked as it is read: every other form becomes one line. Knows no format."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from segdec_edge.errors import DataError

Parsed = TypeVar("Parsed")


class Exported(BaseModel):
    """Base of what a tool writes: unknown keys are its own business, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


def parse_json(adapter: TypeAdapter[Parsed], path: Path, wanted: str) -> Parsed:
    """Read a JSON file as what the adapter describes. wanted: what it should be, for messages. Raises DataError."""
    try:
        return adapter.validate_json(read_export_file(path, wanted))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = f"{place}: {first['msg']}" if place else first["msg"]
        raise DataError(f"{path}: no {wanted} ({reason}). Check the format, or export it again.") from error


def read_export_file(path: Path, wanted: str) -> bytes:
    """The bytes of an export file, without a byte order mark. Raises DataError."""
    try:
        data = path.read_bytes()
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder, wanted a file: {wanted}. Give the file in it.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}), wanted {wanted}. Check the path.") from error
    if data.startswith(b"PK\x03\x04"):
        raise DataError(f"{path}: is a zip archive, wanted {wanted}. Unpack it and give what is in it.")
    return data.removeprefix(b"\xef\xbb\xbf")
