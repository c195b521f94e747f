"""The gate that every step from bundle to bundle ends in: accuracy is measured on held-out pictures, not hoped for.

The candidate is written to a temporary folder, opened by a real backend and scored like the bundle that it was made
from, on the same pictures and the same backend. Past the limit it is refused and nothing is left of it. It needs no
torch: it also runs on the board. It does not choose anything: ranks, layers and constants come from training or
validation pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segdec_edge.bundle import Accuracy, Bundle, Meta, ModelFacts, Step, require_replaceable, utc_now, write_bundle
from segdec_edge.data.samples import Dataset, Sample
from segdec_edge.data.spec import open_dataset
from segdec_edge.decision import Rule, is_defect
from segdec_edge.deploy.held_out import require_held_out, trained_on
from segdec_edge.errors import BackendError, BundleError, DataError, GateError
from segdec_edge.evaluation.evaluate import Evaluation, evaluate_scored
from segdec_edge.evaluation.run import choose_samples
from segdec_edge.evaluation.scoring import Progress, ScoredSample, score_samples
from segdec_edge.evaluation.thresholds import logit
from segdec_edge.files import temporary_folder
from segdec_edge.runtime import FASTEST_FIRST, open_backend
from segdec_edge.types import Backend

MAX_AP_DROP = 0.1
"""In points of 100."""
MAX_MORE_REJECTED = 5.0
"""Good parts that may be rejected at the shipped threshold beyond those rejected before, in points of 100; more where
more may be lost. Scores that all shift keep their AP and their recall, and would reject every part."""
ANY_LOSS = 100.0
"""A limit that nothing can go past: AP may then also be unknown."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Exam:
    """Pictures to score, as the data set, its subset and the backend name them."""

    data: str
    subset: str
    samples: tuple[Sample, ...]
    backend: str = "auto"


@dataclass(frozen=True)
class Marks:
    """How one artefact did in an exam; scored in the exam's order."""

    accuracy: Accuracy
    evaluation: Evaluation
    scored: tuple[ScoredSample, ...]


@dataclass(frozen=True)
class Comparison:
    """A candidate beside the bundle that it was made from.

    ap_drop, recall_drop: points of 100, negative where the candidate is better; ap_drop None where one kind of part is
    missing. more_rejected: of 100 good parts, how many more the candidate rejects. flips: names with another verdict.
    score_rms: root mean square of the logit differences.
    """

    before: Marks
    after: Marks
    ap_drop: float | None
    recall_drop: float
    more_rejected: float
    newly_unscored: int
    flips: tuple[str, ...]
    score_rms: float

    def in_words(self) -> str:
        return (
            f"average precision {_ap(self.before)} → {_ap(self.after)}, FP {self.before.accuracy.fp} →"
            f" {self.after.accuracy.fp}, FN {self.before.accuracy.fn} → {self.after.accuracy.fn} on"
            f" {self.after.accuracy.pictures} {self.after.accuracy.subset} pictures ({self.after.accuracy.backend});"
            f" {len(self.flips)} other verdicts, scores {self.score_rms:.2g} apart (logit, root mean square)"
        )


def exam_for(bundle: Bundle, data: str | None = None, subset: str = "test", backend: str = "auto") -> Exam:
    """The held-out pictures of the split that a bundle was trained with. data: None for the data set trained on.

    Raises BundleError where neither says which, DataError, also on pictures that were trained on.
    """
    dataset = dataset_of(bundle, data)
    facts = facts_of(bundle)
    require_held_out(facts, bundle.spec, dataset, subset, bundle.path)
    return Exam(dataset.spec, subset, tuple(choose_samples(dataset, facts, subset)), backend)


def dataset_of(bundle: Bundle, data: str | None) -> Dataset:
    """The data set named, or the one that the bundle was trained on. Raises BundleError, DataError."""
    spec = data or trained_on(bundle.meta.training)
    if spec is None:
        raise BundleError(f"{bundle.path}: does not say what it was trained on. Give it: --data folder:PATH")
    return open_dataset(spec)


def facts_of(bundle: Bundle) -> Mapping[str, Any]:
    """What the bundle says of its training, its split included."""
    split = bundle.split()
    return {**bundle.meta.training, **({"split": split} if split else {})}


