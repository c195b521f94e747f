"""A bundle becomes a TensorRT plan with its sidecar, in the bundle's folder engines. Runs on boards: imports no torch.

Precision lives in the graph. Only where TensorRT types a network by builder flags (8.6; DLA up to 10.x) does an FP32
bundle become an FP16 or INT8 engine here.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from segdec_edge.bundle import ENGINES, Bundle, read_bundle, utc_now
from segdec_edge.deploy.builder import Batches, Built, Monitor, Wish, build_plan
from segdec_edge.deploy.calibrator import Calibration, entropy_calibrator
from segdec_edge.deploy.memory import check_memory, needed_bytes
from segdec_edge.errors import BackendError, EngineError, StorageError
from segdec_edge.files import make_folder, storage_error, write_atomic
from segdec_edge.runtime.gpu import Gpu, current_gpu
from segdec_edge.runtime.sidecar import NOT_RUN, Plan, PlanFacts, sidecar_of
from segdec_edge.runtime.tensorrt_api import TensorRt, check_target, find_tensorrt

PRECISIONS = ("fp32", "fp16", "int8", "mixed")
BATCHES: Batches = (1, 1, 4)
"""A station asks for one part at a time, so kernels are tuned for one; evaluation may send up to four."""
WORKSPACE = 1 << 30
_MOST_PICTURES, _MOST_WORKSPACE = 1 << 16, 1 << 40
"""Far beyond any GPU; larger numbers do not fit the types of TensorRT's own calls."""
Check = Callable[[Plan], str]

_log = logging.getLogger(__name__)


def build_engine(
    bundle: Bundle | Path,
    *,
    precision: str | None = None,
    target: str = "current",
    dla: int | None = None,
    batches: Batches | None = None,
    workspace_bytes: int = WORKSPACE,
    version_compatible: bool = False,
    strip: bool = False,
    calibration: Calibration | None = None,
    tensorrt: TensorRt | None = None,
    monitor: Monitor | None = None,
    check: Check | None = None,
    timings: Path | None = None,
) -> Plan:
    """Build a plan and its sidecar, or write nothing; an older plan of the same name gives way.

    precision: None for the bundle's own. target: current for the GPU that is here, or sm86 and the like (TensorRT-RTX).
    batches: least, best, most. tensorrt: None for what is installed. check: runs the plan where it can run here and
    says how it did, or raises to refuse it. timings: the file of the timing cache, None for one in the user's cache.
    Raises EngineError, BackendError, BundleError, StorageError, and what check raises.
    """
    opened = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
    runtime = tensorrt or _runtime_for(target)
    gpu = _gpu_for(runtime, target)
    if not 0 < workspace_bytes <= _MOST_WORKSPACE:
        raise EngineError(f"a workspace of {workspace_bytes} bytes, wanted up to 1024GiB: --workspace 1GiB")
    wish = Wish(
        precision=_agreed_precision(opened, runtime, precision, dla, calibration is not None),
        target=target,
        dla=dla,
        batches=_agreed_batches(batches, dla),
        workspace_bytes=workspace_bytes,
        weak=_is_weak(runtime, dla),
        version_compatible=version_compatible,
        strip=strip,
    )
    warning = check_memory(needed_bytes(opened.meta.model.size_bytes, workspace_bytes, gpu))
    if warning:
        _log.warning("%s", warning)
    started = time.perf_counter()
    built = _build(opened, runtime, wish, calibration, monitor, timings or _timings_path(runtime, gpu))
    facts = _facts(opened, runtime, wish, gpu, calibration, built, time.perf_counter() - started)
    return _write(opened, built, facts, check)


def plan_name(runtime: str, target: str, precision: str, dla: int | None) -> str:
    """sm87-fp16-dla0.plan; target current or as sm87. Plans of TensorRT-RTX stand beside TensorRT's own."""
    words = (["rtx"] if runtime == "tensorrt_rtx" else []) + [target, precision]
    return "-".join([*words, *([] if dla is None else [f"dla{dla}"])]) + ".plan"


