"""OK, DEFECT or UNKNOWN: a prediction that cannot be trusted is never OK."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segdec_edge.decision import Decision, Rule, decide, is_defect
from segdec_edge.types import Label, Prediction

HEATMAP = np.zeros((1, 8, 8), np.float32)


def decided(score: Any, threshold: float = 0.5) -> Decision:
    return decide(Prediction(np.asarray(score, np.float32), HEATMAP), Rule(threshold))


@pytest.mark.parametrize(
    ("score", "threshold", "label"),
    [
        (0.0, 0.5, Label.OK),
        (0.499, 0.5, Label.OK),
        (0.5, 0.5, Label.DEFECT),
        (0.501, 0.5, Label.DEFECT),
        (1.0, 0.5, Label.DEFECT),
        (0.0, 0.0, Label.DEFECT),
        (1.0, 1.0, Label.DEFECT),
        (float(np.nextafter(np.float32(0.5), np.float32(0))), 0.5, Label.OK),
        (float(np.nextafter(np.float32(1), np.float32(0))), 1.0, Label.OK),
    ],
)
def test_a_score_at_or_above_the_threshold_is_a_defect(score: float, threshold: float, label: Label) -> None:
    decision = decided([score], threshold)
    assert decision.label is label
    assert decision.score == np.float32(score)
    assert f"{threshold:.6g}" in decision.reason


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf, -0.001, 1.001, -1e30, 1e30])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_a_score_that_is_no_number_between_0_and_1_is_unknown(score: float, threshold: float) -> None:
    decision = decided([score], threshold)
    assert decision.label is Label.UNKNOWN
    assert decision.score is None
    assert "is no number in [0, 1]" in decision.reason


@pytest.mark.parametrize("scores", [[], [0.1, 0.1], [[0.1]], 0.1])
def test_a_prediction_that_is_not_one_score_is_unknown(scores: Any) -> None:
    decision = decided(scores)
    assert decision.label is Label.UNKNOWN
    assert decision.score is None
    assert f"shape {np.shape(scores)}" in decision.reason


@pytest.mark.parametrize("score", [0.1, 0.3, 0.7, 0.9])
def test_a_threshold_copied_from_a_score_flags_that_score(score: float) -> None:
    as_stored = float(np.float32(score))  # 0.7 is a little less there: the comparison must not round a second time
    assert decided([score], threshold=as_stored).label is Label.DEFECT
    assert decided([score], threshold=float(np.nextafter(as_stored, 1))).label is Label.OK


@pytest.mark.parametrize("score", np.linspace(0, 1, 11).tolist())
def test_evaluation_and_the_station_agree(score: float) -> None:
    rule = Rule(0.3)
    asked = float(np.float32(score))
    assert is_defect(asked, rule) == (decided([score], rule.threshold).label is Label.DEFECT)
