"""One set judged: counts at both thresholds, names of what went wrong, and nothing dropped."""

from __future__ import annotations

import json
import math

import pytest

from segdec_edge.errors import DataError
from segdec_edge.evaluation.evaluate import BORDERLINE, Evaluation, Outcome, evaluate, evaluate_scored, outcome_of
from segdec_edge.evaluation.metrics import Confusion
from segdec_edge.evaluation.scoring import score_samples
from tests.evaluation.made_parts import MadePart, brightness_backend

PARTS = [
    MadePart("good low", False, 0.02),
    MadePart("good near", False, 0.4),
    MadePart("good wrong", False, 0.6),
    MadePart("good worse", False, 0.7),
    MadePart("bad missed", True, 0.2),
    MadePart("bad near", True, 0.8),
    MadePart("bad high", True, 1.0),
]
CUT = [MadePart("cut bad", True, 0.1, broken="picture"), MadePart("cut good", False, 0.1, broken="picture")]


def _evaluate(parts: list[MadePart], threshold: float = 0.5) -> Evaluation:
    return evaluate(brightness_backend(), parts, threshold=threshold, threshold_source="training")


def test_counts_and_names_at_the_given_threshold() -> None:
    found = _evaluate(PARTS)
    assert found.given.confusion == Confusion(tp=2, fp=2, fn=1, tn=2)
    assert (found.given.threshold, found.given.source, found.count) == (0.5, "training", 7)
    assert found.missed == ("bad missed",)
    assert found.rejected_good == ("good worse", "good wrong")
    assert found.borderline == ("good near", "bad near", "good low", "bad high")


def test_best_f_is_named_optimistic_and_beats_the_given_one() -> None:
    found = _evaluate(PARTS)
    assert found.best_f is not None
    assert "optimistic" in found.best_f.source
    assert found.best_f.confusion == Confusion(tp=2, fp=0, fn=1, tn=4)
    assert 0.7 < found.best_f.threshold < 0.8


def test_areas_by_hand() -> None:
    found = _evaluate(PARTS)  # highest first: + + - - - + -
    assert found.average_precision == pytest.approx(2 / 3 + 1 / 3 * 3 / 6)
    assert found.average_precision_trapezoid == pytest.approx(2 / 3 + 1 / 3 * (2 / 5 + 3 / 6) / 2)
    assert found.roc_auc == pytest.approx(9 / 12)


def test_unreadable_parts_are_rejects_and_leave_the_areas_alone() -> None:
    found, without = _evaluate([*PARTS, *CUT]), _evaluate(PARTS)
    assert found.given.confusion == Confusion(tp=3, fp=3, fn=1, tn=2)
    assert found.best_f is not None
    assert found.best_f.confusion == Confusion(tp=3, fp=1, fn=1, tn=4)
    assert [(one.name, one.positive) for one in found.unscored] == [("cut bad", True), ("cut good", False)]
    assert "ends early" in found.unscored[0].error
    assert (found.count, found.average_precision) == (9, without.average_precision)
    assert (found.missed, found.rejected_good) == (without.missed, without.rejected_good)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (PARTS[:4], Confusion(tp=0, fp=2, fn=0, tn=2)),
        (PARTS[4:], Confusion(tp=2, fp=0, fn=1, tn=0)),
        (CUT, Confusion(tp=1, fp=1, fn=0, tn=0)),
    ],
)
def test_without_both_classes_the_counts_remain(parts: list[MadePart], expected: Confusion) -> None:
    found = _evaluate(parts)
    assert found.given.confusion == expected
    assert (found.average_precision, found.average_precision_trapezoid, found.roc_auc) == (None, None, None)
    assert found.best_f is None
    json.dumps(found.to_json(), allow_nan=False)


def test_borderline_is_at_most_twelve_and_nearest_first() -> None:
    parts = [MadePart(f"p{i:02d}", False, i / 100) for i in range(30)]
    found = _evaluate(parts)
    assert found.borderline == tuple(f"p{i:02d}" for i in range(29, 29 - BORDERLINE, -1))


def test_json_holds_plain_values_and_rates() -> None:
    values = json.loads(json.dumps(_evaluate([*PARTS, *CUT]).to_json(), allow_nan=False))
    assert values["given"]["confusion"] == {"tp": 3, "fp": 3, "fn": 1, "tn": 2}
    assert (values["given"]["tpr"], values["given"]["tnr"]) == (0.75, 0.4)
    assert values["best_f"]["tpr"] == 0.75
    assert values["unscored"][1]["name"] == "cut good"


@pytest.mark.parametrize("threshold", [math.nan, 2.0])
def test_an_illegal_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(DataError, match="wanted a number in"):
        _evaluate(PARTS, threshold)


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(DataError, match="no part"):
        evaluate_scored((), threshold=0.5, threshold_source="training")


def test_outcomes() -> None:
    scored = score_samples(brightness_backend(), [PARTS[0], PARTS[3], PARTS[4], PARTS[6], CUT[0]])
    assert [outcome_of(one, 0.5) for one in scored] == [
        Outcome.PASSED,
        Outcome.REJECTED_GOOD,
        Outcome.MISSED,
        Outcome.CAUGHT,
        Outcome.UNKNOWN,
    ]
