"""One bundle in, one of another precision out, or none: calibrate, quantise, judge on held-out pictures, write."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from segdec_edge.bundle import Bundle, model_facts, read_bundle
from segdec_edge.data.samples import Dataset
from segdec_edge.data.spec import open_dataset
from segdec_edge.data.splits import Split
from segdec_edge.deploy.calibration import CalibrationSet, manifest_data, read_manifest, write_manifest
from segdec_edge.deploy.gate import (
    MAX_AP_DROP,
    Comparison,
    dataset_of,
    exam_for,
    pass_gate,
    require_elsewhere,
    require_exam,
)
from segdec_edge.deploy.operating_point import moved_back
from segdec_edge.deploy.quantize import (
    Candidate,
    Int8,
    Say,
    half_candidate,
    int8_candidate,
    int8_graphs,
    require_fp32,
)
from segdec_edge.deploy.sensitivity import Asked, Progress, Sensitivity, measure_sensitivity
from segdec_edge.deploy.sensitivity_report import verdict, write_reports
from segdec_edge.errors import CalibrationError, QuantizeError

CALIBRATION = Path("calibration")


@dataclass(frozen=True)
class Job:
    """What the user asked for. out None: beside the bundle; manifest None: calibration/NAME.toml, made where missing.

    data: spec of the data set, None for the manifest's; mixed: measure the layers and leave out as few as needed;
    subset: pictures that the gate judges on.
    """

    bundle: Path
    out: Path | None = None
    precision: Literal["int8", "fp16"] = "int8"
    manifest: Path | None = None
    data: str | None = None
    options: Int8 = field(default_factory=Int8)
    mixed: bool = False
    max_ap_drop: float = MAX_AP_DROP
    backend: str = "auto"
    recalibrate: bool = False
    subset: str = "test"


@dataclass(frozen=True)
class Done:
    """bundle: the new one; found: it and the old one in the gate; sensitivity: where the layers were measured."""

    bundle: Bundle
    found: Comparison
    sensitivity: Sensitivity | None = None


def quantize_bundle(job: Job, *, say: Say, progress: Progress | None = None) -> Done:
    """Write the quantised bundle where its AP and recall on job.subset stay within job.max_ap_drop points.

    Raises GateError past the limit, and nothing is written; QuantizeError, CalibrationError, DataError, BackendError,
    StorageError.
    """
    _require_plain(job)
    source = read_bundle(job.bundle)
    require_fp32(source)
    require_elsewhere(job.out or beside(job.bundle, job.precision), job.bundle)
    calibration = calibration_of(source, job.manifest, job.data, say)
    dataset = open_dataset(job.data or manifest_data(calibration))
    exam = exam_for(source, dataset.spec, job.subset, job.backend)
    require_exam(exam, job.max_ap_drop)
    layers: Sensitivity | None = None
    if job.precision == "fp16":
        candidate = half_candidate(source, calibration)
    elif job.mixed:
        candidate, layers = _mixed(job, source, dataset, calibration, say, progress)
    else:
        graphs = int8_graphs(source, calibration, job.options, recalibrate=job.recalibrate, say=say)
        candidate = int8_candidate(graphs, calibration)
    if job.precision != "fp16":
        candidate = _moved_back(job, source, dataset, candidate, say)
    say(candidate.note)
    out = job.out or beside(job.bundle, candidate.precision)
    facts = model_facts(
        candidate.content,
        opset=source.meta.model.opset,
        precision=candidate.precision,
        simplified=source.meta.model.simplified,
    )
    made, found = pass_gate(
        source,
        out,
        candidate.content,
        facts,
        exam,
        step="quantize",
        note=candidate.note,
        max_ap_drop=job.max_ap_drop,
        say=say,
    )
    return Done(made, found, layers)


def _require_plain(job: Job) -> None:
    """Raise QuantizeError on wishes of which one would be passed over."""
    if job.precision == "fp16" and (job.mixed or job.options.exclude):
        option = "--mixed" if job.mixed else "--exclude"
        raise QuantizeError(f"{option} chooses layers for INT8, got it with --precision fp16. Leave one of them out.")
    if job.mixed and job.options.exclude:
        raise QuantizeError("--mixed chooses the layers that stay out of INT8 itself. Leave --exclude out.")


def find_sensitivity(
    bundle: Path,
    manifest: Path | None,
    data: str | None,
    folder: Path,
    asked: Asked,
    say: Say,
    progress: Progress | None,
) -> tuple[Sensitivity, Path, Path]:
    """Measure every layer and write table and plot into folder; gives them with their paths. Raises as measuring."""
    source = read_bundle(bundle)
    calibration = calibration_of(source, manifest, data, say)
    dataset = open_dataset(data or manifest_data(calibration))
    found, _ = measure_sensitivity(source, dataset, calibration, folder, asked, progress=progress)
    return found, *write_reports(folder, found, _facts(source, calibration, dataset, asked))


def calibration_of(bundle: Bundle, manifest: Path | None, data: str | None, say: Say) -> CalibrationSet:
    """The manifest's pictures. One that is not there yet is made: where `data` is given or no manifest is named.

    Raises CalibrationError, BundleError where neither says which data set.
    """
    path = manifest or CALIBRATION / f"{bundle.path.name.removesuffix('.bundle')}.toml"
    if not path.exists():
        if manifest is not None and data is None:
            raise CalibrationError(
                f"{path}: no such manifest of calibration pictures. Make it: segdec calibrate {bundle.path} --data SPEC"
                f" -o {path}, or give --data here."
            )
        made = write_manifest(path, bundle, dataset_of(bundle, data).spec)
        say(f"{path}: chose {len(made.pictures)} training pictures")
    return read_manifest(path, bundle, data)


def beside(bundle: Path, precision: str) -> Path:
    """parts-int8.bundle beside parts.bundle."""
    return bundle.with_name(f"{bundle.name.removesuffix('.bundle')}-{precision}.bundle")


def _moved_back(job: Job, source: Bundle, dataset: Dataset, candidate: Candidate, say: Say) -> Candidate:
    """The candidate with its scores where the shipped threshold expects them, by the training pictures."""
    split = source.split()
    if split is None:
        return candidate
    training = dataset.named(Split.from_json(split).train)
    original = source.model_path.read_bytes()
    content, offset = moved_back(candidate.content, original, source.spec, training, job.backend, say)
    return replace(candidate, content=content, note=f"{candidate.note}; score moved by {offset:+.2f} (logit)")


def _mixed(
    job: Job, source: Bundle, dataset: Dataset, calibration: CalibrationSet, say: Say, progress: Progress | None
) -> tuple[Candidate, Sensitivity]:
    folder = job.bundle.with_name(f"{job.bundle.name.removesuffix('.bundle')}-sensitivity")
    asked = Asked(job.options, job.max_ap_drop, backend=job.backend)
    found, graphs = measure_sensitivity(
        source, dataset, calibration, folder, asked, recalibrate=job.recalibrate, progress=progress
    )
    table, _ = write_reports(folder, found, _facts(source, calibration, dataset, asked))
    say(f"{table}: {verdict(found)}")
    if found.left_out is None:
        raise QuantizeError(f"{verdict(found)} Make it: segdec quantize {job.bundle} --precision fp16")
    return int8_candidate(graphs, calibration, exclude=found.left_out), found


def _facts(source: Bundle, calibration: CalibrationSet, dataset: Dataset, asked: Asked) -> dict[str, str]:
    return {
        "Bundle": f"{source.path.name}, model {source.spec.sha256[:12]}, threshold {source.spec.threshold:.4g}",
        "Data": dataset.spec,
        "Calibration": f"{len(calibration.samples)} pictures of {calibration.path.name} {calibration.sha256[:12]}",
        "Settings": f"{asked.options.calibrator}, activations {asked.options.activations}, rest {asked.options.rest}",
        "Backend": asked.backend,
    }
