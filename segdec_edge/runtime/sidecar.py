"""What a plan was built from and for, written beside it, and whether it fits this machine. Knows no TensorRT.

engines/sm87-fp16.plan   the serialized engine
engines/sm87-fp16.json   its PlanFacts
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError

from segdec_edge.bundle import ENGINES, Bundle
from segdec_edge.errors import BackendError, BundleError
from segdec_edge.files import sha256_of
from segdec_edge.record import Count, Record
from segdec_edge.runtime.gpu import Gpu
from segdec_edge.runtime.tensorrt_api import VENDOR_NAMES, version_of

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
NOT_RUN = "not run here"


@dataclass(frozen=True)
class Here:
    """This machine: runtime tensorrt or tensorrt_rtx, its version, and the GPU; None where there is no driver."""

    runtime: str
    version: tuple[int, ...]
    gpu: Gpu | None


class PlanFacts(Record):
    """All that a plan depends on.

    target: current, or the GPU it was built for where none was at hand, as sm86; gpu and multiprocessors are None then.
    batches: least, best and most pictures of a batch. checked: how it did on its machine, in words.
    """

    plan_sha256: Sha256
    plan_bytes: Count
    onnx_sha256: Sha256
    runtime: Literal["tensorrt", "tensorrt_rtx"]
    runtime_version: str
    target: str
    gpu: str | None
    compute_capability: tuple[int, int] | None
    precision: str
    batches: tuple[int, int, int]
    build_seconds: float
    created: AwareDatetime
    multiprocessors: int | None = None
    calibration_sha256: Sha256 | None = None
    dla: int | None = None
    version_compatible: bool = False
    stripped: bool = False
    checked: str = NOT_RUN
    format: Literal[1] = 1


@dataclass(frozen=True)
class Plan:
    path: Path
    facts: PlanFacts


def sidecar_of(plan: Path) -> Path:
    return plan.with_suffix(".json")


def read_plan(path: Path, bundle: Bundle) -> Plan:
    """A plan with its facts. Raises BundleError where these are missing or not readable."""
    sidecar = sidecar_of(path)
    try:
        return Plan(path, PlanFacts.model_validate_json(sidecar.read_bytes()))
    except OSError as error:
        state = "has no" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror}):"
        raise BundleError(f"{path}: {state} {sidecar.name}. Rebuild it: segdec build {bundle.path}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "its content"
        raise BundleError(f"{sidecar}: {key}: {first['msg']}. Rebuild it: segdec build {bundle.path}") from error


def plans_of(bundle: Bundle) -> tuple[Path, ...]:
    """Every plan in the bundle, by name."""
    return tuple(sorted((bundle.path / ENGINES).glob("*.plan")))


def find_plan(bundle: Bundle, here: Here, dla: int | None = None) -> Plan:
    """The newest of the bundle's plans that fits this machine, its hash checked.

    dla: the core it must be built for, None for the GPU. Raises BackendError where this machine has no driver,
    BundleError where no plan fits, with the reason of the newest one and the command that builds.
    """
    _require_gpu(here)
    reasons: list[str] = []
    for plan in _newest_first(bundle, reasons):
        if plan.facts.dla != dla:
            continue
        try:
            check_plan(plan, bundle, here)
            return plan
        except BundleError as error:
            reasons.append(str(error))
    if not reasons:
        what = "no engine" if dla is None else f"no engine for DLA {dla}"
        option = "" if dla is None else f" --dla {dla}"
        raise BundleError(f"{bundle.path}: has {what}. Build it on this machine: segdec build {bundle.path}{option}")
    others = f" ({len(reasons) - 1} more do not fit either)" if len(reasons) > 1 else ""
    raise BundleError(f"{reasons[0]}{others}")


def _newest_first(bundle: Bundle, reasons: list[str]) -> list[Plan]:
    found = []
    for path in plans_of(bundle):
        try:
            found.append(read_plan(path, bundle))
        except BundleError as error:
            reasons.append(str(error))
    return sorted(found, key=lambda plan: plan.facts.created, reverse=True)


def check_plan(plan: Plan, bundle: Bundle, here: Here) -> None:
    """Whether the plan is whole, of this bundle's model, and for this machine; what fails is told in one line.

    Raises BackendError where this machine has no driver, else BundleError with the command that rebuilds.
    """
    _require_gpu(here)
    reason = plan_fault(plan, bundle) or _other_machine(plan.facts, here)
    if reason:
        raise BundleError(f"{plan.path}: {reason}. Rebuild it: {rebuild_command(plan.facts, bundle, here)}")


def plan_fault(plan: Plan, bundle: Bundle) -> str:
    """Why the plan runs nowhere: it is damaged, or of another model than the bundle's; empty where it is sound."""
    return _damage(plan) or _other_model(plan.facts, bundle)


