"""Counts, latency and rate of one run, in memory that does not grow. Knows no clock of the wall and no screen."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from segdec_edge.types import Label, Verdict

STAGES = ("prepare", "wait", "infer", "decide", "issue")
"""prepare: the network's input; wait: for the backend; issue: to outputs and recorder. `record` comes from there."""
FLAGGED_KEPT = 1000
"""How many flagged parts a summary lists at most, the last ones; the ledger has all."""
_LOWEST_MS = 1e-3
_HIGHEST_MS = 1e6
_RATIO = 1.01
_BUCKETS = math.ceil(math.log(_HIGHEST_MS / _LOWEST_MS) / math.log(_RATIO)) + 1
_RATE_PARTS = 50


@dataclass(frozen=True)
class Flagged:
    """A part that is not OK; score None where there was no prediction."""

    part_id: str
    label: Label
    score: float | None
    reason: str
    source: str


@dataclass(frozen=True)
class StageTimes:
    """How long the parts of this run spent in one stage, ms."""

    stage: str
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class RunSummary:
    """One run so far. seconds from its start; latencies in ms from capture to verdict, None before the first;

    rate_hz parts a second over the last few parts; flagged the last FLAGGED_KEPT parts that are not OK, oldest first;
    late verdicts that came after the deadline's UNKNOWN and were dropped; dropped frames of free-running cameras that
    nobody looked at, by reason; stages in the order of STAGES.
    """

    run_id: str
    parts: int
    ok: int
    defect: int
    unknown: int
    seconds: float
    rate_hz: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    archive_failures: int
    flagged: tuple[Flagged, ...]
    late: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    stages: tuple[StageTimes, ...] = ()


class LatencyHistogram:
    """Latencies from 1 µs to 1000 s in 2084 buckets, each 1 % wider than the one before.

    A quantile is the middle of its bucket, so within 0.5 % of the true one for any number of parts, in 17 kB. A random
    sample of the parts would be as small, but its p99 far less exact: of 1000 sampled parts ten carry it.
    """

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._total = 0

    def add(self, latency_ms: float) -> None:
        bucket = int(math.log(max(latency_ms, _LOWEST_MS) / _LOWEST_MS) / math.log(_RATIO))
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self._total += 1

    def quantile_ms(self, fraction: float) -> float | None:
        """The latency that this fraction of the parts did not exceed (nearest rank); None without any."""
        rank, seen = math.ceil(fraction * self._total), 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= rank and seen > 0:
                return float(_LOWEST_MS * _RATIO ** (bucket + 0.5))
        return None


class Statistics:
    """Any thread may add and ask."""

    def __init__(self, run_id: str) -> None:
        self._lock = Lock()
        self._stages = {stage: LatencyHistogram() for stage in STAGES}
        self._run_id = run_id
        self._counts = dict.fromkeys(Label, 0)
        self._latency = LatencyHistogram()
        self._flagged: deque[Flagged] = deque(maxlen=FLAGGED_KEPT)
        self._started = time.monotonic()
        self._recent: deque[float] = deque([self._started], maxlen=_RATE_PARTS)

    def add(self, verdict: Verdict, *, lost: bool = False, stage_ms: Mapping[str, float] | None = None) -> None:
        """Count one verdict; the latency of a lost frame says nothing about the station and is left out.

        stage_ms: how long the part spent in each of STAGES.
        """
        with self._lock:
            self._add(verdict, lost, stage_ms or {})

    def _add(self, verdict: Verdict, lost: bool, stage_ms: Mapping[str, float]) -> None:
        for stage in STAGES:
            if (spent_ms := stage_ms.get(stage)) is not None:
                self._stages[stage].add(spent_ms)
        self._counts[verdict.label] += 1
        self._recent.append(time.monotonic())
        if not lost:
            self._latency.add(verdict.latency_ms)
        if verdict.label is not Label.OK:
            self._flagged.append(Flagged(verdict.part_id, verdict.label, verdict.score, verdict.reason, verdict.source))

    def summary(
        self,
        archive_failures: int = 0,
        *,
        late: int = 0,
        dropped: Mapping[str, int] | None = None,
        record: LatencyHistogram | None = None,
    ) -> RunSummary:
        """The figures as they are now. record: the recorder's own histogram, from verdict to durable row."""
        with self._lock:
            stages = self._stages | ({"record": record} if record is not None else {})
            return self._summary(archive_failures, late, dict(dropped or {}), stages)

    def _summary(
        self, archive_failures: int, late: int, dropped: dict[str, int], stages: Mapping[str, LatencyHistogram]
    ) -> RunSummary:
        ok, defect, unknown = (self._counts[label] for label in Label)
        now = time.monotonic()
        return RunSummary(
            run_id=self._run_id,
            parts=ok + defect + unknown,
            ok=ok,
            defect=defect,
            unknown=unknown,
            seconds=now - self._started,
            # Up to now, not to the last part: the rate of a line that stands still must fall.
            rate_hz=(len(self._recent) - 1) / max(now - self._recent[0], 1e-9),
            latency_p50_ms=self._latency.quantile_ms(0.50),
            latency_p99_ms=self._latency.quantile_ms(0.99),
            archive_failures=archive_failures,
            flagged=tuple(self._flagged),
            late=late,
            dropped=dropped,
            stages=tuple(times for name, histogram in stages.items() if (times := _times(name, histogram)) is not None),
        )


def _times(stage: str, histogram: LatencyHistogram) -> StageTimes | None:
    p50_ms, p99_ms = histogram.quantile_ms(0.50), histogram.quantile_ms(0.99)
    return None if p50_ms is None or p99_ms is None else StageTimes(stage, p50_ms, p99_ms)
