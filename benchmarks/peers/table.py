"""From what was measured to rows and a Markdown table: pure, knows no process and no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from segdec_edge.errors import DataError
from segdec_edge.evaluation.metrics import average_precision, confusion
from segdec_edge.evaluation.thresholds import best_f_threshold
from segdec_edge.timing import Floats, Sitting, outlier_flag, quantile, ratio_interval, stage_of

TOTAL, INFER = "total", "infer"
NOTHING = "–"


@dataclass(frozen=True)
class Marks:
    """Accuracy on the timed subset; changed: verdicts other than the plain peer's."""

    ap: float | None
    fp: int
    fn: int
    pictures: int
    threshold: float
    changed: int | None = None


@dataclass
class Row:
    """One peer. Milliseconds of a picture from pixels in memory to verdict (total), and of inference alone."""

    name: str
    precision: str
    p50: float
    p95: float
    infer_p50: float | None
    times_faster: float
    low: float | None
    high: float | None
    versions: Mapping[str, str]
    load_ms: Sequence[float]
    peak_mib: float | None = None
    pictures_per_s: float | None = None
    pictures_per_s_samples: Sequence[float] = ()
    install_mb: float | None = None
    lines: int | None = None
    marks: Marks | None = None
    notes: list[str] = field(default_factory=list)


def timed_row(
    name: str,
    plain: str,
    sittings: Sequence[Sitting[str]],
    told: Mapping[str, str],
    opened: Sequence[Mapping[str, Any]],
) -> Row:
    """opened: a peer's answers to "open", one a sitting."""
    total = stage_of(sittings, name, TOTAL)
    infer = _stage(sittings, name)
    ratio = ratio_interval(stage_of(sittings, plain, TOTAL), total)
    row = Row(
        name=name,
        precision=told.get("precision", ""),
        p50=quantile(total, 0.5),
        p95=quantile(total, 0.95),
        infer_p50=None if infer is None else quantile(infer, 0.5),
        times_faster=ratio.ratio,
        low=ratio.low,
        high=ratio.high,
        versions=opened[0]["versions"],
        load_ms=[round(one["load_ms"], 1) for one in opened],
    )
    flag = outlier_flag(total)
    if flag:
        row.notes.append(flag)
    return row


def _stage(sittings: Sequence[Sitting[str]], name: str) -> Floats | None:
    return stage_of(sittings, name, INFER) if INFER in sittings[0].samples[name][0] else None


def marks_of(labels: Sequence[bool], scores: Sequence[float], threshold: float) -> Marks:
    """ap None where one kind of part is missing. Raises DataError on NaN."""
    found = confusion(labels, scores, threshold)
    both = 0 < sum(labels) < len(labels)
    return Marks(average_precision(labels, scores) if both else None, found.fp, found.fn, len(labels), threshold)


def changed_verdicts(plain: Sequence[float], at: float, scores: Sequence[float], threshold: float) -> int:
    """Pictures that one side flags and the other does not."""
    return int(((np.asarray(plain) >= at) != (np.asarray(scores) >= threshold)).sum())


def picked_threshold(labels: Sequence[bool], scores: Sequence[float]) -> float:
    """The best F-measure's on training pictures, 0.5 where they show nothing of both kinds."""
    try:
        return best_f_threshold(labels, scores)
    except DataError:
        return 0.5


def lines_of(snippet: str) -> int:
    """Lines of code: neither empty nor a comment alone."""
    return sum(1 for line in snippet.splitlines() if line.strip() and not line.strip().startswith("#"))


def samples_of(sittings: Sequence[Sitting[str]], name: str) -> dict[str, list[list[float]]]:
    """Raw milliseconds by stage, a list a sitting, to a tenth of a microsecond."""
    stages = sittings[0].samples[name][0]
    return {stage: np.round(stage_of(sittings, name, stage), 4).tolist() for stage in stages}


def plain_values(row: Row) -> dict[str, Any]:
    return asdict(row)


def markdown(rows: Sequence[Row], not_run: Mapping[str, str], notes: Sequence[str]) -> str:
    """The table, what did not run and why, and what must be known. Generated: no figure is ever typed."""
    titles = ("peer", "precision", "p50 ms", "p95 ms", "inference p50", "times faster (95 %)", "pictures/s", "AP", "FP",
              "FN", "verdicts changed", "peak MiB", "install MB", "lines")  # fmt: skip
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    told = [f"- {row.name}: {note.rstrip('.')}." for row in rows for note in row.notes]
    refused = [f"- not run: {name}: {reason.rstrip('.')}." for name, reason in not_run.items()]
    return "\n".join([*lines, "", *(f"- {note.rstrip('.')}." for note in notes), *told, *refused]) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    marks = row.marks
    return (
        row.name,
        row.precision,
        _number(row.p50, 1),
        _number(row.p95, 1),
        _number(row.infer_p50, 1),
        _ratio(row),
        _number(row.pictures_per_s, 1),
        _number(marks.ap, 4) if marks else NOTHING,
        str(marks.fp) if marks else NOTHING,
        str(marks.fn) if marks else NOTHING,
        NOTHING if marks is None or marks.changed is None else str(marks.changed),
        _number(row.peak_mib, 0),
        _number(row.install_mb, 0),
        NOTHING if row.lines is None else str(row.lines),
    )


def _number(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def _ratio(row: Row) -> str:
    """1 for the one that the others are compared with."""
    if row.low == row.high == 1:
        return "1"
    if row.low is None or row.high is None:
        return f"{row.times_faster:.2f}"
    same = " ≈ 1" if row.low <= 1 <= row.high else ""
    return f"{row.times_faster:.2f} ({row.low:.2f} to {row.high:.2f}){same}"