def sit(backend: Backend, exam: Exam, progress: Progress | None = None, batch: int = 1) -> Marks:
    """Score the exam's pictures, so many at a time, the last ones fewer. Raises BackendError."""
    scored = score_samples(backend, exam.samples, progress, batch=batch)
    threshold = backend.spec.threshold
    evaluation = evaluate_scored(scored, threshold=threshold, threshold_source="the bundle's")
    accuracy = Accuracy(
        data=exam.data,
        subset=exam.subset,
        backend=backend.name,
        ap=evaluation.average_precision,
        fp=evaluation.given.confusion.fp,
        fn=evaluation.given.confusion.fn,
        threshold=threshold,
        pictures=evaluation.count,
        when=utc_now(),
    )
    return Marks(accuracy, evaluation, scored)


def marks_of(bundle: Bundle, exam: Exam, progress: Progress | None = None) -> Marks:
    """Open a bundle and let it sit the exam. Raises BackendError."""
    backend = open_backend(bundle, exam.backend)
    try:
        return sit(backend, exam, progress)
    finally:
        backend.close()


def compare(before: Marks, after: Marks) -> Comparison:
    """Two artefacts that sat the same exam. Raises ValueError where they did not."""
    if [one.name for one in before.scored] != [one.name for one in after.scored]:
        raise ValueError("marks of different pictures cannot be compared")
    old_ap, new_ap = before.accuracy.ap, after.accuracy.ap
    pairs = list(zip(before.scored, after.scored, strict=True))
    both = [(old.score, new.score) for old, new in pairs if old.score is not None and new.score is not None]
    apart = np.array([logit(new) - logit(old) for old, new in both])
    flips = tuple(new.name for old, new in pairs if _flagged(old, before) != _flagged(new, after))
    return Comparison(
        before=before,
        after=after,
        ap_drop=None if old_ap is None or new_ap is None else 100 * (old_ap - new_ap),
        recall_drop=100 * (_recall(before) - _recall(after)),
        more_rejected=100 * (_rejected(after) - _rejected(before)),
        newly_unscored=sum(old.score is not None and new.score is None for old, new in pairs),
        flips=flips,
        score_rms=float(np.sqrt(np.mean(apart**2))) if len(apart) else 0.0,
    )


def shortfall(found: Comparison, max_ap_drop: float = MAX_AP_DROP) -> str:
    """What a candidate lost beyond max_ap_drop points of AP or of recall, in words; empty where it passes.

    A picture that had a score and has none any more is always too much; so are many more good parts rejected, and an AP
    that cannot be measured.
    """
    less = []
    before, after = found.before.accuracy, found.after.accuracy
    if found.newly_unscored:
        less.append(f"no score for {found.newly_unscored} pictures that had one")
    if found.ap_drop is None:
        if not max_ap_drop >= ANY_LOSS:
            less.append("average precision unknown, as one kind of part has no score")
    elif _beyond(found.ap_drop, max_ap_drop):
        less.append(f"average precision {_ap(found.after)} after {_ap(found.before)}")
    if _beyond(found.recall_drop, max_ap_drop):
        less.append(f"{after.fn} defects missed at the shipped threshold after {before.fn}")
    if _beyond(found.more_rejected, max(max_ap_drop, MAX_MORE_REJECTED)):
        less.append(f"{after.fp} good parts rejected at the shipped threshold after {before.fp}")
    return ", ".join(less)


def _beyond(drop: float, limit: float) -> bool:
    """A limit that is no number is never kept."""
    return not drop <= limit + _ROUNDING


def require_passed(found: Comparison, name: str, max_ap_drop: float = MAX_AP_DROP) -> None:
    """Raise GateError where a candidate falls short."""
    less = shortfall(found, max_ap_drop)
    if less:
        raise GateError(
            f"{name}: {less} on {found.after.accuracy.pictures} {found.after.accuracy.subset} pictures, wanted at most"
            f" {max_ap_drop:g} points lost; nothing was written. Allow more with --max-ap-drop, or give the step more"
            " pictures."
        )


def pass_gate(
    bundle: Bundle,
    destination: Path,
    content: bytes,
    facts: ModelFacts,
    exam: Exam,
    *,
    step: str,
    note: str = "",
    extra: Mapping[str, Any] | None = None,
    max_ap_drop: float = MAX_AP_DROP,
    before: Marks | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Bundle, Comparison]:
    """Write what a step made of `bundle` to `destination`, if it passes; else write nothing.

    content: the new model.onnx, facts: what it is; step, note and extra (plain values): for its lineage. before: the
    bundle's own marks in this very exam where they are known; they are taken anew where another backend gave them.
    Raises GateError, DataError (an exam without good or without defective parts), BackendError, BundleError,
    StorageError.
    """
    require_elsewhere(destination, bundle.path)
    require_exam(exam, max_ap_drop)
    tell = say or _silent
    candidate = _meta(
        bundle.meta, facts, Step(step=step, sha256=facts.sha256, when=utc_now(), note=note, **(extra or {}))
    )
    tell(f"scoring {len(exam.samples)} {exam.subset} pictures with the result")
    with temporary_folder("segdec_gate_") as folder:
        written = write_bundle(folder / "candidate.bundle", onnx_bytes=content, meta=candidate)
        after = marks_of(written, exam)
    found = compare(_before(bundle, exam, after, before, tell), after)
    require_passed(found, destination.name, max_ap_drop)
    meta = _with_marks(candidate, found)
    return write_bundle(destination, onnx_bytes=content, meta=meta, split=bundle.split()), found


