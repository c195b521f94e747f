"""The only place where OK, DEFECT or UNKNOWN is chosen. Pure: no clock, no file, no camera."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from segdec_edge.errors import ConfigError
from segdec_edge.heat import Grid, largest_area_px
from segdec_edge.types import Label, Prediction

Combine = Literal["score", "heatmap", "either", "both"]
"""Which rule makes a defect: the score's, the heat map's, one of them, or only both together."""


@dataclass(frozen=True)
class Rule:
    """threshold: a score at or above it is a defect; in [0, 1]. Raises ConfigError on any other, NaN above all.

    level and min_area_px: a heat map is a defect where a connected part of it at or above level, in (0, 1], has at
    least min_area_px pixels of the whole picture. combine: "score" by default, for the threshold and the accuracy that
    a bundle states are about the score alone; "heatmap" and "both" can pass a part that the score would reject.
    review: scores from low to high, both included, are too near the border to be sure.
    """

    threshold: float
    combine: Combine = "score"
    level: float = 0.5
    min_area_px: float = 0.0
    review: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:  # NaN would pass every part as OK
            raise ConfigError(f"threshold is {self.threshold}, wanted a number in [0, 1]. Change it.")
        if not 0.0 < self.level <= 1.0:
            raise ConfigError(f"level is {self.level}, wanted a number above 0, at most 1. Change it.")
        if not 0.0 <= self.min_area_px < math.inf:
            raise ConfigError(f"min_area_px is {self.min_area_px}, wanted a number of pixels from 0. Change it.")
        if self.review is not None and not self.review[0] <= self.review[1]:
            raise ConfigError(f"review is {list(self.review)}, wanted [low, high] with low <= high. Change it.")
        if self.combine not in ("score", "heatmap", "either", "both"):  # a misspelt one must not fall through to OK
            raise ConfigError(f"combine is {self.combine!r}, wanted score, heatmap, either or both. Change it.")


@dataclass(frozen=True)
class Decision:
    """label with the reason in words; score is None where the prediction held no usable number.

    review: people should look at it: the score lies in the rule's band, or one rule passed what the other rejects.
    """

    label: Label
    score: float | None
    reason: str
    review: bool = False


def decide(prediction: Prediction, rule: Rule, grid: Grid | None = None) -> Decision:
    """Decide about one part from a prediction of batch size 1. grid: needed where the rule asks the heat map.

    Fails to reject: a score or a heat map with values that are no numbers in [0, 1], or a prediction of another batch
    size or grid, is UNKNOWN.
    """
    if (fault := _fault(prediction)) is not None:
        return Decision(Label.UNKNOWN, None, fault)
    score = float(prediction.score[0])
    by_score = is_defect(score, rule)
    by_heat, told = by_score, f"score {'at or above' if by_score else 'below'} {rule.threshold:.6g}"
    if rule.combine != "score":
        if grid is None or grid.heatmap_hw != prediction.heatmap.shape[1:]:
            return Decision(Label.UNKNOWN, None, "the heat map's place in the picture is not known")
        area_px = largest_area_px(prediction.heatmap[0], rule.level, grid)
        # No hot cell at all is no defect, also where any area is enough.
        by_heat = area_px > 0 and area_px >= rule.min_area_px
        told += f"; largest area at or above {rule.level:.6g} is {area_px:.0f} px (limit {rule.min_area_px:.6g})"
    defect = _combined(rule.combine, by_score, by_heat)
    disputed = not defect and (by_score or by_heat)
    return Decision(Label.DEFECT if defect else Label.OK, score, told, disputed or _in_band(score, rule))


def is_defect(score: float, rule: Rule) -> bool:
    """Whether a finite score counts as a defect by the rule's threshold. Evaluation and the station both ask here.

    It is the station's whole answer where the rule combines nothing else ("score").
    """
    return score >= rule.threshold


def _fault(prediction: Prediction) -> str | None:
    """Why a prediction cannot be used; None where it can."""
    if prediction.score.shape != (1,):
        return f"prediction of shape {prediction.score.shape}, wanted one score"
    score, heatmap = float(prediction.score[0]), prediction.heatmap
    if not math.isfinite(score) or not 0.0 <= score <= 1.0:
        return f"score {score} is no number in [0, 1]"
    if heatmap.ndim != 3 or len(heatmap) != 1 or heatmap.size == 0:
        return f"heat map of shape {heatmap.shape}, wanted one of (1, h, w)"
    # A network that overflows may still give a score: saturated to 0 it would pass as OK. NaN is in no range.
    low, high = float(heatmap.min()), float(heatmap.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        return "the heat map holds NaN or infinity"
    return None if low >= 0.0 and high <= 1.0 else f"the heat map holds {low:.6g} to {high:.6g}, wanted [0, 1]"


def _combined(combine: Combine, by_score: bool, by_heat: bool) -> bool:
    match combine:
        case "score":
            return by_score
        case "heatmap":
            return by_heat
        case "either":
            return by_score or by_heat
        case "both":
            return by_score and by_heat


def _in_band(score: float, rule: Rule) -> bool:
    return rule.review is not None and rule.review[0] <= score <= rule.review[1]
