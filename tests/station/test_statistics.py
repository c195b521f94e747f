"""Figures in flat memory."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from segdec_edge.station import statistics as module
from segdec_edge.station.statistics import FLAGGED_KEPT, LatencyHistogram, Statistics
from segdec_edge.types import Label


@pytest.mark.parametrize("count", [1, 2, 10, 101, 5000])
def test_quantiles_are_within_half_a_percent_of_the_nearest_rank(count: int) -> None:
    latencies = np.random.default_rng(count).lognormal(3.0, 1.0, count)
    histogram = LatencyHistogram()
    for latency in latencies:
        histogram.add(float(latency))
    for fraction in (0.5, 0.99, 1.0):
        exact = float(np.quantile(latencies, fraction, method="inverted_cdf"))
        assert histogram.quantile_ms(fraction) == pytest.approx(exact, rel=0.00501)


def test_extreme_latencies_stay_in_range() -> None:
    histogram = LatencyHistogram()
    for latency in (0.0, -5.0, 1e12):
        histogram.add(latency)
    assert histogram.quantile_ms(0.01) == pytest.approx(1e-3, rel=0.01)
    assert histogram.quantile_ms(1.0) == pytest.approx(1e6, rel=0.02)


def test_no_parts_no_figures() -> None:
    summary = Statistics("run").summary()
    assert (summary.parts, summary.latency_p50_ms, summary.latency_p99_ms) == (0, None, None)
    assert summary.rate_hz == 0
    assert summary.flagged == ()


def test_counts_and_flagged(make_verdict) -> None:
    statistics = Statistics("run")
    for sequence, label in enumerate([Label.OK, Label.DEFECT, Label.UNKNOWN, Label.OK, Label.OK]):
        statistics.add(make_verdict(sequence, label))
    summary = statistics.summary(archive_failures=3)
    assert (summary.run_id, summary.parts, summary.archive_failures) == ("run", 5, 3)
    assert (summary.ok, summary.defect, summary.unknown) == (3, 1, 1)
    assert [(one.part_id, one.label) for one in summary.flagged] == [
        ("run-000001", Label.DEFECT),
        ("run-000002", Label.UNKNOWN),
    ]


def test_lost_frames_do_not_flatter_the_latency(make_verdict) -> None:
    statistics = Statistics("run")
    for sequence in range(9):
        statistics.add(make_verdict(sequence, Label.UNKNOWN, latency_ms=0.01), lost=True)
    statistics.add(make_verdict(9, latency_ms=20.0))
    assert statistics.summary().latency_p50_ms == pytest.approx(20.0, rel=0.005)


def test_rate_is_that_of_the_last_parts_and_falls_when_the_line_stands(
    make_verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"now": 100.0}
    monkeypatch.setattr(module.time, "monotonic", lambda: clock["now"])
    statistics = Statistics("run")
    for sequence in range(200):
        clock["now"] += 1.0 if sequence < 100 else 0.1
        statistics.add(make_verdict(sequence))
    assert statistics.summary().rate_hz == pytest.approx(10.0)
    clock["now"] += 95.1
    assert statistics.summary().rate_hz == pytest.approx(0.49)


def test_memory_does_not_grow(make_verdict) -> None:
    statistics = Statistics("run")
    for sequence in range(3 * FLAGGED_KEPT):
        statistics.add(make_verdict(sequence, Label.DEFECT, latency_ms=sequence))
    summary = statistics.summary()
    assert summary.defect == 3 * FLAGGED_KEPT
    assert len(summary.flagged) == FLAGGED_KEPT
    assert summary.flagged[-1].part_id == f"run-{3 * FLAGGED_KEPT - 1:06d}"
    assert sys.getsizeof(statistics._latency._counts) < 20_000
