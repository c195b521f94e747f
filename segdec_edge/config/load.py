"""TOML into a pydantic model, with every mistake in one error, in the user's words."""

from __future__ import annotations

import datetime
import difflib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from segdec_edge.errors import ConfigError
from segdec_edge.files import from_home

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Settings(BaseModel):
    """Base of every table a user writes: frozen, no unknown keys, no silent conversion between types.

    Fields may be tuples, paths, enums and other tables: an array or a string stands for them in TOML. A whole number is
    fine where a number is wanted; nothing else is converted, and NaN and infinity are refused, and so are paths that no
    file can have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _path_that_can_be(cls, value: Any) -> Any:
        if not isinstance(value, PurePath):
            return value
        name = os.fsencode(value)
        if b"\0" in name:
            raise ValueError(f"{str(value)!a}: no file can have this name. Change it.")
        if len(name) > _LONGEST_PATH or max(map(len, name.split(b"/"))) > _LONGEST_NAME:
            raise ValueError(f"a path of {len(name)} bytes, wanted names up to {_LONGEST_NAME}. Shorten it.")
        return value


Table = TypeVar("Table", bound=Settings)

_LONGEST_PATH, _LONGEST_NAME = 4000, 255
"""In bytes, as Linux has them; a little less for a path, which grows by its folder."""
_LONGEST_LINE = 1000


def load_toml(model: type[Table], path: Path) -> Table:
    """Read and check a TOML file. Raises ConfigError with one line per mistake."""
    return check(model, read_toml(path), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file, unchecked. Raises ConfigError where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows editors begin a file with a byte order mark
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML ({error}). Mend that line.") from error
    return parse_toml(text, str(path))


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """The values of TOML text, unchecked. Raises ConfigError, naming source."""
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError is one, and so is a number of more than 4300 digits
        raise ConfigError(f"{source}: not valid TOML ({clear(str(error))}). Mend that line.") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: {_TOO_DEEP}") from error
    return values


def check(model: type[Table], values: Mapping[str, Any], source: str) -> Table:
    """Check values (as TOML or the command line gave them). Raises ConfigError with one line per mistake."""
    # pydantic's strict mode takes arrays for tuples and strings for paths and enums only when it reads JSON.
    try:
        text = json.dumps(dict(values), default=_text_of)
        return model.model_validate_json(text)
    except ValidationError as error:
        lines = [clear(_line(model, detail)) for detail in error.errors()]
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from error
    except RecursionError as error:
        raise ConfigError(f"{source}: {_TOO_DEEP}") from error
    except ValueError as error:  # of json.dumps
        raise ConfigError(f"{source}: a number of more than 4300 digits, wanted a usual one. Change it.") from error


_TOO_DEEP = "tables or arrays are nested too deep, wanted a few levels. Mend it."


def clear(text: str) -> str:
    """One line that a terminal shows as it is: control characters escaped, the middle of a very long one left out."""
    line = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    if len(line) <= _LONGEST_LINE:
        return line
    return f"{line[: _LONGEST_LINE // 2]} … {line[-_LONGEST_LINE // 2 :]}"


def beside(table: Table, folder: Path) -> Table:
    """The table with each of its paths made absolute; a relative one is relative to folder, ~ is the user's home."""
    paths = {key: folder / from_home(value) for key, value in table if isinstance(value, Path)}
    return table.model_copy(update=paths)


def _text_of(value: object) -> str:
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no setting")


def _line(model: type[BaseModel], detail: Any) -> str:
    key = _written_key(model, detail["loc"])
    match detail["type"]:
        case "json_invalid":  # the text is our own: only its depth can be wrong
            return _TOO_DEEP
        case "extra_forbidden":
            return f"unknown setting {key}.{_suggestion(model, detail['loc'])}"
        case "missing":
            return f"{key} is missing. Add it."
        case "value_error":
            message = str(detail["ctx"]["error"])
            return f"{key}: {message}" if key else message
        case "union_tag_invalid":
            return f"{key}.kind is {detail['ctx']['tag']!r}, wanted {detail['ctx']['expected_tags']}. Change it."
        case "model_type" | "dict_type":
            return f"{key} is {detail['input']!r}: input should be a table. Change it."
        case _:
            return f"{key} is {detail['input']!r}: {detail['msg'][0].lower()}{detail['msg'][1:]}. Change it."


def _suggestion(model: type[BaseModel], location: tuple[str | int, ...]) -> str:
    fields = {name for table in _tables_at(model, location[:-1]) for name in table.model_fields}
    close = difflib.get_close_matches(str(location[-1]), sorted(fields), n=1)
    return f" Did you mean {close[0]}?" if close else f" Known here: {', '.join(sorted(fields))}."


def _written_key(model: type[BaseModel], location: Iterable[str | int]) -> str:
    """A location as the user wrote it: without the tag that pydantic puts in where a table is one of several."""
    return ".".join(str(part) for part, _, is_tag in _walk(model, location) if not is_tag)


def _tables_at(model: type[BaseModel], location: Iterable[str | int]) -> list[type[BaseModel]]:
    """The tables that may stand at a location; more than one where a field allows several."""
    return [[model], *(tables for _, tables, _ in _walk(model, location))][-1]


def _walk(
    model: type[BaseModel], location: Iterable[str | int]
) -> Iterator[tuple[str | int, list[type[BaseModel]], bool]]:
    """Each part of a location, the tables that may stand below it, and whether it is a tag and not a key."""
    tables = [model]
    for part in location:
        named = [table.model_fields[str(part)] for table in tables if str(part) in table.model_fields]
        tagged = [table for table in tables if _has_tag(table, str(part))] if len(tables) > 1 and not named else []
        if named:
            tables = [inner for field in named for inner in _tables_in(field.annotation)]
        tables = tagged or tables
        yield part, tables, bool(tagged)


def _tables_in(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for inner in get_args(annotation) for table in _tables_in(inner)]


def _has_tag(table: type[BaseModel], tag: str) -> bool:
    choices = (field.annotation for field in table.model_fields.values())
    return any(get_origin(choice) is Literal and tag in get_args(choice) for choice in choices)
