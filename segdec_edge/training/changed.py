"""Whether an earlier training had the settings that are asked for now. Reads no checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import eq
from pathlib import Path
from typing import Any

from segdec_edge.config.train import TrainSettings
from segdec_edge.data.splits import SPLITS_FILE
from segdec_edge.data.words import take_apart
from segdec_edge.files import sha256_of


def changed_settings(asked: TrainSettings, stored: Mapping[str, Any], free: Iterable[str]) -> list[str]:
    """Settings in which an earlier run (its model_dump) differs, as "rate = 0.1 (now 0.2)"; free ones do not count.

    What the earlier run did not know yet had its default. One data set or splits file may be named by two paths, and
    may have moved: one of the same name counts as the earlier one where that is gone. Raises DataError on a data set's
    spec with a doubled key.
    """
    now = asked.model_dump(mode="json")
    before = {name: one.default for name, one in TrainSettings.model_fields.items()} | dict(stored)
    same = {"data": _same_data, "splits": _same_file}
    changed = [key for key in now if key not in free and not same.get(key, eq)(now[key], before[key])]
    return [f"{key} = {before[key]} (now {now[key]})" for key in changed]


def changed_splits(settings: TrainSettings, digest: str) -> Path | None:
    """The splits file, given or beside the pictures, if it is another one than the SHA-256 of the earlier run's.

    digest "": not known, or no file. One that is gone now may have been the same.
    """
    folder = take_apart(settings.data).path
    splits = settings.splits or (folder and folder / SPLITS_FILE)
    return splits if splits and digest and splits.is_file() and sha256_of(splits) != digest else None


def _same_data(now: str, before: str) -> bool:
    one, earlier = take_apart(now), take_apart(before)
    if one.path is None or earlier.path is None or (one.kind, one.options) != (earlier.kind, earlier.options):
        return now == before
    return _same_place(one.path, earlier.path)


def _same_file(now: str | None, before: str | None) -> bool:
    return now == before or (now is not None and before is not None and _same_place(Path(now), Path(before)))


def _same_place(now: Path, before: Path) -> bool:
    moved = now.name == before.name and not before.exists()
    return moved or now.resolve() == before.resolve()
