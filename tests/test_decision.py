"""OK, DEFECT or UNKNOWN: a prediction that cannot be trusted is never OK."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segdec_edge.decision import Decision, Rule, decide, is_defect
from segdec_edge.errors import ConfigError
from segdec_edge.heat import Grid, grid_of
from segdec_edge.types import Label, Prediction
from segdec_edge.view import WHOLE

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


HOT = np.zeros((1, 8, 8), np.float32)
HOT[0, 2:4, 2:5] = 0.7  # six cells
GRID = grid_of(WHOLE, (80, 80), (8, 8))  # 100 px a cell


def judged(score: float, **rule: Any) -> Decision:
    return decide(Prediction(np.array([score], np.float32), HOT), Rule(0.5, **rule), GRID)


@pytest.mark.parametrize(
    ("combine", "score", "min_area_px", "label"),
    [
        ("score", 0.4, 1, Label.OK),
        ("score", 0.6, 1e6, Label.DEFECT),
        ("heatmap", 0.4, 600, Label.DEFECT),
        ("heatmap", 0.4, 601, Label.OK),
        ("heatmap", 0.6, 601, Label.OK),
        ("either", 0.4, 600, Label.DEFECT),
        ("either", 0.6, 601, Label.DEFECT),
        ("either", 0.4, 601, Label.OK),
        ("both", 0.6, 600, Label.DEFECT),
        ("both", 0.6, 601, Label.OK),
        ("both", 0.4, 600, Label.OK),
    ],
)
def test_score_and_heat_map_combine_as_asked(combine: str, score: float, min_area_px: float, label: Label) -> None:
    decision = judged(score, combine=combine, min_area_px=min_area_px)
    assert decision.label is label
    if combine != "score":
        assert "largest area at or above 0.5 is 600 px" in decision.reason


def test_by_default_the_score_alone_decides() -> None:
    assert (judged(0.4).label, judged(0.5).label) == (Label.OK, Label.DEFECT)


@pytest.mark.parametrize(("combine", "label"), [("heatmap", Label.OK), ("either", Label.OK), ("both", Label.OK)])
def test_a_heat_map_without_any_hot_cell_is_no_defect_even_where_any_area_is_enough(combine: str, label: Label) -> None:
    assert judged(0.4, combine=combine, level=0.8, min_area_px=0).label is label


@pytest.mark.parametrize("combine", ["heatmap", "either", "both"])
@pytest.mark.parametrize("grid", [None, grid_of(WHOLE, (80, 80), (4, 8))])
def test_a_heat_map_of_which_the_place_is_not_known_is_unknown(combine: str, grid: Grid | None) -> None:
    decision = decide(Prediction(np.array([0.1], np.float32), HEATMAP), Rule(0.5, combine=combine), grid)
    assert decision.label is Label.UNKNOWN


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.01, 1.01])
@pytest.mark.parametrize("combine", ["score", "heatmap", "either", "both"])
def test_a_heat_map_with_a_value_outside_0_to_1_is_unknown(bad: float, combine: str) -> None:
    heatmap = HOT.copy()
    heatmap[0, 7, 0] = bad
    decision = decide(Prediction(np.array([0.1], np.float32), heatmap), Rule(0.5, combine=combine), GRID)
    assert (decision.label, decision.score, decision.review) == (Label.UNKNOWN, None, False)


@pytest.mark.parametrize("shape", [(8, 8), (2, 8, 8), (0, 8, 8), (1, 0, 8), (1, 1, 8, 8)])
def test_a_heat_map_of_another_form_is_unknown(shape: tuple[int, ...]) -> None:
    assert decide(Prediction(np.zeros(1, np.float32), np.zeros(shape, np.float32)), Rule(0.5)).label is Label.UNKNOWN


@pytest.mark.parametrize(
    ("score", "review"), [(0.39, False), (0.41, True), (0.5, True), (0.59, True), (0.61, False), (0.0, False)]
)
def test_scores_near_the_border_are_for_review(score: float, review: bool) -> None:
    decision = judged(score, review=(0.4, 0.6))
    assert decision.review is review
    assert decision.label is (Label.DEFECT if score >= 0.5 else Label.OK)


@pytest.mark.parametrize(
    ("combine", "score", "min_area_px", "review"),
    [
        ("heatmap", 0.9, 601, True),
        ("both", 0.9, 601, True),
        ("both", 0.1, 600, True),
        ("both", 0.1, 601, False),
        ("both", 0.9, 600, False),
        ("heatmap", 0.1, 600, False),
        ("either", 0.9, 601, False),
    ],
)
def test_a_part_that_passes_though_one_rule_rejects_it_is_for_review(
    combine: str, score: float, min_area_px: float, review: bool
) -> None:
    assert judged(score, combine=combine, min_area_px=min_area_px).review is review


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": float("nan")},
        {"threshold": 1.1},
        {"level": 0.0},
        {"level": 1.1},
        {"level": float("nan")},
        {"min_area_px": -1.0},
        {"min_area_px": float("nan")},
        {"min_area_px": float("inf")},
        {"review": (0.6, 0.4)},
        {"review": (float("nan"), 0.4)},
        {"combine": "any"},
    ],
)
def test_a_rule_that_could_pass_everything_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Rule(**({"threshold": 0.5} | wrong))
