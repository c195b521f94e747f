"""The only place where OK, DEFECT or UNKNOWN is chosen. Pure: no clock, no file, no camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from segdec_edge.errors import ConfigError
from segdec_edge.types import Label, Prediction


@dataclass(frozen=True)
class Rule:
    """threshold: a score at or above it is a defect; in [0, 1]. Raises ConfigError on any other."""

    threshold: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:  # NaN would pass every part as OK
            raise ConfigError(f"threshold is {self.threshold}, wanted a number in [0, 1]. Change it.")


@dataclass(frozen=True)
class Decision:
    """label with the reason in words; score is None where the prediction held no usable number."""

    label: Label
    score: float | None
    reason: str


def decide(prediction: Prediction, rule: Rule) -> Decision:
    """Decide about one part from a prediction of batch size 1.

    Fails to reject: a score that is no number in [0, 1], a heat map with such values, or a prediction of another batch
    size, is UNKNOWN.
    """
    if prediction.score.shape != (1,):
        return Decision(Label.UNKNOWN, None, f"prediction of shape {prediction.score.shape}, wanted one score")
    score = float(prediction.score[0])
    if not math.isfinite(score) or not 0.0 <= score <= 1.0:
        return Decision(Label.UNKNOWN, None, f"score {score} is no number in [0, 1]")
    # A network that overflows may still give a score: saturated to 0 it would pass as OK.
    if not np.isfinite(prediction.heatmap).all():
        return Decision(Label.UNKNOWN, None, "the heat map holds NaN or infinity")
    if is_defect(score, rule):
        return Decision(Label.DEFECT, score, f"score at or above {rule.threshold:.6g}")
    return Decision(Label.OK, score, f"score below {rule.threshold:.6g}")


def is_defect(score: float, rule: Rule) -> bool:
    """Whether a finite score counts as a defect. Evaluation and the station both ask here."""
    return score >= rule.threshold
