"""What the rule of --baseline does to measurements of equal artefacts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from benchmarks.aa_rule import rule_on, rule_table
from segdec_edge.bench.baseline import TOLERANCE, slower_samples
from segdec_edge.timing import Floats


def repeats_of(speeds: Floats, noise: float = 0.01) -> list[list[Floats]]:
    rng = np.random.default_rng(0)
    return [[10 * speed * rng.lognormal(0, noise, (6, 8)) for _ in "ab"] for speed in speeds]


def test_a_drift_alarms_far_apart_and_one_way_alone() -> None:
    near, *_, far = rule_on(repeats_of(1.005 ** np.arange(31)))
    assert (near["distance"], near["pairs"], far["distance"], far["pairs"]) == (1, 120, 30, 4)
    assert near["later_slower"] == near["earlier_slower"] == far["earlier_slower"] == 0
    assert far["later_slower"] == 1


def test_a_slowdown_is_found_where_the_noise_allows() -> None:
    quiet, loud = (rule_on(repeats_of(np.ones(8), noise))[0]["found"] for noise in (0.001, 0.5))
    assert quiet == {"1.1": 1, "1.2": 1, "1.3": 1, "1.5": 1}
    assert loud["1.1"] < 0.3 and loud["1.1"] <= loud["1.2"] <= loud["1.3"] <= loud["1.5"] < 1


def test_it_is_the_rule_of_the_baseline() -> None:
    repeats = repeats_of(np.random.default_rng(1).lognormal(0, 0.1, 6), noise=0.1)
    lows = [slower_samples(a, b).low for early, late in pairwise(repeats) for a in early for b in late]
    row = rule_on(repeats)[0]
    assert row["later_slower"] == pytest.approx(np.mean([low is not None and low > 1 + TOLERANCE for low in lows]))
    assert 0 < row["later_slower"] < 1


def test_one_sitting_calls_nothing_slower() -> None:
    repeats = [[form[:1] for form in repeat] for repeat in repeats_of(np.array([1.0, 9.0]))]
    assert rule_on(repeats)[0]["later_slower"] == 0


def test_the_table_has_a_row_a_distance() -> None:
    lines = rule_table({"milliseconds": {"openvino": repeats_of(np.ones(7))}}).splitlines()
    assert len(lines) == 4 and lines[2].startswith("| openvino | 1 | 24 | 0.0 % | 0.0 % |")