def _runtime_for(target: str) -> TensorRt:
    if target == "current":
        return find_tensorrt()
    try:
        return find_tensorrt("tensorrt_rtx")
    except BackendError:
        check_target(find_tensorrt(), target)
        raise


def _gpu_for(runtime: TensorRt, target: str) -> Gpu | None:
    """The GPU to build for, None where that one need not be here."""
    if target != "current":
        check_target(runtime, target)
        return None
    gpu = current_gpu()
    if gpu is None:
        others = f" Or build for another GPU: --target {runtime.targets[0]} ({', '.join(runtime.targets)})."
        raise EngineError(
            f"no NVIDIA GPU or driver here, {runtime} wants the GPU it builds for. Run the command on that machine."
            + (others if runtime.targets else "")
        )
    return gpu


def _is_weak(runtime: TensorRt, dla: int | None) -> bool:
    return not runtime.has_strong_typing or (dla is not None and runtime.has_weak_typing)


def _agreed_precision(bundle: Bundle, runtime: TensorRt, asked: str | None, dla: int | None, calibrated: bool) -> str:
    """Raises EngineError where the bundle's graph and the wanted precision do not go together."""
    own = bundle.meta.model.precision
    wanted = asked or own
    weak = _is_weak(runtime, dla)
    if wanted not in PRECISIONS:
        raise EngineError(f"precision {wanted}, wanted one of {', '.join(PRECISIONS)}.")
    if calibrated and not (weak and own == "fp32" and wanted == "int8"):
        raise EngineError(
            f"calibration pictures for a {wanted} engine of {runtime}: they serve INT8 from an fp32 bundle on TensorRT"
            f" 8.6 and on DLA alone. Leave them out; quantize instead: segdec quantize {bundle.path} --precision int8"
        )
    if weak and dla is not None and own in ("int8", "mixed"):
        raise EngineError(
            f"{bundle.path}: holds Q/DQ nodes, {runtime} on DLA wants an fp32 bundle and calibration pictures. Build"
            f" from the bundle this one was made of: segdec build … --precision int8 --dla {dla} --calibration MANIFEST"
        )
    if own == wanted or (own == "mixed" and wanted == "int8"):
        return own
    if weak and own == "fp32" and (wanted == "fp16" or (wanted == "int8" and calibrated)):
        return wanted
    raise EngineError(_disagreement(bundle, runtime, wanted, own, dla))


def _disagreement(bundle: Bundle, runtime: TensorRt, wanted: str, own: str, dla: int | None) -> str:
    got = f"{bundle.path}: its graph is {own}, wanted a {wanted} engine of {runtime}"
    if own != "fp32":
        return f"{got}: precision lives in the graph. Build from the {wanted} bundle that this one was made of."
    if dla is not None and wanted == "int8":
        return f"{got} on DLA: that needs training pictures to calibrate on. Add --calibration MANIFEST."
    return (
        f"{got}: precision lives in the graph. Make such a bundle, then build it: segdec quantize {bundle.path}"
        f" --precision {'int8' if wanted == 'mixed' else wanted}"
    )


def _agreed_batches(batches: Batches | None, dla: int | None) -> Batches:
    chosen = batches or ((1, 1, 1) if dla is not None else BATCHES)
    if not 1 <= chosen[0] <= chosen[1] <= chosen[2]:
        raise EngineError(f"batch sizes {_listed(chosen)}, wanted least, best and most, from 1 on: --batch 1,4,8")
    if chosen[2] > _MOST_PICTURES:
        raise EngineError(f"batch sizes {_listed(chosen)}, wanted at most {_MOST_PICTURES} pictures: --batch 1,4,8")
    if dla is not None and chosen[0] != chosen[2]:
        raise EngineError(f"batch sizes {_listed(chosen)} on DLA, which takes one size alone: --batch {chosen[1]}")
    return chosen


def _listed(batches: Batches) -> str:
    return ",".join(str(size) for size in batches)


