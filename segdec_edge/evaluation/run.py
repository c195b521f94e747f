"""One artefact on one data set: scores, judgement, report. Does not know how the artefact was opened."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from segdec_edge import __version__
from segdec_edge.bundle import Accuracy, add_accuracy, utc_now
from segdec_edge.data.samples import Dataset, Sample
from segdec_edge.data.splits import SUBSETS, Split
from segdec_edge.errors import DataError, PictureError
from segdec_edge.evaluation.cards import shown_parts
from segdec_edge.evaluation.evaluate import Evaluation, evaluate_scored
from segdec_edge.evaluation.report import write_report
from segdec_edge.evaluation.scoring import Progress, score_samples, write_scores_csv
from segdec_edge.files import make_folder, write_atomic
from segdec_edge.pictures import pixels_digest, prepare
from segdec_edge.types import Backend

REPORT, SCORES, FIGURES = "report.html", "scores.csv", "evaluation.json"


@dataclass(frozen=True)
class EvaluationRun:
    """What was measured and where. trained_on: names of evaluated pictures whose very pixels were trained on.

    caution: why the figures flatter the network, empty where they do not.
    """

    evaluation: Evaluation
    report: Path
    trained_on: tuple[str, ...]
    caution: str = ""


def evaluate_artefact(
    backend: Backend,
    facts: Mapping[str, Any],
    threshold_source: str,
    dataset: Dataset,
    subset: str,
    output: Path,
    progress: Progress | None = None,
) -> EvaluationRun:
    """Score a subset (train, validation, test or all), judge it, and write report.html, scores.csv, evaluation.json.

    facts: how the artefact was trained (its split, its pictures' digests).
    Raises DataError, BackendError, StorageError.
    """
    samples = choose_samples(dataset, facts, subset)
    make_folder(output)
    scored = score_samples(backend, samples, progress, keep_heatmaps=False)
    source = threshold_source or "never calibrated: 0.5"
    evaluation = evaluate_scored(scored, threshold=backend.spec.threshold, threshold_source=source)
    chosen_by = subset in ("train", "validation")
    trained_on = () if chosen_by else _trained_on(samples, backend, facts)
    caution = _chosen_by(subset) if chosen_by else _caution(trained_on)
    printed = _facts(backend, facts, subset, trained_on)
    write_scores_csv(output / SCORES, scored)
    record = {"data": dataset.spec, **printed, "trained_on": list(trained_on), **evaluation.to_json()}
    write_atomic(output / FIGURES, json.dumps(record, indent=1))
    drawn = {one.name: one.heatmap for one in score_samples(backend, dataset.named(shown_parts(evaluation)))}
    with_heat = [replace(one, heatmap=drawn.get(one.name)) for one in scored]
    write_report(output / REPORT, evaluation, with_heat, dataset, printed, caution)
    return EvaluationRun(evaluation, output / REPORT, trained_on, caution)


def note_accuracy(bundle: Path, run: EvaluationRun, data: str, subset: str, backend: str) -> None:
    """Write into a bundle's meta.json how its file did. Raises BundleError, StorageError."""
    given = run.evaluation.given
    record = Accuracy(
        data=data,
        subset=subset,
        backend=backend,
        ap=run.evaluation.average_precision,
        fp=given.confusion.fp,
        fn=given.confusion.fn,
        threshold=given.threshold,
        pictures=run.evaluation.count,
        when=utc_now(),
    )
    add_accuracy(bundle, record)


def _chosen_by(subset: str) -> str:
    return f"The {subset} pictures chose the weights or the threshold: the figures below flatter the network."


def _caution(trained_on: Sequence[str]) -> str:
    if not trained_on:
        return ""
    return (
        f"{len(trained_on)} of these pictures, as {trained_on[0]}, have the very pixels of pictures that were trained"
        " on: the figures below flatter the network by as much."
    )


def choose_samples(dataset: Dataset, facts: Mapping[str, Any], subset: str) -> Sequence[Sample]:
    """The samples of a subset, by the split that the artefact was trained with. Raises DataError without one."""
    if subset == "all":
        return dataset.samples
    if "split" not in facts:
        raise DataError(
            f"the artefact does not say how its data was split, so {subset!r} is unknown. Evaluate --subset all on a"
            f" data set it has not seen (subsets: {', '.join(SUBSETS)}, all)."
        )
    names = Split.from_json(facts["split"]).subset(subset)
    if not names:
        raise DataError(f"the split has no {subset} pictures. Choose another --subset: {', '.join(SUBSETS)}, all.")
    return dataset.named(names)


def _trained_on(samples: Sequence[Sample], backend: Backend, facts: Mapping[str, Any]) -> tuple[str, ...]:
    seen = set(facts.get("train_digests", ()))
    spec = backend.spec
    return tuple(s.name for s in samples if seen and _digest(s, spec.size_hw, spec.channels) in seen)


def _digest(sample: Sample, size_hw: tuple[int, int], channels: int) -> str | None:
    try:
        return pixels_digest(prepare(sample.read(), size_hw, channels))
    except PictureError:
        return None


def _facts(backend: Backend, facts: Mapping[str, Any], subset: str, trained_on: Sequence[str]) -> dict[str, str]:
    spec = backend.spec
    seen = f"{len(trained_on)} of them, as {trained_on[0]}" if trained_on else "none of them"
    return {
        "Subset": subset,
        "Split": str(facts.get("split", {}).get("how", "not recorded")),
        "Same pixels also in training": seen,
        "Artefact": f"SHA-256 {spec.sha256}",
        "Backend": f"{backend.name}, {spec.precision}, {spec.size_hw[0]}x{spec.size_hw[1]}",
        "Date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "segdec-edge": __version__,
    }
