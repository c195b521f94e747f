"""What a station compares with, from pictures with known answers: reference pictures and the profile of a bundle.

Both come from pictures that were not kept for the test, so that its figures stay honest. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import cv2

from segdec_edge.bundle import REFERENCE, Bundle, read_bundle, set_profile, utc_now
from segdec_edge.data.samples import Dataset, Sample
from segdec_edge.decision import Rule, is_defect
from segdec_edge.deploy.gate import dataset_of, facts_of
from segdec_edge.errors import DataError
from segdec_edge.evaluation.run import choose_samples
from segdec_edge.evaluation.scoring import Progress, ScoredSample, score_samples
from segdec_edge.files import folder_atomic
from segdec_edge.pictures import light_of, prepare
from segdec_edge.profile import Profile, Seen, profile_of
from segdec_edge.runtime import open_backend
from segdec_edge.runtime.reference import EXPECTED, Reference, ReferencePicture, expected_text
from segdec_edge.types import Label, ModelSpec

PICTURES = 8
TOLERANCE = {"fp32": 0.02, "fp16": 0.02}
"""Of scores, for the same model.onnx on other runtimes: an fp32 graph may become an FP16 or TF32 engine."""
QUANTIZED_TOLERANCE = 0.15
"""As segdec verify allows between int8 and fp32."""
Say = Callable[[str], None]


def make_reference(
    path: Path,
    data: str | None = None,
    *,
    count: int = PICTURES,
    subset: str | None = None,
    tolerance: float | None = None,
    backend: str = "auto",
    progress: Progress | None = None,
) -> Reference:
    """Choose pictures, half of them defective, score them, and write them into the bundle's folder `reference`.

    Only pictures that the bundle judges rightly, further from its threshold than the tolerance, evenly from sure to
    unsure. subset None: validation, or train where there is none. Raises DataError, BundleError, BackendError,
    StorageError.
    """
    bundle = read_bundle(path)
    dataset = dataset_of(bundle, data)
    chosen = subset or usual_subset(bundle)
    _refuse_test(chosen, dataset, bundle)
    limit = tolerance or TOLERANCE.get(bundle.meta.model.precision, QUANTIZED_TOLERANCE)
    with closing(open_backend(bundle, backend)) as opened:
        samples = choose_samples(dataset, facts_of(bundle), chosen)
        scored = score_samples(opened, samples, progress, keep_heatmaps=False)
        name = opened.name
    picked = _picked(scored, bundle.spec, limit, count)
    by_name = {sample.name: sample for sample in samples}
    with folder_atomic(path / REFERENCE) as folder:
        pictures = tuple(
            _written(folder / f"{index:02}.png", by_name[one.name], one) for index, one in enumerate(picked)
        )
        reference = Reference(
            model_sha256=bundle.meta.model.sha256,
            tolerance=limit,
            data=dataset.spec,
            subset=chosen,
            backend=name,
            when=utc_now(),
            pictures=pictures,
        )
        (folder / EXPECTED).write_text(expected_text(reference), encoding="utf-8")
    return reference


def make_profile(
    path: Path,
    data: str | None = None,
    *,
    subset: str | None = None,
    backend: str = "auto",
    progress: Progress | None = None,
) -> Profile:
    """Score pictures and write their profile into the bundle's meta.json. subset None as make_reference.

    Raises DataError, BundleError, BackendError, StorageError.
    """
    bundle = read_bundle(path)
    dataset = dataset_of(bundle, data)
    chosen = subset or usual_subset(bundle)
    samples = choose_samples(dataset, facts_of(bundle), chosen)
    with closing(open_backend(bundle, backend)) as opened:
        scored = score_samples(opened, samples, progress, keep_heatmaps=False)
    seen = [
        _seen(sample, one, bundle.spec) for sample, one in zip(samples, scored, strict=True) if one.score is not None
    ]
    if not seen:
        raise DataError(f"{dataset.spec}: none of {len(samples)} {chosen} pictures has a score. Check the data set.")
    profile = profile_of(seen, data=dataset.spec, subset=chosen, model_sha256=bundle.meta.model.sha256, when=utc_now())
    set_profile(path, profile)
    return profile


def usual_subset(bundle: Bundle) -> str:
    """Validation where the split has it: a network is surer of what it was trained on than of what comes on the line.

    Without a split: all.
    """
    split = bundle.split()
    if split is None:
        return "all"
    return "validation" if split.get("validation") else "train"


def _refuse_test(subset: str, dataset: Dataset, bundle: Bundle) -> None:
    settings = bundle.meta.training.get("settings")
    trained_on = settings.get("data") if isinstance(settings, dict) else None
    everything = subset == "all" and dataset.spec == trained_on and bundle.split() is not None
    if subset == "test" or everything:
        raise DataError(
            f"{subset!r} holds test pictures, wanted others: they stay held out for the figures. Choose --subset"
            " validation or train."
        )


def _picked(scored: Sequence[ScoredSample], spec: ModelSpec, tolerance: float, count: int) -> list[ScoredSample]:
    rule = Rule(spec.threshold)
    usable = {
        kind: [one for one in scored if one.positive is kind and _is_sure(one, rule, tolerance)]
        for kind in (True, False)
    }
    for kind, word in ((True, "defective"), (False, "good")):
        if not usable[kind]:
            raise DataError(
                f"none of {sum(one.positive is kind for one in scored)} {word} pictures is judged rightly and more than"
                f" {tolerance:g} from the threshold {spec.threshold:.6g}, wanted at least one. Give other pictures, or"
                " a smaller --tolerance."
            )
    defective = _evenly(usable[True], max(1, count // 2))
    return [*_evenly(usable[False], max(1, count - len(defective))), *defective]


def _is_sure(one: ScoredSample, rule: Rule, tolerance: float) -> bool:
    if one.score is None or abs(one.score - rule.threshold) <= tolerance:
        return False
    return is_defect(one.score, rule) is one.positive


def _evenly(scored: Sequence[ScoredSample], count: int) -> list[ScoredSample]:
    ranked = sorted(scored, key=lambda one: (one.score or 0.0, one.name))
    if len(ranked) <= count:
        return ranked
    return [ranked[round(index * (len(ranked) - 1) / max(1, count - 1))] for index in range(count)]


def _written(path: Path, sample: Sample, one: ScoredSample) -> ReferencePicture:
    """The picture as PNG: the very pixels, in 8 bits."""
    content = cv2.imencode(".png", sample.read())[1].tobytes()
    path.write_bytes(content)
    return ReferencePicture(
        file=path.name,
        name=one.name,
        sha256=sha256(content).hexdigest(),
        score=one.score or 0.0,
        label=(Label.DEFECT if one.positive else Label.OK).value,
    )


def _seen(sample: Sample, one: ScoredSample, spec: ModelSpec) -> Seen:
    light = light_of(prepare(sample.read(), spec.size_hw, spec.channels))
    return Seen(one.positive, one.score, light)