def _build(
    bundle: Bundle,
    runtime: TensorRt,
    wish: Wish,
    calibration: Calibration | None,
    monitor: Monitor | None,
    timings: Path,
) -> Built:
    calibrator = None
    if calibration is not None:
        calibrator = entropy_calibrator(runtime, calibration, bundle.meta.model.sha256, wish.batches[1])
    known = timings.read_bytes() if timings.is_file() else b""
    try:
        onnx = bundle.model_path.read_bytes()
        built = build_plan(runtime, onnx, wish, calibrator=calibrator, timings=known, monitor=monitor)
    except EngineError:
        _raise_failure(calibrator)
        raise
    _raise_failure(calibrator)
    _keep_timings(timings, built.timings)
    return built


def _raise_failure(calibrator: object) -> None:
    failure = getattr(calibrator, "failure", None)
    if failure is not None:
        raise failure


def _keep_timings(path: Path, content: bytes) -> None:
    if not content:
        return
    try:
        write_atomic(make_folder(path.parent) / path.name, content)
    except StorageError as error:  # it only saves time
        _log.warning("the timing cache is not kept: %s", error)


def _timings_path(runtime: TensorRt, gpu: Gpu | None) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    where = "any" if gpu is None else re.sub(r"\W+", "-", f"{gpu.name}-{gpu.multiprocessors}").lower()
    version = ".".join(str(part) for part in runtime.version)
    return base / "segdec-edge" / f"{runtime.name}-{version}-{where}.timings"


def _facts(
    bundle: Bundle,
    runtime: TensorRt,
    wish: Wish,
    gpu: Gpu | None,
    calibration: Calibration | None,
    built: Built,
    seconds: float,
) -> PlanFacts:
    return PlanFacts(
        plan_sha256=hashlib.sha256(built.plan).hexdigest(),
        plan_bytes=built.plan.nbytes,
        onnx_sha256=bundle.meta.model.sha256,
        runtime="tensorrt_rtx" if runtime.name == "tensorrt_rtx" else "tensorrt",
        runtime_version=".".join(str(part) for part in runtime.version),
        target=wish.target,
        gpu=None if gpu is None else gpu.name,
        compute_capability=_capability(wish.target) if gpu is None else gpu.compute_capability,
        multiprocessors=None if gpu is None else gpu.multiprocessors,
        precision=wish.precision,
        batches=wish.batches,
        build_seconds=round(seconds, 2),
        created=utc_now(),
        calibration_sha256=None if calibration is None else calibration.sha256,
        dla=wish.dla,
        version_compatible=wish.version_compatible,
        stripped=wish.strip,
    )


def _capability(target: str) -> tuple[int, int]:
    """sm86 → (8, 6), sm120 → (12, 0)."""
    return int(target[2:-1]), int(target[-1])


def _write(bundle: Bundle, built: Built, facts: PlanFacts, check: Check | None) -> Plan:
    """Plan and sidecar into the bundle; between the two a reader sees a plan that its sidecar refuses, never a wrong
    pair that passes."""
    folder = make_folder(bundle.path / ENGINES)
    name = plan_name(facts.runtime, _target_name(facts), facts.precision, facts.dla)
    checked = _checked(folder, name, built, facts, check)
    final = Plan(folder / name, facts.model_copy(update={"checked": checked}))
    write_atomic(final.path, bytes(built.plan))
    write_atomic(sidecar_of(final.path), final.facts.model_dump_json(indent=2) + "\n")
    return final


def _target_name(facts: PlanFacts) -> str:
    capability = facts.compute_capability
    return facts.target if capability is None else f"sm{capability[0]}{capability[1]}"


def _checked(folder: Path, name: str, built: Built, facts: PlanFacts, check: Check | None) -> str:
    if check is None:
        return NOT_RUN
    try:
        with TemporaryDirectory(prefix=".candidate_", dir=folder) as beside:
            candidate = Plan(Path(beside) / name, facts)
            candidate.path.write_bytes(built.plan)
            sidecar_of(candidate.path).write_text(facts.model_dump_json(), encoding="utf-8")
            return check(candidate)
    except OSError as error:
        raise storage_error(folder, error) from error
