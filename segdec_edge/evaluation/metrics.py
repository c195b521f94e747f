"""Figures of merit of scores against labels. Knows no picture, no backend, and picks no threshold.

Labels: (N,) booleans, True for a defective part. Scores: (N,) finite numbers, higher is more defective.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segdec_edge.decision import Rule, is_defect
from segdec_edge.errors import DataError

Labels: TypeAlias = NDArray[np.bool_]
Scores: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Confusion:
    """Counts of parts: tp defects caught, fp good parts rejected, fn defects missed, tn good parts passed."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def positives(self) -> int:
        return self.tp + self.fn

    @property
    def negatives(self) -> int:
        return self.fp + self.tn

    @property
    def tpr(self) -> float | None:
        """Share of the defective parts that are caught, None where there are none."""
        return self.tp / self.positives if self.positives else None

    @property
    def tnr(self) -> float | None:
        """Share of the good parts that pass, None where there are none."""
        return self.tn / self.negatives if self.negatives else None

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Step-wise average precision, Σ (R_n − R_(n−1)) · P_n over the distinct scores, in [0, 1].

    Raises DataError where only one class is present. Source: scikit-learn's average_precision_score.
    """
    from sklearn.metrics import average_precision_score

    truth, values = _two_classes(labels, scores)
    # The sum of 18 steps of 1/18 is 1.0000000000000002.
    return min(1.0, float(average_precision_score(truth, values)))


def average_precision_trapezoid(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under (recall, precision) joined by straight lines from (0, 1), in [0, 1].

    Differs from the step-wise one wherever precision changes with recall, most with tied scores, where it interpolates
    points that no threshold reaches. Raises DataError where only one class is present.
    Source: the method's authors print this one (Božič et al. 2020).
    """
    from sklearn.metrics import auc

    return min(1.0, float(auc(*precision_recall(labels, scores))))


def precision_recall(labels: ArrayLike, scores: ArrayLike) -> tuple[Scores, Scores]:
    """(recall, precision), each (K + 1,): (0, 1), then one point per distinct score, recall rising to 1.

    Raises DataError where only one class is present.
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(*_two_classes(labels, scores))
    return np.asarray(recall[::-1], np.float64), np.asarray(precision[::-1], np.float64)


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a defective part scores above a good one, ties counting half.

    Raises DataError where only one class is present.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(*_two_classes(labels, scores)))


def confusion(labels: ArrayLike, scores: ArrayLike, threshold: float) -> Confusion:
    """Count right and wrong decisions; a score at or above the threshold is a defect, as the station decides.

    One class alone, or no part at all, is counted too. Raises DataError on a threshold outside [0, 1] or NaN scores.
    """
    if not 0.0 <= threshold <= 1.0:  # NaN would pass every part as OK
        raise DataError(f"threshold is {threshold}, wanted a number in [0, 1]. Pick one with best_f_threshold.")
    truth, values = checked(labels, scores)
    rule = Rule(threshold)
    flagged = np.fromiter((is_defect(float(value), rule) for value in values), np.bool_, len(values))
    tp, fp = int((flagged & truth).sum()), int((flagged & ~truth).sum())
    return Confusion(tp, fp, fn=int(truth.sum()) - tp, tn=int((~truth).sum()) - fp)


def rate_upper_bound(errors: int, count: int, confidence: float = 0.95) -> float:
    """The error rate that the true one exceeds only with chance 1 − confidence, given `errors` among `count` parts.

    One-sided and exact; holds where the parts are drawn as the line's are. 1 where count is 0.
    Source: Clopper & Pearson 1934.
    """
    from scipy.stats import beta

    return 1.0 if errors >= count else float(beta.ppf(confidence, errors + 1, count - errors))


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[Labels, Scores]:
    """labels as (N,) bool and scores as (N,) float64. Raises DataError on other shapes, NaN and infinity."""
    truth, values = np.asarray(labels, np.bool_), np.asarray(scores, np.float64)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise DataError(
            f"labels of shape {truth.shape} and scores of shape {values.shape}, wanted (N,) each. Pair them up."
        )
    if not np.isfinite(values).all():
        wrong = int((~np.isfinite(values)).sum())
        raise DataError(f"{wrong} of {len(values)} scores are NaN or infinite. Such parts are UNKNOWN: leave them out.")
    return truth, values


def _two_classes(labels: ArrayLike, scores: ArrayLike) -> tuple[Labels, Scores]:
    truth, values = checked(labels, scores)
    positives = int(truth.sum())
    if not 0 < positives < len(truth):
        raise DataError(
            f"{positives} defective and {len(truth) - positives} good parts: AP and ROC AUC need both."
            " Evaluate on a set that holds both."
        )
    return truth, values
