"""Whether an earlier training had the settings that are asked for now. Reads no checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from segdec_edge.config.train import TrainSettings
from segdec_edge.data.words import take_apart


def changed_settings(asked: TrainSettings, stored: Mapping[str, Any], free: Iterable[str]) -> list[str]:
    """Settings in which an earlier run (its model_dump) differs, as "rate = 0.1 (now 0.2)"; free ones do not count.

    What the earlier run did not know yet had its default. One data set may be named by two paths, and may have moved:
    a folder of the same name counts as the earlier one where that is gone. Raises DataError on a data set's spec with
    a doubled key.
    """
    now = asked.model_dump(mode="json")
    before = {name: one.default for name, one in TrainSettings.model_fields.items()} | dict(stored)
    changed = [key for key in now if key not in {*free, "data"} and now[key] != before[key]]
    if not _same_data(now["data"], before["data"]):
        changed.insert(0, "data")
    return [f"{key} = {before[key]} (now {now[key]})" for key in changed]


def _same_data(now: str, before: str) -> bool:
    one, earlier = take_apart(now), take_apart(before)
    if one.path is None or earlier.path is None or (one.kind, one.options) != (earlier.kind, earlier.options):
        return now == before
    moved = one.path.name == earlier.path.name and not earlier.path.exists()
    return moved or one.path.resolve() == earlier.path.resolve()
