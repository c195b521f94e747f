"""A ledger in figures: verdicts by camera, recipe and hour, why parts are UNKNOWN, latencies. Changes nothing."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from segdec_edge.outputs.ledger_read import ALL, Reading, Selection, reading
from segdec_edge.types import Label

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
REASONS = 20
Counts = dict[str, int]
"""Verdict (a Label's value) to parts; every label is a key."""


@dataclass(frozen=True)
class Figures:
    """Of the rows that were selected. by_hour: the hour's start in UTC; reasons: why parts are UNKNOWN, numbers as #,

    the commonest first; latency_ms of the parts that have a score, empty without any; events by kind.
    """

    parts: int
    runs: int
    verdicts: Counts
    by_camera: Mapping[str, Counts]
    by_recipe: Mapping[str, Counts]
    by_hour: Mapping[str, Counts]
    reasons: Counts
    review: int
    latency_ms: Mapping[str, float]
    events: Counts


def figures(path: Path, selection: Selection = ALL) -> Figures:
    """Count one ledger. Raises OutputError. Memory: 4 bytes a part, for the latencies."""
    with reading(path) as ledger:
        by_camera = _grouped(ledger, selection, "camera")
        hours = _grouped(ledger, selection, "captured_ns / 3600000000000")
        verdicts = _summed(by_camera)
        return Figures(
            parts=sum(verdicts.values()),
            runs=_number(ledger, selection, "count(DISTINCT run_id)"),
            verdicts=verdicts,
            by_camera=by_camera,
            by_recipe=_grouped(ledger, selection, "recipe"),
            by_hour={_hour(int(hour)): counted for hour, counted in hours.items()},
            reasons=_reasons(ledger, selection),
            review=_number(ledger, selection, "coalesce(sum(review), 0)"),
            latency_ms=_latencies(ledger, selection),
            events=dict(ledger.database.execute("SELECT kind, count(*) FROM events GROUP BY kind ORDER BY kind")),
        )


def _grouped(ledger: Reading, selection: Selection, key: str) -> dict[str, Counts]:
    where, values = selection.where
    query = f"SELECT {key}, verdict, count(*) FROM parts WHERE {where} GROUP BY 1, 2 ORDER BY 1"
    found: dict[str, Counts] = {}
    for value, verdict, count in ledger.database.execute(query, values):
        found.setdefault(str(value), {label.value: 0 for label in Label})[verdict] = count
    return found


def _summed(groups: Mapping[str, Counts]) -> Counts:
    return {label.value: sum(group[label.value] for group in groups.values()) for label in Label}


def _number(ledger: Reading, selection: Selection, expression: str) -> int:
    where, values = selection.where
    return int(ledger.database.execute(f"SELECT {expression} FROM parts WHERE {where}", values).fetchone()[0])


def _reasons(ledger: Reading, selection: Selection) -> Counts:
    where, values = selection.where
    query = f"SELECT reason, count(*) FROM parts WHERE verdict = 'UNKNOWN' AND {where} GROUP BY reason"
    found: Counter[str] = Counter()
    for reason, count in ledger.database.execute(query, values):
        found[re.sub(r"\d+", "#", reason)] += count
    return dict(found.most_common(REASONS))


def _latencies(ledger: Reading, selection: Selection) -> dict[str, float]:
    where, values = selection.where
    query = f"SELECT latency_ms FROM parts WHERE score IS NOT NULL AND {where}"
    found = array("f", (latency for (latency,) in ledger.database.execute(query, values)))
    if not found:
        return {}
    # The nearest rank, so that every figure is a latency that was measured.
    measured = np.quantile(np.frombuffer(found, np.float32), list(QUANTILES.values()), method="inverted_cdf")
    return {name: round(float(value), 3) for name, value in zip(QUANTILES, measured, strict=True)}


def _hour(hours: int) -> str:
    return datetime.fromtimestamp(hours * 3600, timezone.utc).strftime("%Y-%m-%dT%H:00Z")
