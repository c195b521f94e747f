"""Picking a threshold from scores. Does not know which set the scores come from: the caller answers for that.

A threshold picked on the set it is then judged on is optimistic; a line needs one from training or validation data.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segdec_edge.errors import DataError
from segdec_edge.evaluation.metrics import Labels, Scores, checked
from segdec_edge.profile import LOGIT_CLIP as LOGIT_CLIP
from segdec_edge.profile import logit as logit


def best_f_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """The threshold of the highest F-measure, in [0, 1]; a score at or above it is a defect.

    Every threshold between two neighbouring scores has the same F. The middle of that interval in logit space is taken,
    so that on separable training data it sits as far from the good parts as from the defects. Where several
    intervals share the highest F, the lowest wins: it misses fewest defects.
    Raises DataError on NaN, on scores outside [0, 1], and where only one class is present.
    """
    truth, values = checked(labels, scores)
    _refuse_unusable(truth, values)
    levels, f_measure = _f_measures(truth, values)
    best = int(np.argmax(f_measure))
    return between(float(levels[best - 1]) if best else 0.0, float(levels[best]))


def between(low: float, high: float) -> float:
    """A threshold in (low, high]: the middle in logit space, or the plain middle where both were clipped."""
    middle = 1.0 / (1.0 + math.exp(-(logit(low) + logit(high)) / 2))
    if low < middle <= high:
        return middle
    middle = (low + high) / 2
    return middle if low < middle else high


def _f_measures(truth: Labels, values: Scores) -> tuple[Scores, NDArray[np.float64]]:
    """The distinct scores, rising, and the F-measure when each is the threshold."""
    levels, inverse = np.unique(values, return_inverse=True)
    positives = np.bincount(inverse, weights=truth, minlength=len(levels))
    caught = np.cumsum(positives[::-1])[::-1]
    flagged = np.cumsum(np.bincount(inverse, minlength=len(levels))[::-1])[::-1]
    return levels, 2 * caught / (flagged + truth.sum())


def _refuse_unusable(truth: Labels, values: Scores) -> None:
    positives = int(truth.sum())
    if not 0 < positives < len(truth):
        raise DataError(
            f"{positives} defective and {len(truth) - positives} good parts: a threshold needs both."
            " Pick it on a set that holds both."
        )
    if values.min() < 0.0 or values.max() > 1.0:
        raise DataError(
            f"scores from {values.min():.6g} to {values.max():.6g}, wanted [0, 1]. Apply the sigmoid to logits first."
        )
