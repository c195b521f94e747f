"""One API over tensorrt 8.6, 10.x, 11.x and tensorrt_rtx 1.x. Every difference between them is a function here.

Knows no bundle and no CUDA. What a version has is asked of the module (hasattr), never read off a version number;
enum members are used by name, because their integers were renumbered between versions.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from segdec_edge.errors import BackendError

MODULES = ("tensorrt", "tensorrt_rtx")
OLDEST = (8, 6)
"""Of tensorrt: before it there is no name-based I/O as used here, and no Python 3.10 on a Jetson."""
INSTALL = (
    "Install one: pip install 'segdec-edge[tensorrt-rtx]' (RTX desktops), pip install 'segdec-edge[tensorrt]' (others);"
    " on a Jetson JetPack brings it: python3 -m venv --system-site-packages"
)
VENDOR_NAMES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_DTYPES: Mapping[str, DTypeLike] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
_LEVELS = {
    "INTERNAL_ERROR": logging.INFO,
    "ERROR": logging.INFO,
    "WARNING": logging.INFO,
    "INFO": logging.DEBUG,
    "VERBOSE": logging.DEBUG - 5,
}
"""One step lower than theirs: its INFO tells each stage of a build, its WARNING each weight that FP16 rounds, and each
ERROR comes a second time as an error of ours, with the line in it."""

_log = logging.getLogger("segdec_edge.tensorrt")


@dataclass(frozen=True)
class TensorRt:
    """A module that was found. name: tensorrt or tensorrt_rtx; version as a tuple, (10, 3, 0)."""

    module: Any
    name: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{VENDOR_NAMES[self.name]} {'.'.join(str(part) for part in self.version)}"

    # tensorrt 8.6 types a network by builder flags; from 10.0 on it can, in 11 and in tensorrt_rtx it must, be typed
    # by its graph.
    @property
    def has_strong_typing(self) -> bool:
        """tensorrt 10.0 on, every tensorrt_rtx."""
        return hasattr(self.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")

    @property
    def has_weak_typing(self) -> bool:
        """tensorrt up to 10.x: the builder flags FP16 and INT8."""
        return hasattr(self.module.BuilderFlag, "FP16")

    @property
    def has_calibrators(self) -> bool:
        """tensorrt up to 10.x (deprecated since 10.1)."""
        return hasattr(self.module, "IInt8EntropyCalibrator2")

    @property
    def has_progress(self) -> bool:
        """tensorrt 10.0 on, every tensorrt_rtx."""
        return hasattr(self.module, "IProgressMonitor")

    @property
    def has_timing_cache(self) -> bool:
        """Every tensorrt. tensorrt_rtx chooses kernels where the plan runs; there the calls do nothing but warn."""
        return self.name == "tensorrt"

    @property
    def has_user_allocation(self) -> bool:
        """tensorrt_rtx 1.2 on: only an engine that leaves all memory to the caller can become a CUDA graph."""
        return hasattr(self.module.BuilderFlag, "REQUIRE_USER_ALLOCATION")

    @property
    def targets(self) -> tuple[str, ...]:
        """GPUs that plans can be built for where none is at hand, as sm86; none but in tensorrt_rtx."""
        members = getattr(getattr(self.module, "ComputeCapability", None), "__members__", {})
        return tuple(name.lower() for name in members if re.fullmatch(r"SM\d+", name))


@cache
def find_tensorrt(name: str | None = None) -> TensorRt:
    """The module of that name; without a name tensorrt where it is installed, else tensorrt_rtx.

    Raises BackendError with what was tried and the command that installs it.
    """
    reasons = []
    for candidate in MODULES if name is None else (name,):
        try:
            return tensorrt_from(importlib.import_module(candidate), candidate)
        except (ImportError, OSError) as error:  # OSError: a library that the module is linked against
            reasons.append(f"{candidate} does not load ({' '.join(str(error).split())})")
    raise BackendError(f"{', '.join(reasons)}. {INSTALL}")


def tensorrt_from(module: Any, name: str) -> TensorRt:
    """Raises ImportError where the module is a shell (its type stubs alone), BackendError where it is too old."""
    if not hasattr(module, "Builder"):
        raise ImportError("there are type stubs but no module")
    version = version_of(str(module.__version__))
    if name == "tensorrt" and version < OLDEST:
        raise BackendError(f"TensorRT {module.__version__} is installed, wanted 8.6 or newer: update JetPack to 6.")
    return TensorRt(module, name, version)


def version_of(text: str) -> tuple[int, ...]:
    """10.3.0 and 10.3.0b6 → (10, 3, 0)."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def dtype_of(tensorrt: TensorRt, dtype: Any) -> np.dtype[Any]:
    """NumPy's type for one of theirs. tensorrt.nptype fails with new NumPy in old versions.

    Raises BackendError for a type that NumPy lacks.
    """
    for name, ours in _DTYPES.items():
        # UINT8: 8.6 on; INT64: 10.0 on.
        if getattr(tensorrt.module.DataType, name, None) == dtype:
            return np.dtype(ours)
    found = getattr(dtype, "name", dtype)
    raise BackendError(f"a tensor of type {found}, wanted one of {', '.join(_DTYPES)}. Export the checkpoint again.")


def network_flags(tensorrt: TensorRt, *, weak: bool) -> int:
    """What create_network takes. weak: typed by builder flags, for 8.6 and DLA."""
    flags = tensorrt.module.NetworkDefinitionCreationFlag
    names = ["EXPLICIT_BATCH"]  # needed in 8.6, the only way from 10.0 on, gone in 11 and tensorrt_rtx
    if not weak:
        names.append("STRONGLY_TYPED")  # 10.0 on
    return sum(1 << int(getattr(flags, name)) for name in names if hasattr(flags, name))


