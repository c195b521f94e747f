"""An evaluation in a few plain lines for the terminal, missed defects first."""

from __future__ import annotations

from segdec_edge.evaluation.evaluate import OperatingPoint
from segdec_edge.evaluation.run import EvaluationRun


def summary_lines(run: EvaluationRun) -> list[str]:
    """What a user must know, one fact a line, without markup."""
    evaluation = run.evaluation
    lines = [f"{evaluation.count} pictures", _areas(run)]
    lines.append(_point("at the shipped threshold", evaluation.given))
    if evaluation.best_f is not None:
        lines.append(_point("at this set's best threshold", evaluation.best_f))
    if evaluation.missed:
        lines.append("missed: " + _names(evaluation.missed))
    if evaluation.rejected_good:
        lines.append("good, but rejected: " + _names(evaluation.rejected_good))
    if evaluation.unscored:
        lines.append(f"{len(evaluation.unscored)} could not be judged: {_names([u.name for u in evaluation.unscored])}")
    if run.trained_on:
        lines.append(f"{len(run.trained_on)} have the very pixels of training pictures: {_names(run.trained_on)}")
    elif run.caution:
        lines.append(run.caution)
    return [*lines, f"report: {run.report}"]


def _areas(run: EvaluationRun) -> str:
    evaluation = run.evaluation
    if evaluation.average_precision is None:
        return "average precision needs good and defective pictures: not defined here"
    return (
        f"average precision {evaluation.average_precision:.4f} (trapezoid"
        f" {evaluation.average_precision_trapezoid:.4f}), ROC AUC {evaluation.roc_auc:.4f}"
    )


def _point(where: str, point: OperatingPoint) -> str:
    counts = point.confusion
    return f"{where} {point.threshold:.6g} ({point.source}): {counts.fn} missed, {counts.fp} good rejected"


def _names(names: list[str] | tuple[str, ...]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
