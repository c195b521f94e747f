"""Whose class is a Label Studio PNG mask? task-7-annotation-9-by-ANNOTATOR-CONTROL-CLASS-0.png, all may hold hyphens.

Read from the end by what is known. Knows no export's content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from segdec_edge.errors import DataError

_MASK = re.compile(r"task-(\d+)-annotation-\d+-by-(.+)-\d+\.png")
_ANNOTATOR = re.compile(r"\d*|[^@]*@[^@]*\.[A-Za-z]+")
"""A number, nothing, or a whole e-mail address."""
_Reading: TypeAlias = tuple[str, str, str]
"""Annotator, control, class."""


@dataclass(frozen=True)
class KnownNames:
    """controls and classes as the JSON export uses them together; asked: the classes that a user asked for."""

    pairs: frozenset[tuple[str, str]]
    asked: frozenset[str] = frozenset()


def task_and_class(path: Path, known: KnownNames) -> tuple[int, str]:
    """Raises DataError on a name of another form, and on one that can mean several classes."""
    name = _MASK.fullmatch(path.name)
    readings = list(_readings(name[2])) if name else []
    if not name or not readings:
        raise DataError(f"{path}: wanted task-NUMBER-annotation-NUMBER-by-… as Label Studio names masks. Export again.")
    controls = {control for control, _ in known.pairs}
    narrower: Sequence[Callable[[_Reading], object]] = (
        lambda one: one[1:] in known.pairs,
        lambda one: one[1] in controls,
        lambda one: _ANNOTATOR.fullmatch(one[0]),
        lambda one: "-" not in one[1],
        lambda one: one[2] in known.asked,
    )
    for fits in narrower:
        readings = [one for one in readings if fits(one)] or readings
    classes = sorted({one[2] for one in readings})
    if len(classes) > 1:
        raise DataError(
            f"{path}: its class may be {' or '.join(classes)}, wanted one reading. Say which there are with --classes,"
            " or rename control or class in Label Studio without hyphens and export again."
        )
    return int(name[1]), classes[0]


def _readings(text: str) -> Iterator[_Reading]:
    words = text.split("-")
    for first in range(1, len(words) - 1):
        for second in range(first + 1, len(words)):
            reading = "-".join(words[:first]), "-".join(words[first:second]), "-".join(words[second:])
            if reading[1] and reading[2]:
                yield reading
