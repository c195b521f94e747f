"""What a bundle is, from whatever its meta.json says, and its lineage from checkpoint to engine, with each accuracy.

It reads plain JSON values, so that a bundle of any age, and a damaged one, shows what it still says. Opens no runtime.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdec_edge.bundle import DIGEST, ENGINES, META, SPLIT, Bundle, read_bundle
from segdec_edge.errors import BackendError, BundleError
from segdec_edge.runtime.gpu import current_gpu
from segdec_edge.runtime.reference import reference_of
from segdec_edge.runtime.sidecar import Here, Plan, check_plan, plan_fault, plans_of, read_plan
from segdec_edge.runtime.tensorrt_api import find_tensorrt

Json = Mapping[str, Any]
_SUBSETS = ("train", "validation", "test")


@dataclass(frozen=True)
class PlanState:
    """One engine in the bundle. facts: its sidecar, None where there is none that can be read.

    fault: why it does not belong to this model.onnx, or is damaged, empty where it is sound; here: whether it runs on
    this machine, in words.
    """

    name: str
    facts: Json | None
    fault: str
    here: str


@dataclass(frozen=True)
class LineageStep:
    """One step of the road. sha256: of what it made; accuracy: each record of how that did, none where not measured.

    curve: what segdec compress tried, each share of the operations with its accuracy on the pictures `chosen_on`.
    """

    step: str
    when: str
    sha256: str
    note: str
    accuracy: tuple[Json, ...]
    curve: tuple[Json, ...] = ()
    chosen_on: str = ""


@dataclass(frozen=True)
class BundleFacts:
    """meta: meta.json as it lies there, without the digest; damage: one line, empty where the bundle is whole.

    split: how the pictures were divided, and how many are in each subset. reference: its reference pictures, in words.
    """

    path: Path
    meta: Json
    damage: str
    split: Json
    plans: tuple[PlanState, ...]
    lineage: tuple[LineageStep, ...]
    reference: str = ""


def bundle_facts(path: Path) -> BundleFacts:
    """Whatever can be learnt about a bundle. Raises BundleError only where there is no meta.json to read."""
    damage, bundle = "", None
    try:
        bundle = read_bundle(path)
    except BundleError as error:
        damage = str(error)
    meta = _meta_of(path, damage)
    plans = _plans(bundle) if bundle is not None else _unchecked_plans(path)
    split, split_damage = _split(path)
    reference = "not looked at: the bundle is damaged" if bundle is None else _reference(bundle)
    return BundleFacts(path, meta, damage or split_damage, split, plans, _lineage(meta, plans), reference)


def value_at(values: Any, *keys: str) -> Any:
    """values[a][b]…, None where that is not there."""
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


def to_json(facts: BundleFacts) -> dict[str, Any]:
    """Plain values for json.dumps: meta.json's tables, without the list of training pictures, and what was found."""
    training = value_at(facts.meta, "training")
    kept = {key: value for key, value in training.items() if key != "train_digests"} if _is_table(training) else {}
    return {
        "path": str(facts.path),
        "damage": facts.damage or None,
        **facts.meta,
        "training": kept,
        "split": dict(facts.split),
        "reference": facts.reference,
        "lineage": [{**vars(step), "accuracy": list(step.accuracy)} for step in facts.lineage],
        "engines": [vars(plan) for plan in facts.plans],
    }