def set_flags(tensorrt: TensorRt, config: Any, names: Sequence[str]) -> None:
    """Set builder flags by name. Raises BackendError for one that this version lacks."""
    for name in names:
        flag = getattr(tensorrt.module.BuilderFlag, name, None)
        if flag is None:
            raise BackendError(f"{tensorrt} has no builder flag {name}. Leave that option out, or use TensorRT 10.")
        config.set_flag(flag)


def set_target(tensorrt: TensorRt, config: Any, target: str) -> None:
    """Build for the GPU that is here (current) or, tensorrt_rtx only, for another one.

    Raises BackendError for one that this TensorRT does not build for.
    """
    if target == "current":
        if tensorrt.targets:  # without this tensorrt_rtx builds for every GPU from Ampere on
            config.num_compute_capabilities = 1
            config.set_compute_capability(tensorrt.module.ComputeCapability.CURRENT, 0)
        return
    check_target(tensorrt, target)
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(tensorrt.module.ComputeCapability, target.upper()), 0)


def check_target(tensorrt: TensorRt, target: str) -> None:
    """Raise BackendError unless this TensorRT builds for that GPU while another one, or none, is here."""
    if not tensorrt.targets:
        raise BackendError(
            f"target {target}: {tensorrt} times kernels on the GPU it builds for, so that one has to be here; only"
            " TensorRT-RTX builds for others. Build on the board itself: --target current."
        )
    if target not in tensorrt.targets:
        raise BackendError(
            f"target {target}: {tensorrt} builds for {', '.join(tensorrt.targets)}. Choose one of these."
        )


def keep_reductions_fp32(tensorrt: TensorRt, network: Any) -> None:
    """Keep what sums and divides in FP32 where builder flags choose the types: FeatureNorm's variance overflows FP16.

    Weak typing only (tensorrt up to 10.x); takes effect with OBEY_PRECISION_CONSTRAINTS.
    """
    trt = tensorrt.module
    kept = (trt.LayerType.REDUCE, trt.LayerType.UNARY, trt.LayerType.ELEMENTWISE)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type in kept and layer.get_output(0).dtype == trt.DataType.FLOAT:
            layer.precision = trt.DataType.FLOAT
            layer.set_output_type(0, trt.DataType.FLOAT)


def parser_errors(parser: Any) -> tuple[str, ...]:
    """What the ONNX parser did not take, a line a node: name, operator, message."""
    return tuple(_in_words(parser.get_error(index)) for index in range(parser.num_errors))


def _in_words(error: Any) -> str:
    message = " ".join(str(error.desc()).split())
    # By name from 10.0 on; 8.6 has the node's place in the file alone.
    name = error.node_name() if hasattr(error, "node_name") else ""
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    if not name and not operator:
        return f"node {error.node()}: {message}"
    # All that 10.x and later say of an operator they do not know is "false".
    message = "TensorRT does not support it" if message == "false" else message
    return f"node {name or error.node()} ({operator or 'unknown operator'}): {message}"


def allow_host_code(runtime: Any) -> None:
    """Let version-compatible plans load, which carry their own runtime; 8.6 on. Only for plans of known origin."""
    runtime.engine_host_code_allowed = True


def device_memory_bytes(engine: Any) -> int:
    """What an execution context of this engine takes on the GPU."""
    # device_memory_size: to 10.x; its successor: 10.1 on, alone in 11 and tensorrt_rtx.
    for name in ("device_memory_size_v2", "device_memory_size"):
        if hasattr(engine, name):
            return int(getattr(engine, name))
    return 0


def create_context(tensorrt: TensorRt, engine: Any) -> Any:
    """An execution context without memory of its own (see give_memory), None where TensorRT refuses."""
    strategies = getattr(tensorrt.module, "ExecutionContextAllocationStrategy", None)  # 10.0 on
    if strategies is None:
        return engine.create_execution_context_without_device_memory()  # to 10.x
    kernels = getattr(tensorrt.module, "DynamicShapesKernelSpecializationStrategy", None)  # tensorrt_rtx 1.x alone
    if kernels is None:
        return engine.create_execution_context(strategies.USER_MANAGED)
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(strategies.USER_MANAGED)
    # Else it compiles kernels beside the first pictures, which cannot be captured, and changes them under way.
    config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER
    return engine.create_execution_context(config)


def give_memory(context: Any, address: int, nbytes: int) -> None:
    """Let a context compute in this memory of the GPU; contexts may share it that never run at the same time."""
    if hasattr(context, "set_device_memory"):  # 10.1 on
        context.set_device_memory(address, nbytes)
    else:
        context.device_memory = address


def is_capturable(context: Any, stream: int) -> bool:
    """Whether a stream with this context's work can become a CUDA graph; only tensorrt_rtx tells beforehand."""
    return not hasattr(context, "is_stream_capturable") or bool(context.is_stream_capturable(stream))


@cache
def logger_of(tensorrt: TensorRt) -> Any:
    """The one logger for all builders and runtimes of a process; TensorRT warns about a second one.

    It passes everything to logging and has `last_error`: the last error as one line, "" after forget().
    """

    class BridgedLogger(tensorrt.module.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.last_error = ""

        def log(self, severity: Any, message: str) -> None:
            level = _LEVELS.get(severity.name, logging.ERROR)
            line = " ".join(message.split())
            if severity.name in ("INTERNAL_ERROR", "ERROR"):
                self.last_error = line
            _log.log(level, "%s: %s", tensorrt.name, line)

        def forget(self) -> None:
            self.last_error = ""

    return BridgedLogger()


def because(logger: Any) -> str:
    """The logger's last error for the end of a message, shortened."""
    with contextlib.suppress(AttributeError):
        if logger.last_error:
            return str(logger.last_error)[:300]
    return "it gave no reason"
