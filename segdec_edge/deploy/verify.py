"""Do all forms of a network score alike? The trained one, the graph it became, and what each runtime makes of that.

The first form is the reference; every other one is compared with it on real pictures, and where it is too far away,
layer by layer, to name the first one that differs. Measures no accuracy: that is the gate's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segdec_edge.bundle import Bundle, Meta, read_bundle
from segdec_edge.data.samples import Sample
from segdec_edge.data.splits import Split
from segdec_edge.deploy.apart import (
    FP16,
    FP32,
    INT8,
    REBUILT,
    Compared,
    Limits,
    compare_scores,
    first_past,
    layer_errors,
)
from segdec_edge.deploy.gate import dataset_of
from segdec_edge.deploy.layer_outputs import Ask, ask_onnx, ask_torch
from segdec_edge.errors import BackendError, BundleError, DataError
from segdec_edge.evaluation.scoring import ScoredSample, score_samples
from segdec_edge.pictures import prepare
from segdec_edge.runtime import available_backends, open_backend
from segdec_edge.types import Backend, ModelSpec, Pixels

PICTURES = 8
Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """against: checkpoints or bundles, the first one is the reference; none: the bundle itself on onnxruntime.

    Each limit None: by what lies between the two forms. layers: compare layer by layer in any case.
    """

    bundle: Path
    against: tuple[Path, ...] = ()
    data: str | None = None
    pictures: int = PICTURES
    score_limit: float | None = None
    heatmap_limit: float | None = None
    layer_limit: float | None = None
    layers: bool = False


@dataclass(frozen=True)
class Report:
    """skipped: runtimes that were not asked, with the reason. remarks: what makes the comparison doubtful."""

    reference: str
    pictures: tuple[str, ...]
    threshold: float
    compared: tuple[Compared, ...]
    skipped: Mapping[str, str]
    remarks: tuple[str, ...]

    @property
    def exceeded(self) -> bool:
        return any(one.exceeded for one in self.compared)


@dataclass(frozen=True)
class Form:
    """One way to score, and how to ask it for its layers. meta: its bundle's, None for a checkpoint."""

    name: str
    precision: str
    sha256: str
    meta: Meta | None
    open: Callable[[], Backend]
    ask: Callable[[], Ask]


def verify(job: Job, say: Say | None = None) -> Report:
    """Compare all forms with the first. Raises BundleError (other input sizes), CheckpointError, DataError,
    BackendError (the reference does not load)."""
    tell = say or _silent
    bundle = read_bundle(job.bundle)
    others, skipped = _runtimes(bundle)
    against = [_form_of(path, bundle.spec) for path in job.against]
    reference, *rest = [*against, *others]
    samples = _choose(bundle, job.data, job.pictures)
    tell(f"scoring {len(samples)} pictures by {reference.name}")
    wanted = _scores(reference, samples, bundle.spec)
    usable = [sample for sample, one in zip(samples, wanted, strict=True) if one.score is not None]
    if not usable:
        raise DataError(f"none of {len(samples)} pictures has a score, first: {wanted[0].error} Give other --data.")
    compared = []
    for form in rest:
        tell(f"scoring {len(samples)} pictures by {form.name}")
        try:
            found = _scores(form, samples, bundle.spec)
        except BackendError as error:
            skipped[form.name] = str(error)
            continue
        one = compare_scores(form.name, wanted, found, _limits(job, reference, form), bundle.spec.threshold)
        if one.exceeded or job.layers:
            tell(f"comparing layers with {form.name}")
            one = _by_layers(one, reference, form, usable, bundle.spec)
        compared.append(one)
    names = tuple(sample.name for sample in samples)
    remarks = tuple(_remarks(job, bundle, against))
    return Report(reference.name, names, bundle.spec.threshold, tuple(compared), skipped, remarks)


def _runtimes(bundle: Bundle) -> tuple[list[Form], dict[str, str]]:
    """The bundle on every runtime that loads it, onnxruntime first, and why the others do not."""
    forms, skipped = [], {}
    for name in sorted(available_backends(), key=lambda one: one != "onnxruntime"):
        try:
            open_backend(bundle, name).close()
        except (BackendError, BundleError) as error:  # BundleError: an engine that does not fit
            skipped[name] = str(error)
        else:
            forms.append(_bundle_form(bundle, name))
    if not forms:
        raise BackendError(f"{bundle.path}: no runtime loads it. {' '.join(skipped.values())}")
    return forms, skipped


def _bundle_form(bundle: Bundle, runtime: str) -> Form:
    # An engine gives no layers: those of its graph are asked of onnxruntime.
    for_layers = "openvino" if runtime == "openvino" else "onnxruntime"
    return Form(
        name=f"{bundle.path.name} on {runtime}",
        precision=bundle.spec.precision,
        sha256=bundle.spec.sha256,
        meta=bundle.meta,
        open=lambda: open_backend(bundle, runtime),
        ask=lambda: ask_onnx(bundle.model_path.read_bytes(), for_layers),
    )


