"""A spec string taken apart: KIND:PATH,key=value,… . Knows no key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from segdec_edge.errors import DataError
from segdec_edge.files import from_home

_GENERATED = frozenset({"synthetic"})
"""Of these kinds nothing lies on disk: only options follow."""

# Options stand at the end, so that a comma in a path stays part of it unless key=value follows it.
_PATH_AND_OPTIONS = re.compile(r"(?P<path>.*?)(?P<options>(?:,[a-z_]+=[^,]*)*)", re.DOTALL)


@dataclass(frozen=True)
class SpecWords:
    """kind: what stands before the colon, "" without one; path: what follows, None where nothing does."""

    kind: str
    path: Path | None
    options: Mapping[str, str]

    def refuse_unknown(self, spec: str, known: Iterable[str]) -> None:
        """Raises DataError naming the first option that is not known."""
        wanted = tuple(known)
        for key in self.options:
            if key not in wanted:
                raise DataError(f"{spec!r}: unknown key {key!r}, wanted {', '.join(wanted) or 'no key, only a path'}.")


def take_apart(spec: str) -> SpecWords:
    """'dagm:~/sets/DAGM,class=1' → dagm, that path with ~ resolved, {class: 1}. Raises DataError on a doubled key."""
    kind, colon, rest = spec.partition(":")
    if kind in _GENERATED and rest:
        rest = f",{rest}"
    match = _PATH_AND_OPTIONS.fullmatch(rest)
    path, options = (match["path"], match["options"]) if match else (rest, "")
    pairs = [item.partition("=")[::2] for item in options.split(",")[1:]]
    if len(dict(pairs)) < len(pairs):
        raise DataError(f"{spec!r}: a key stands there twice, wanted each once. Remove one.")
    return SpecWords(kind if colon else "", from_home(path) if path else None, dict(pairs))


def without_folders(spec: str) -> str:
    """The spec with the last folder alone of its path, for records that travel. Raises DataError as take_apart."""
    words = take_apart(spec)
    return spec if words.path is None else _spec(words, words.path.name)


def with_absolute_path(spec: str) -> str:
    """The spec as it is understood from any folder. Raises DataError as take_apart."""
    words = take_apart(spec)
    return spec if words.path is None else _spec(words, words.path.absolute())


def _spec(words: SpecWords, path: Path | str) -> str:
    return f"{words.kind}:{path}" + "".join(f",{key}={value}" for key, value in words.options.items())