def require_elsewhere(destination: Path, *given: Path) -> None:
    """Raise BundleError where a step would write over, or into, a bundle that it was given, or over what is none;
    StorageError where it cannot write. To be asked before the work.
    """
    require_replaceable(destination)
    wanted = destination.resolve()
    for bundle in given:
        if bundle.resolve() in (wanted, *wanted.parents):
            raise BundleError(
                f"{destination}: is the bundle that was given, or in it; it is never changed. Choose another --out."
            )


def require_exam(exam: Exam, max_ap_drop: float = MAX_AP_DROP) -> None:
    """Raise BackendError where no new bundle can sit this exam on its backend, DataError where average precision cannot
    be known, unless everything may be lost anyway. To be asked before the work.
    """
    if exam.backend not in ("auto", *FASTEST_FIRST):
        raise BackendError(
            f"backend {exam.backend!r} cannot judge a new bundle, which has no engine yet; wanted auto or"
            f" {' or '.join(FASTEST_FIRST)}. Engines are judged by segdec build --data."
        )
    defective = sum(sample.positive for sample in exam.samples)
    if not 0 < defective < len(exam.samples) and not max_ap_drop >= ANY_LOSS:
        raise DataError(
            f"{len(exam.samples)} {exam.subset} pictures, {defective} of them defective: average precision needs both"
            " kinds. Choose another --subset or --data."
        )


def _before(bundle: Bundle, exam: Exam, after: Marks, known: Marks | None, tell: Callable[[str], None]) -> Marks:
    """The bundle's own marks, by the backend that judged the candidate: `auto` may take another one for each.

    An engine beside the old model.onnx is one reason, a precision that a runtime cannot load another.
    """
    spec = bundle.spec
    if known is not None and known.accuracy.backend == after.accuracy.backend:
        if known.accuracy.threshold != spec.threshold:
            raise ValueError("marks at another threshold than the bundle's")
        return known
    tell(f"scoring {len(exam.samples)} {exam.subset} pictures with the bundle as it is")
    return marks_of(bundle, replace(exam, backend=after.accuracy.backend))


def _meta(old: Meta, facts: ModelFacts, step: Step) -> Meta:
    lineage = (*_lineage(old), step)
    update = {"created": step.when, "model": facts, "parity": None, "accuracy": (), "lineage": lineage}
    return old.model_copy(update=update)


def _lineage(old: Meta) -> tuple[Step, ...]:
    """Up to the old model, also where its bundle does not say how it came to be."""
    if old.lineage and old.lineage[-1].sha256 == old.model.sha256:
        return old.lineage
    return (*old.lineage, Step(step="unknown", sha256=old.model.sha256, when=old.created, note="not recorded"))


def _with_marks(meta: Meta, found: Comparison) -> Meta:
    """Each of the last two steps with its own accuracy: the old one had perhaps never been measured."""
    *earlier, last = meta.lineage
    if earlier[-1].accuracy is None:
        earlier[-1] = earlier[-1].model_copy(update={"accuracy": found.before.accuracy})
    last = last.model_copy(update={"accuracy": found.after.accuracy})
    return meta.model_copy(update={"accuracy": (found.after.accuracy,), "lineage": (*earlier, last)})


def _recall(marks: Marks) -> float:
    counts = marks.evaluation.given.confusion
    return counts.tp / (counts.tp + counts.fn) if counts.tp + counts.fn else 1.0


def _rejected(marks: Marks) -> float:
    counts = marks.evaluation.given.confusion
    return counts.fp / (counts.fp + counts.tn) if counts.fp + counts.tn else 0.0


def _flagged(one: ScoredSample, marks: Marks) -> bool:
    return one.score is None or is_defect(one.score, Rule(marks.accuracy.threshold))


def _ap(marks: Marks) -> str:
    return "unknown" if marks.accuracy.ap is None else f"{marks.accuracy.ap:.4f}"


def _silent(line: str) -> None:
    pass