def _meta_of(path: Path, damage: str) -> Json:
    try:
        values = json.loads((path / META).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise BundleError(damage or f"{path / META}: cannot be read. Copy the bundle again.") from None
    if not isinstance(values, dict):
        raise BundleError(damage)
    return {key: value for key, value in values.items() if key != DIGEST}


def _reference(bundle: Bundle) -> str:
    try:
        found = reference_of(bundle)
    except BundleError as error:
        return str(error)
    if found is None:
        return "none: no station can check it before a swap (segdec reference adds them)"
    _, reference = found
    return f"{len(reference.pictures)} {reference.subset} pictures, scores within {reference.tolerance:g}"


def _split(path: Path) -> tuple[Json, str]:
    try:
        values = json.loads((path / SPLIT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        return {}, f"{path / SPLIT}: cannot be read ({reason}). Copy the bundle again, or export it anew."
    counts = {name: len(names) for name in _SUBSETS if isinstance(names := value_at(values, name), list)}
    return {"how": str(value_at(values, "how") or "not said"), **counts}, ""


def _plans(bundle: Bundle) -> tuple[PlanState, ...]:
    return tuple(_plan(path, bundle) for path in plans_of(bundle))


def _plan(path: Path, bundle: Bundle) -> PlanState:
    try:
        plan = read_plan(path, bundle)
    except BundleError as error:
        return PlanState(path.name, None, _after_path(error, path), "")
    fault = plan_fault(plan, bundle)
    return PlanState(path.name, plan.facts.model_dump(mode="json"), fault, "" if fault else _here(plan, bundle))


def _here(plan: Plan, bundle: Bundle) -> str:
    gpu = current_gpu()
    if gpu is None:
        return "no NVIDIA GPU here"
    try:
        tensorrt = find_tensorrt(plan.facts.runtime)
        check_plan(plan, bundle, Here(tensorrt.name, tensorrt.version, gpu))
    except (BackendError, BundleError) as error:
        return _after_path(error, plan.path)
    return f"runs on this {gpu.name}"


def _after_path(error: Exception, path: Path) -> str:
    """The message without the path that stands in the table already."""
    return str(error).removeprefix(f"{path}: ")


def _unchecked_plans(path: Path) -> tuple[PlanState, ...]:
    names = sorted(plan.name for plan in (path / ENGINES).glob("*.plan"))
    return tuple(PlanState(name, None, "not looked at: the bundle is damaged", "") for name in names)


def _lineage(meta: Json, plans: Sequence[PlanState]) -> tuple[LineageStep, ...]:
    return (*_checkpoint(meta), *_bundles(meta), *_engines(meta, plans))


def _checkpoint(meta: Json) -> Iterator[LineageStep]:
    training = value_at(meta, "training")
    sha256 = value_at(training, "checkpoint_sha256")
    if isinstance(sha256, str):
        epoch = value_at(training, "epoch")
        yield LineageStep("checkpoint", "", sha256, "" if epoch is None else f"epoch {epoch}", ())


def _bundles(meta: Json) -> Iterator[LineageStep]:
    steps = value_at(meta, "lineage")
    tables = [step for step in steps if _is_table(step)] if isinstance(steps, list) else []
    for step in tables:
        known = value_at(step, "accuracy")
        records = [known] if _is_table(known) else []
        if value_at(step, "sha256") == value_at(meta, "model", "sha256"):
            records += [one for one in _records(meta) if one not in records and not _of_engine(one)]
        curve = value_at(step, "curve")
        yield LineageStep(
            step=_text(step, "step"),
            when=_text(step, "when"),
            sha256=_text(step, "sha256"),
            note=_text(step, "note"),
            accuracy=tuple(records),
            curve=tuple(one for one in curve if _is_table(one)) if isinstance(curve, list) else (),
            chosen_on=_text(step, "chosen_on"),
        )


def _engines(meta: Json, plans: Sequence[PlanState]) -> Iterator[LineageStep]:
    """The sound engines; a record of accuracy names no engine, so that with several of them it belongs to none, and an
    engine that was built after it is not what it was about."""
    sound = [plan for plan in plans if plan.facts is not None and not plan.fault]
    records = tuple(one for one in _records(meta) if _of_engine(one))
    for plan in sound:
        facts = plan.facts or {}
        note = f"{plan.name}: {_text(facts, 'precision')} for {_text(facts, 'target')}; {_text(facts, 'checked')}"
        own = (one for one in records if _text(one, "when") >= _text(facts, "created"))
        measured = tuple(own) if len(sound) == 1 else ()
        yield LineageStep("build", _text(facts, "created"), _text(facts, "plan_sha256"), note, measured)


def _records(meta: Json) -> list[Json]:
    found = value_at(meta, "accuracy")
    return [one for one in found if _is_table(one)] if isinstance(found, list) else []


def _of_engine(record: Json) -> bool:
    return _text(record, "backend").startswith("tensorrt")


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _text(values: Json, key: str) -> str:
    found = value_at(values, key)
    return "" if found is None else str(found)
