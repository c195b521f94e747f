"""Thresholds: highest F, the middle in logit space, and no way to end up on the wrong side of a score."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segdec_edge.errors import DataError
from segdec_edge.evaluation.metrics import confusion
from segdec_edge.evaluation.thresholds import best_f_threshold, between, logit


def _f_measure(labels: list[bool], scores: list[float], threshold: float) -> float:
    counts = confusion(labels, scores, threshold)
    return 2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn)


def test_separable_scores_give_the_middle_in_logit_space() -> None:
    threshold = best_f_threshold([False, True], [0.01, 0.99])
    assert threshold == pytest.approx(0.5)
    threshold = best_f_threshold([False, False, True], [0.001, 0.01, 0.5])
    assert logit(threshold) == pytest.approx((logit(0.01) + logit(0.5)) / 2)


def test_overlapping_scores_give_the_highest_f() -> None:
    # thresholds from low to high: F = 4/6, 4/5, 2/4, 2/3: flagging 0.3 and above is best
    threshold = best_f_threshold([False, True, False, True], [0.1, 0.3, 0.6, 0.9])
    assert 0.1 < threshold < 0.3


def test_of_equal_f_the_lowest_threshold_wins() -> None:
    labels, scores = [True, False, False, True], [0.2, 0.4, 0.6, 0.8]
    assert _f_measure(labels, scores, 0.1) == _f_measure(labels, scores, 0.7) == pytest.approx(2 / 3)
    assert best_f_threshold(labels, scores) <= 0.2


def test_agrees_with_an_exhaustive_search() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        labels = [True, False, *(rng.random(20) < 0.4).tolist()]
        scores = np.round(rng.random(22), 1).tolist()  # rounded: many ties
        best = max(_f_measure(labels, scores, t) for t in scores)
        assert _f_measure(labels, scores, best_f_threshold(labels, scores)) == pytest.approx(best)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0.0, 1.0),
        (0.0, 1e-12),
        (1e-12, 1e-10),
        (1e-10, 0.5),
        (1 - 1e-9, 1.0),
        (0.25, math.nextafter(0.25, 1)),
        (float(np.nextafter(np.float32(1), np.float32(0))), 1.0),
        (0.0, 5e-324),
    ],
)
def test_the_middle_always_separates(low: float, high: float) -> None:
    assert low < between(low, high) <= high
    assert confusion([False, True], [low, high], best_f_threshold([False, True], [low, high])).fn == 0
    assert confusion([False, True], [low, high], best_f_threshold([False, True], [low, high])).fp == 0


def test_logit_is_symmetric_and_clipped() -> None:
    assert logit(0.5) == 0.0
    assert logit(0.9) == pytest.approx(-logit(0.1))
    assert logit(0.0) == pytest.approx(-logit(1.0)) == pytest.approx(math.log(1e-7), abs=1e-3)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([True, False], [math.nan, 0.1], "NaN"),
        ([True, True], [0.2, 0.1], "2 defective and 0 good"),
        ([False], [0.2], "0 defective and 1 good"),
        ([], [], "0 defective and 0 good"),
        ([True, False], [2.5, -3.0], "Apply the sigmoid"),
    ],
)
def test_unusable_scores_are_refused(labels: list[bool], scores: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        best_f_threshold(labels, scores)
