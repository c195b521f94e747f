"""One scored set, judged. Knows how to count, not how to draw.

It does not know whether the given threshold was honestly picked: threshold_source is the caller's word, and is printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from segdec_edge.data.samples import Sample
from segdec_edge.decision import Rule, is_defect
from segdec_edge.errors import DataError
from segdec_edge.evaluation.metrics import (
    Confusion,
    average_precision,
    average_precision_trapezoid,
    confusion,
    roc_auc,
)
from segdec_edge.evaluation.scoring import Progress, ScoredSample, score_samples
from segdec_edge.evaluation.thresholds import best_f_threshold, logit
from segdec_edge.types import Backend

BORDERLINE = 12
OPTIMISTIC = "best F-measure of this very set (optimistic)"


class Outcome(str, Enum):
    """What the station's verdict means for one part; the values are the words the report uses."""

    MISSED = "defective, passed as OK"
    REJECTED_GOOD = "good, rejected"
    CAUGHT = "defective, rejected"
    PASSED = "good, passed as OK"
    UNKNOWN = "no score, rejected"


@dataclass(frozen=True)
class OperatingPoint:
    """What a line would do at one threshold. Parts without a score are rejected: they count in tp or fp."""

    threshold: float
    source: str
    confusion: Confusion


@dataclass(frozen=True)
class Unscored:
    """A part that could not be judged, and why."""

    name: str
    positive: bool
    error: str


@dataclass(frozen=True)
class Evaluation:
    """One scored set.

    given: at the threshold handed in, picked on other data; best_f: at the best threshold of this set, optimistic.
    The three areas and best_f are None where the scored parts are of one class; they leave out unscored parts.
    missed, rejected_good: names decided wrongly at the given threshold, furthest from it first.
    borderline: names decided rightly, nearest to the given threshold in logit space first, at most 12.
    """

    count: int
    average_precision: float | None
    average_precision_trapezoid: float | None
    roc_auc: float | None
    given: OperatingPoint
    best_f: OperatingPoint | None
    missed: tuple[str, ...]
    rejected_good: tuple[str, ...]
    borderline: tuple[str, ...]
    unscored: tuple[Unscored, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for json.dumps; rates beside the counts."""
        values = asdict(self)
        for key, point in (("given", self.given), ("best_f", self.best_f)):
            if point is not None:
                values[key] |= {"tpr": point.confusion.tpr, "tnr": point.confusion.tnr}
        return values


def evaluate(
    backend: Backend,
    samples: Sequence[Sample],
    *,
    threshold: float,
    threshold_source: str,
    progress: Progress | None = None,
    batch: int = 1,
) -> Evaluation:
    """Score samples and judge them. Raises DataError on no sample or an illegal threshold, BackendError."""
    scored = score_samples(backend, samples, progress, batch, keep_heatmaps=False)
    return evaluate_scored(scored, threshold=threshold, threshold_source=threshold_source)


def evaluate_scored(scored: Sequence[ScoredSample], *, threshold: float, threshold_source: str) -> Evaluation:
    """Judge parts that are scored already (the report needs their heat maps too). Raises as evaluate."""
    if not scored:
        raise DataError("no part to evaluate, wanted at least one. Check the split.")
    known = [one for one in scored if one.score is not None]
    labels, scores = [one.positive for one in known], [score_of(one) for one in known]
    both = len(set(labels)) == 2
    return Evaluation(
        count=len(scored),
        average_precision=average_precision(labels, scores) if both else None,
        average_precision_trapezoid=average_precision_trapezoid(labels, scores) if both else None,
        roc_auc=roc_auc(labels, scores) if both else None,
        given=_operating_point(scored, threshold, threshold_source),
        best_f=_operating_point(scored, best_f_threshold(labels, scores), OPTIMISTIC) if both else None,
        missed=_names(scored, threshold, Outcome.MISSED)[::-1],
        rejected_good=_names(scored, threshold, Outcome.REJECTED_GOOD)[::-1],
        borderline=_names(scored, threshold, Outcome.CAUGHT, Outcome.PASSED)[:BORDERLINE],
        unscored=tuple(Unscored(one.name, one.positive, one.error or "") for one in scored if one.score is None),
    )


def score_of(one: ScoredSample) -> float:
    """The score of a part that has one."""
    if one.score is None:
        raise DataError(f"{one.name}: no score ({one.error}). Leave it out of the figures.")
    return one.score


def outcome_of(one: ScoredSample, threshold: float) -> Outcome:
    """What the line would do with this part, against what it is."""
    if one.score is None:
        return Outcome.UNKNOWN
    if is_defect(one.score, Rule(threshold)):
        return Outcome.CAUGHT if one.positive else Outcome.REJECTED_GOOD
    return Outcome.MISSED if one.positive else Outcome.PASSED


def _operating_point(scored: Sequence[ScoredSample], threshold: float, source: str) -> OperatingPoint:
    known = [one for one in scored if one.score is not None]
    counts = confusion([one.positive for one in known], [score_of(one) for one in known], threshold)
    unknown = [one.positive for one in scored if one.score is None]
    rejected = Confusion(tp=sum(unknown), fp=len(unknown) - sum(unknown), fn=0, tn=0)
    return OperatingPoint(threshold, source, counts + rejected)


def _names(scored: Sequence[ScoredSample], threshold: float, *wanted: Outcome) -> tuple[str, ...]:
    """The parts of these outcomes, nearest to the threshold in logit space first."""
    edge = logit(threshold)
    found = [one for one in scored if outcome_of(one, threshold) in wanted]
    return tuple(one.name for one in sorted(found, key=lambda one: (abs(logit(score_of(one)) - edge), one.name)))
