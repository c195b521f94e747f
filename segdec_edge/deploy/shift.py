"""How far one graph's scores are from another's on the same parts, each scored through a real backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segdec_edge.bundle import MODEL
from segdec_edge.data.samples import Sample
from segdec_edge.decision import Rule, is_defect
from segdec_edge.errors import QuantizeError
from segdec_edge.evaluation.evaluate import evaluate_scored
from segdec_edge.evaluation.scoring import ScoredSample, score_samples
from segdec_edge.evaluation.thresholds import logit
from segdec_edge.files import temporary_folder
from segdec_edge.runtime import backend_classes
from segdec_edge.types import ModelSpec

MORE_GOOD = 32


@dataclass(frozen=True)
class Shift:
    """One graph against its original.

    ap: average precision, None with one class; recall at the bundle's threshold, None without defects; fp, fn there;
    flips: parts whose verdict changed. logit: |difference| of the scores' logits, heat: of the heat map's values,
    each as mean and maximum over the parts that both could score; unscored: parts that only the original could.
    """

    ap: float | None
    recall: float | None
    fp: int
    fn: int
    flips: int
    mean_logit: float
    max_logit: float
    mean_heat: float
    max_heat: float
    unscored: int

    def keeps(self, original: Shift, max_drop: float) -> bool:
        """AP and recall are at most max_drop points (hundredths) below the original's, and nothing became unscored."""
        pairs = ((self.ap, original.ap), (self.recall, original.recall))
        near = all(old is None or (new is not None and old - new <= max_drop / 100 + 1e-12) for new, old in pairs)
        return near and not self.unscored

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Shift:
        return Shift(**values)


def shift_of(scored: Sequence[ScoredSample], original: Sequence[ScoredSample], threshold: float) -> Shift:
    """scored and original: the same parts in the same order."""
    judged = evaluate_scored(scored, threshold=threshold, threshold_source="the bundle's")
    both = [(new, old) for new, old in zip(scored, original, strict=True) if None not in (new.score, old.score)]
    logits = [abs(logit(new.score or 0.0) - logit(old.score or 0.0)) for new, old in both]
    heats = [
        np.abs(new.heatmap - old.heatmap) for new, old in both if new.heatmap is not None and old.heatmap is not None
    ]
    rule = Rule(threshold)
    confusion = judged.given.confusion
    return Shift(
        ap=judged.average_precision,
        recall=confusion.tpr,
        fp=confusion.fp,
        fn=confusion.fn,
        flips=sum(is_defect(new.score or 0.0, rule) != is_defect(old.score or 0.0, rule) for new, old in both),
        mean_logit=float(np.mean(logits)) if logits else 0.0,
        max_logit=max(logits, default=0.0),
        mean_heat=float(np.mean([one.mean() for one in heats])) if heats else 0.0,
        max_heat=float(max((one.max() for one in heats), default=0.0)),
        unscored=sum(new.score is None and old.score is not None for new, old in zip(scored, original, strict=True)),
    )


def score_graph(content: bytes, spec: ModelSpec, backend: str, samples: Sequence[Sample]) -> tuple[ScoredSample, ...]:
    """Score samples with a model.onnx that is in memory alone. backend: a name, or auto for the fastest one here.

    Raises BackendError, QuantizeError on a backend that is not here, StorageError.
    """
    classes = backend_classes()
    name = list(classes)[-1] if backend == "auto" else backend
    if name not in classes:
        raise QuantizeError(f"backend {name!r} is not here, wanted one of {', '.join(classes)}, or auto.")
    with temporary_folder("segdec_score_") as folder:
        path = folder / MODEL
        path.write_bytes(content)
        opened = classes[name](path, spec)
        try:
            return score_samples(opened, samples)
        finally:
            opened.close()


def telling(scored: Sequence[ScoredSample], most: int) -> tuple[str, ...]:
    """Names of the parts on which a change shows first: defective ones, and the good ones of the highest scores.

    Good parts below every defective one do not enter average precision, and those far below the threshold no verdict:
    while they stay there, AP and recall on this choice fall exactly as on all parts. Good ones: all that score like a
    defective one, and 32 below. At most `most` parts; of too many defective ones those with the lowest scores.
    """
    known = [one for one in scored if one.score is not None]
    bad = sorted((one for one in known if one.positive), key=lambda one: (one.score, one.name))[: most // 2]
    good = sorted((one for one in known if not one.positive), key=lambda one: (-(one.score or 0.0), one.name))
    lowest = (bad[0].score or 0.0) if bad else 1.0
    rivals = sum((one.score or 0.0) >= lowest for one in good)
    chosen = {one.name for one in (*bad, *good[: min(rivals + MORE_GOOD, most - len(bad))])}
    return tuple(one.name for one in scored if one.name in chosen)
