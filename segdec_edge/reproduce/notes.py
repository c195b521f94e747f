"""What has to stand under a table for its figures to be read rightly. Trains nothing and reads no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segdec_edge.config.train import train_settings
from segdec_edge.reproduce.paper import Row, Table
from segdec_edge.reproduce.plan import Job, base_values
from segdec_edge.reproduce.results import FREE, Result

MARK = "*"


def notes(table: Table, jobs: Sequence[Job], changes: Mapping[str, Any], results: Sequence[Result]) -> list[str]:
    """Settings unlike the table's, seeds, precision and versions, and figures that are of other pictures."""
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(job.seed for job in jobs))
    still = [text for key, text in table.notes.items() if key not in changes or changes[key] == table.values.get(key)]
    lines = [*still, *_changed(table, jobs, changes), f"Seeds: {seeds}."]
    measured = sorted({f"{one['precision']} on {one['device']}" for one in results})
    versions = sorted({", ".join(f"{name} {number}" for name, number in one["versions"].items()) for one in results})
    lines += [f"Measured in {'; '.join(measured)}; {'; '.join(versions)}."] if results else []
    lines += [line for row in table.rows if (line := _withheld(row, results))]
    return lines + [line for row in table.rows if (line := _other_pictures(row, results))]


def marked(table: Table, results: Sequence[Result]) -> frozenset[str]:
    """Rows whose figure of the paper is of other pictures than ours."""
    return frozenset(row.key for row in table.rows if _other_pictures(row, results))


def _changed(table: Table, jobs: Sequence[Job], changes: Mapping[str, Any]) -> list[str]:
    asked = {job.row for job in jobs}
    rows = [row for row in table.rows if row.key in asked]
    usual = [train_settings(base_values(table, row, "x:x", 0)).model_dump(mode="json") for row in rows]
    words = []
    for key in changes:
        now, before = _texts(jobs, key), list(dict.fromkeys(_text(key, one[key]) for one in usual))
        if key not in FREE and now != before:
            words.append(f"{key} = {', '.join(now)} (the table's: {', '.join(before)})")
    beside = " The paper's figures are not of these." if any(row.paper for row in rows) else ""
    return [f"Not the table's settings: {'; '.join(words)}.{beside}"] if words else []


def _texts(jobs: Sequence[Job], key: str) -> list[str]:
    return list(dict.fromkeys(_text(key, job.settings.model_dump(mode="json")[key]) for job in jobs))


def _text(key: str, value: Any) -> str:
    if key == "splits" and value:
        return Path(value).name
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _withheld(row: Row, results: Sequence[Result]) -> str:
    mine = [one for one in results if one["row"] == row.key and one.get("masks_withheld")]
    told = dict.fromkeys(f"{one['masks_withheld']} of {one['positives']}" for one in mine)
    return f"{row.title}: {', '.join(told)} defective training pictures without their mask." if told else ""


def _other_pictures(row: Row, results: Sequence[Result]) -> str:
    wanted = row.paper.pictures if row.paper else None
    if wanted is None:
        return ""
    ours = dict.fromkeys(_pictures(one) for one in results if one["row"] == row.key)
    other = [_words(one) for one in ours if one != wanted]
    return f"{MARK} {row.title}: {', '.join(other)}; the paper {_words(wanted)}." if other else ""


def _pictures(result: Result) -> tuple[tuple[int, int], tuple[int, int]]:
    counts = result["evaluation"]["given"]["confusion"]
    tested = (counts["tp"] + counts["fn"], counts["fp"] + counts["tn"])
    return (result["positives"], result["negatives"]), tested


def _words(pictures: tuple[tuple[int, int], tuple[int, int]]) -> str:
    (positives, negatives), tested = pictures
    return f"trained on {positives} defective and {negatives} good, tested on {tested[0]} and {tested[1]}"