def rebuild_command(facts: PlanFacts, bundle: Bundle, here: Here) -> str:
    """The command that builds the same kind of plan for this machine."""
    options = [f"--precision {facts.precision}"]
    if facts.target != "current" and here.gpu is not None and here.runtime == "tensorrt_rtx":
        options.append(f"--target {_sm(here.gpu.compute_capability)}")
    if facts.dla is not None:
        options.append(f"--dla {facts.dla}")
    options.append(f"--batch {','.join(str(size) for size in facts.batches)}")
    if facts.version_compatible:
        options.append("--version-compatible")
    if facts.stripped:
        options.append("--strip")
    if facts.calibration_sha256 is not None:
        options.append("--calibration MANIFEST")
    return f"segdec build {bundle.path} {' '.join(options)}"


def _require_gpu(here: Here) -> None:
    if here.gpu is None:
        raise BackendError(
            f"{VENDOR_NAMES[here.runtime]} has no NVIDIA driver or GPU here, wanted one to run an engine."
            " Install the driver (segdec doctor shows what is there), or choose backend onnxruntime."
        )


def _damage(plan: Plan) -> str:
    try:
        size = plan.path.stat().st_size
        if size != plan.facts.plan_bytes:
            return f"is damaged: {size} bytes, wanted {plan.facts.plan_bytes} as its {sidecar_of(plan.path).name} says"
        found = sha256_of(plan.path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    wanted = plan.facts.plan_sha256
    return "" if found == wanted else f"was changed: hash {found[:12]}, wanted {wanted[:12]}"


def _other_model(facts: PlanFacts, bundle: Bundle) -> str:
    wanted = bundle.meta.model.sha256
    if facts.onnx_sha256 == wanted:
        return ""
    return f"was built from model {facts.onnx_sha256[:12]}, this bundle holds {wanted[:12]}"


def _other_machine(facts: PlanFacts, here: Here) -> str:
    built, installed = (
        f"{VENDOR_NAMES[facts.runtime]} {facts.runtime_version}",
        f"{VENDOR_NAMES[here.runtime]} {'.'.join(str(part) for part in here.version)}",
    )
    if facts.runtime != here.runtime or not _version_fits(facts, here.version):
        return f"was built for {built}, this machine has {installed}"
    return _other_gpu(facts, here.gpu)


def _version_fits(facts: PlanFacts, here: tuple[int, ...]) -> bool:
    """The same version; a version-compatible plan also runs on newer ones of the same major number."""
    built = version_of(facts.runtime_version)
    return built == here or (facts.version_compatible and built[:1] == here[:1] and here >= built)


def _other_gpu(facts: PlanFacts, gpu: Gpu | None) -> str:
    if gpu is None or facts.compute_capability is None:
        return ""
    found = f"{gpu.name} ({_sm(gpu.compute_capability)}, {gpu.multiprocessors} multiprocessors)"
    same = facts.compute_capability == gpu.compute_capability
    if facts.gpu is None:
        return "" if same else f"was built for {_sm(facts.compute_capability)}, this machine has {found}"
    if same and (facts.gpu, facts.multiprocessors) == (gpu.name, gpu.multiprocessors):
        return ""
    built = f"{facts.gpu} ({_sm(facts.compute_capability)}, {facts.multiprocessors} multiprocessors)"
    return f"was built on {built}, this machine has {found}"


def _sm(compute_capability: tuple[int, int]) -> str:
    return f"sm{compute_capability[0]}{compute_capability[1]}"
