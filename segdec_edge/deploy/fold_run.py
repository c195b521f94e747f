"""segdec fold: from a bundle with FeatureNorm to one with Conv + bias + ReLU, through the gate."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from segdec_edge.bundle import Bundle
from segdec_edge.deploy.distil import NONE, Recipe, StepProgress
from segdec_edge.deploy.fold import folded, standardisation_of
from segdec_edge.deploy.gate import MAX_AP_DROP, Comparison, Marks, exam_for, pass_gate, require_elsewhere, require_exam
from segdec_edge.deploy.lessons import lessons_of
from segdec_edge.deploy.lighting import Lighting, under_other_light
from segdec_edge.deploy.rebuild import (
    PICTURES,
    Say,
    content_of,
    facts_of_content,
    material_of,
    open_for_rebuilding,
)
from segdec_edge.errors import BundleError

KEPT = ("seg_mask", "extractor.1", "extractor.3", "extractor.5")
"""Statistics of the segmentation's output vary by 68 % between pictures, the trunk's by 3 to 8 %; the decision part
gets that output. Their norms have 1 to 32 channels at an eighth of the size and less, and cost next to nothing."""


@dataclass(frozen=True)
class FoldJob:
    """What to fold and how. keep: convolutions whose norm stays; standardise: each picture to the training light;
    recalibrate: constants by least squares behind the folded layers, else the pictures' mean statistics; work: a folder
    where what the unfolded network says is kept for a later run."""

    bundle: Path
    out: Path
    data: str | None = None
    pictures: int = PICTURES
    keep: tuple[str, ...] = KEPT
    standardise: bool = True
    recalibrate: bool = True
    recipe: Recipe = NONE
    subset: str = "test"
    max_ap_drop: float = MAX_AP_DROP
    backend: str = "auto"
    work: Path | None = None


@dataclass(frozen=True)
class Folded:
    """The new bundle beside the old one; lighting: both under changed light, empty where it was not asked for."""

    bundle: Bundle
    comparison: Comparison
    lighting: tuple[Lighting, ...]


def fold_bundle(
    job: FoldJob,
    say: Say,
    progress: StepProgress | None = None,
    *,
    other_light: bool = True,
    before: Marks | None = None,
) -> Folded:
    """Write job.out, or nothing where it loses more than job.max_ap_drop points. before: the bundle's marks, if known.

    Raises GateError, BundleError (nothing to fold, an unknown layer), CalibrationError, DataError, StorageError.
    """
    require_elsewhere(job.out, job.bundle)
    opened = open_for_rebuilding(job.bundle, job.data)
    _require_foldable([norm.name.removesuffix(".norm") for norm in opened.network.norms], job)
    exam = exam_for(opened.bundle, job.data, job.subset, job.backend)
    require_exam(exam, job.max_ap_drop)
    everything = material_of(opened)
    few = material_of(opened, min(job.pictures, len(everything.pixels)))
    standardise = standardisation_of(everything.pixels) if job.standardise else None
    say(f"measuring constants on {len(few.pixels)} of {len(everything.pixels)} training pictures")
    network = folded(
        opened.network, few.pixels, standardise=standardise, keep=job.keep, recalibrate=job.recalibrate, progress=say
    )
    say(f"scoring {len(everything.pixels)} training pictures with the unfolded network")
    lessons = lessons_of(opened.network, everything, job.recipe, work=job.work)
    if job.recipe.steps:
        say(f"distilling from the unfolded network, {job.recipe.steps} steps")
    network = lessons.tuned(network, job.recipe, progress)
    content = content_of(network, opened.spec)
    bundle, comparison = pass_gate(
        opened.bundle,
        job.out,
        content,
        facts_of_content(content),
        exam,
        step="fold",
        note=_note(job, len(few.pixels)),
        max_ap_drop=job.max_ap_drop,
        before=before,
        say=say,
    )
    lighting = under_other_light(opened.bundle, bundle, exam, say) if other_light else ()
    return Folded(bundle, comparison, lighting)


def _require_foldable(normed: Collection[str], job: FoldJob) -> None:
    if not set(normed) - set(job.keep):
        raise BundleError(
            f"{job.bundle}: has no norm to fold, wanted one with FeatureNorm. It is ready for segdec compress."
        )
    for name in job.keep:
        if name not in normed:
            raise BundleError(f"{job.bundle}: no norm at {name!r} to keep, wanted some of {', '.join(normed)}.")


def _note(job: FoldJob, count: int) -> str:
    words = [f"constants from {count} training pictures", "least squares" if job.recalibrate else "mean statistics"]
    if job.standardise:
        words.append("pictures standardised")
    if job.keep:
        words.append(f"norms kept at {', '.join(job.keep)}")
    if job.recipe.steps:
        words.append(f"{job.recipe.steps} steps of distillation")
    return ", ".join(words)
