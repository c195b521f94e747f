"""Metrics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segdec_edge.errors import DataError
from segdec_edge.evaluation import metrics
from segdec_edge.evaluation.metrics import Confusion, confusion

# Highest first: defect, good, defect, good. (recall, precision): (0, 1), (½, 1), (½, ½), (1, ⅔), (1, ½).
LABELS, SCORES = [True, False, True, False], [0.9, 0.8, 0.7, 0.1]


def test_average_precision_is_the_sum_of_steps() -> None:
    assert metrics.average_precision(LABELS, SCORES) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


def test_trapezoid_joins_the_points_by_lines() -> None:
    by_hand = 1 / 2 * 1 + 1 / 2 * (1 / 2 + 2 / 3) / 2
    assert metrics.average_precision_trapezoid(LABELS, SCORES) == pytest.approx(by_hand)


def test_on_ties_the_trapezoid_counts_points_that_no_threshold_reaches() -> None:
    labels, tied = [True, False, False, False], [0.5] * 4  # one point (1, ¼) beside (0, 1)
    assert metrics.average_precision(labels, tied) == pytest.approx(1 / 4)
    assert metrics.average_precision_trapezoid(labels, tied) == pytest.approx((1 + 1 / 4) / 2)


def test_precision_recall_starts_at_zero_one_and_rises() -> None:
    recall, precision = metrics.precision_recall(LABELS, SCORES)
    assert recall == pytest.approx([0, 0.5, 0.5, 1, 1])
    assert precision == pytest.approx([1, 1, 0.5, 2 / 3, 0.5])


def test_roc_auc_counts_the_pairs_in_order() -> None:
    assert metrics.roc_auc(LABELS, SCORES) == pytest.approx(3 / 4)
    assert metrics.roc_auc([True, False], [0.5, 0.5]) == pytest.approx(1 / 2)


def test_perfect_scores_give_exactly_one_everywhere() -> None:
    labels, scores = [False, False, True], [0.1, 0.2, 0.9]
    areas = (metrics.average_precision, metrics.average_precision_trapezoid, metrics.roc_auc)
    assert [area(labels, scores) for area in areas] == [1.0, 1.0, 1.0]
    assert confusion(labels, scores, 0.5) == Confusion(tp=1, fp=0, fn=0, tn=2)


def test_a_score_at_the_threshold_is_a_defect() -> None:
    assert confusion([True, False], [0.5, 0.5], 0.5) == Confusion(tp=1, fp=1, fn=0, tn=0)
    assert confusion([True, False], [0.5, 0.5], math.nextafter(0.5, 1)) == Confusion(tp=0, fp=0, fn=1, tn=1)


def test_rates_of_a_confusion() -> None:
    counts = Confusion(tp=3, fp=2, fn=1, tn=8)
    assert (counts.tpr, counts.tnr, counts.positives, counts.negatives) == (0.75, 0.8, 4, 10)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([False, False], Confusion(tp=0, fp=1, fn=0, tn=1)),
        ([True, True], Confusion(tp=1, fp=0, fn=1, tn=0)),
        ([], Confusion(0, 0, 0, 0)),
    ],
)
def test_one_class_or_none_is_still_counted(labels: list[bool], expected: Confusion) -> None:
    counts = confusion(labels, [0.9, 0.1][: len(labels)], 0.5)
    assert counts == expected
    assert (counts.tpr is None) == (not any(labels))
    assert (counts.tnr is None) == all(labels)


@pytest.mark.parametrize("labels", [[False, False], [True, True], []])
@pytest.mark.parametrize(
    "area", [metrics.average_precision, metrics.average_precision_trapezoid, metrics.roc_auc, metrics.precision_recall]
)
def test_areas_need_both_classes(area: object, labels: list[bool]) -> None:
    with pytest.raises(DataError, match=rf"^{sum(labels)} defective and {len(labels) - sum(labels)} good parts"):
        area(labels, [0.9, 0.1][: len(labels)])  # type: ignore[operator]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(DataError, match="1 of 2 scores are NaN or infinite"):
        metrics.average_precision([True, False], [bad, 0.1])
    with pytest.raises(DataError, match="1 of 2 scores"):
        confusion([True, False], [bad, 0.1], 0.5)


@pytest.mark.parametrize("threshold", [math.nan, -0.1, 1.5])
def test_an_illegal_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(DataError, match="wanted a number in"):
        confusion(LABELS, SCORES, threshold)


def test_labels_and_scores_must_pair_up() -> None:
    with pytest.raises(DataError, match=r"\(2,\) and scores of shape \(3,\)"):
        metrics.average_precision([True, False], [0.1, 0.2, 0.3])


def test_upper_bound_of_no_error_is_the_closed_form() -> None:
    assert metrics.rate_upper_bound(0, 7) == pytest.approx(1 - 0.05 ** (1 / 7))
    assert metrics.rate_upper_bound(3, 3) == 1.0
    assert metrics.rate_upper_bound(0, 0) == 1.0


def test_upper_bound_of_one_error_leaves_five_percent_below() -> None:
    rate, n = metrics.rate_upper_bound(1, 20), 20
    assert (1 - rate) ** n + n * rate * (1 - rate) ** (n - 1) == pytest.approx(0.05)


def test_average_precision_of_a_perfect_order_is_never_above_one() -> None:
    """With 18 defective of 135 the sum of its steps is 1.0000000000000002, which no report takes."""
    for positives in range(1, 60):
        labels = np.arange(135) < positives
        scores = np.linspace(1.0, 0.0, 135)
        assert metrics.average_precision(labels, scores) == pytest.approx(1.0, abs=1e-12)
        assert metrics.average_precision(labels, scores) <= 1.0
        assert metrics.average_precision_trapezoid(labels, scores) <= 1.0