def _form_of(path: Path, spec: ModelSpec) -> Form:
    if path.is_dir():
        other = read_bundle(path)
        _require_same_input(path, other.spec, spec)
        return _bundle_form(other, "onnxruntime")
    # A bundle alone must be verified without torch, as on a board.
    from segdec_edge.model.backend import TorchBackend, open_checkpoint

    opened = open_checkpoint(path)
    _require_same_input(path, opened.spec, spec)

    def again() -> TorchBackend:
        return TorchBackend(opened.net, opened.spec)

    return Form(f"{path.name} on torch", "fp32", opened.spec.sha256, None, again, lambda: ask_torch(again()))


def _require_same_input(path: Path, other: ModelSpec, spec: ModelSpec) -> None:
    if (other.size_hw, other.channels) != (spec.size_hw, spec.channels):
        sizes = [f"{one.size_hw[0]}x{one.size_hw[1]}x{one.channels}" for one in (other, spec)]
        raise BundleError(f"{path}: takes {sizes[0]}, the bundle {sizes[1]}. Give what the bundle was made from.")


def _remarks(job: Job, bundle: Bundle, against: Sequence[Form]) -> list[str]:
    """A form of another network differs because it is another one."""
    known = {step.sha256 for step in bundle.meta.lineage} | {bundle.spec.sha256}
    known.add(str(bundle.meta.training.get("checkpoint_sha256")))
    return [
        f"{path}: {form.sha256[:12]} is not in the lineage of {bundle.path.name}, it may be another network"
        for path, form in zip(job.against, against, strict=True)
        if form.sha256 not in known
    ]


def _choose(bundle: Bundle, data: str | None, count: int) -> list[Sample]:
    """Held-out pictures where the split is known, else any; half of them defective where there are enough, spread."""
    if count < 1:
        raise DataError(f"{count} pictures, wanted at least 1.")
    samples = dataset_of(bundle, data).samples
    split = bundle.split()
    held_out = set(Split.from_json(split).test) if split else set()
    pool = [sample for sample in samples if sample.name in held_out] or list(samples)
    defective = _spread([sample for sample in pool if sample.positive], (count + 1) // 2)
    good = _spread([sample for sample in pool if not sample.positive], count - len(defective))
    return [*defective, *good]


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    return [samples[place] for place in places]


def _scores(form: Form, samples: Sequence[Sample], spec: ModelSpec) -> tuple[ScoredSample, ...]:
    with closing(form.open()) as backend:
        return score_samples(_AsBundle(backend, spec), samples)


class _AsBundle:
    """A backend that refuses the pictures that the bundle refuses: older forms may not know the sizes trained on."""

    def __init__(self, backend: Backend, spec: ModelSpec) -> None:
        self.name = backend.name
        self.spec = replace(backend.spec, source_hw=spec.source_hw)
        self.infer = backend.infer
        self.close = backend.close


def _limits(job: Job, reference: Form, form: Form) -> Limits:
    limits = _natural(reference, form)
    return replace(
        limits,
        score=limits.score if job.score_limit is None else job.score_limit,
        heatmap=limits.heatmap if job.heatmap_limit is None else job.heatmap_limit,
        layer=limits.layer if job.layer_limit is None else job.layer_limit,
    )


def _natural(reference: Form, form: Form) -> Limits:
    if _steps(form, reference) - {"export", "quantize", "unknown"}:
        return REBUILT
    precisions = {reference.precision, form.precision}
    if precisions <= {"fp32"}:
        return FP32
    return FP16 if precisions <= {"fp32", "fp16"} else INT8


def _steps(form: Form, reference: Form) -> set[str]:
    """What was done between the two, whichever of them came first."""
    ways = [[(step.step, step.sha256) for step in one.meta.lineage] if one.meta else [] for one in (form, reference)]
    return {step for step, _ in set(ways[0]) ^ set(ways[1])}


def _by_layers(one: Compared, reference: Form, form: Form, samples: Sequence[Sample], spec: ModelSpec) -> Compared:
    try:
        layers = layer_errors(reference.ask(), form.ask(), _pixels(samples, spec))
    except BackendError as error:
        return replace(one, exceeded=(*one.exceeded, str(error)))
    return replace(one, layers=layers, first=first_past(layers, one.limits.layer))


def _pixels(samples: Sequence[Sample], spec: ModelSpec) -> list[Pixels]:
    return [prepare(sample.read(), spec.size_hw, spec.channels)[None] for sample in samples]


def _silent(line: str) -> None:
    pass
