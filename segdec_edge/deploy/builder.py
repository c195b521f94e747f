"""ONNX in, serialized engine out, on whichever TensorRT there is. Knows no bundle; imports no torch: it runs on boards.

What differs between versions is asked of runtime.tensorrt_api; all else here is in every version from 8.6 on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from segdec_edge.errors import EngineError
from segdec_edge.runtime.tensorrt_api import (
    TensorRt,
    because,
    keep_reductions_fp32,
    logger_of,
    network_flags,
    parser_errors,
    set_flags,
    set_target,
)

if TYPE_CHECKING:
    import tensorrt as trt

Batches = tuple[int, int, int]
"""Least, best and most pictures of a batch: kernels are tuned for the best."""
_SHOWN = 5


@dataclass(frozen=True)
class Wish:
    """What to build. target: current or one of TensorRt.targets; dla: the core, None for the GPU.

    weak: types by builder flags instead of by the graph (8.6, and DLA up to 10.x); precision matters only then.
    """

    precision: str = "fp32"
    target: str = "current"
    dla: int | None = None
    batches: Batches = (1, 1, 4)
    workspace_bytes: int = 1 << 30
    weak: bool = False
    version_compatible: bool = False
    strip: bool = False


class Monitor(Protocol):
    """What hears about a build's phases, from any thread; step returns False to cancel."""

    cancelled: bool

    def start(self, phase: str, parent: str | None, steps: int) -> None: ...

    def step(self, phase: str, done: int) -> bool: ...

    def finish(self, phase: str) -> None: ...


@dataclass(frozen=True)
class Built:
    """The serialized engine, and what TensorRT learned about kernels, for the next build."""

    plan: memoryview
    timings: bytes


def build_plan(
    tensorrt: TensorRt,
    onnx: bytes,
    wish: Wish,
    *,
    calibrator: trt.IInt8EntropyCalibrator2 | None = None,
    timings: bytes = b"",
    monitor: Monitor | None = None,
) -> Built:
    """Parse, configure, build. timings: of an earlier build on this GPU, b"" for none.

    Raises EngineError with the nodes that the parser refuses, or with the builder's last error; KeyboardInterrupt where
    the build was cancelled.
    """
    logger = logger_of(tensorrt)
    logger.forget()
    builder: trt.Builder = tensorrt.module.Builder(logger)
    network = _parse(tensorrt, builder, onnx, wish, logger)
    config = _configure(tensorrt, builder, network, wish, calibrator)
    cache = _use_timings(tensorrt, config, timings)
    if monitor is not None and tensorrt.has_progress:
        config.progress_monitor = _bridge(tensorrt, monitor)
    # The published types say that this and create_timing_cache always give something.
    plan = cast("trt.IHostMemory | None", builder.build_serialized_network(network, config))
    if monitor is not None and monitor.cancelled:
        raise KeyboardInterrupt
    if plan is None:
        raise EngineError(f"{tensorrt} built no engine: {because(logger)}.{_advice(tensorrt, wish)}")
    return Built(memoryview(plan), b"" if cache is None else bytes(memoryview(cache.serialize())))


def _parse(
    tensorrt: TensorRt, builder: trt.Builder, onnx: bytes, wish: Wish, logger: trt.ILogger
) -> trt.INetworkDefinition:
    network = builder.create_network(network_flags(tensorrt, weak=wish.weak))
    parser: trt.OnnxParser = tensorrt.module.OnnxParser(network, logger)
    parsed: Any = parser.parse(onnx)  # its published type is tensorrt.bool, a DataType
    if not parsed:
        errors = parser_errors(parser)
        more = f" ({len(errors) - _SHOWN} more)" if len(errors) > _SHOWN else ""
        raise EngineError(f"{tensorrt} does not take model.onnx: {'; '.join(errors[:_SHOWN])}{more}. Export it again.")
    if tensorrt.name == "tensorrt_rtx":
        _without_matrix_product(tensorrt, network)
    return network


def _without_matrix_product(tensorrt: TensorRt, network: Any) -> None:
    """The fully connected layer, (N, K) by (1, K) to (N, 1), as products and their sum.

    tensorrt_rtx 1.x has no FP32 matrix product for Turing (SM75); that layer stays FP32 in every precision.
    """
    trt = tensorrt.module
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    for layer in layers:
        if layer.type != trt.LayerType.MATRIX_MULTIPLY:
            continue
        values, weights, product = layer.get_input(0), layer.get_input(1), layer.get_output(0)
        if tuple(weights.shape) != (1, tuple(values.shape)[-1]) or tuple(product.shape)[1:] != (1,):
            continue
        each = network.add_elementwise(values, weights, trt.ElementWiseOperation.PROD).get_output(0)
        total = network.add_reduce(each, trt.ReduceOperation.SUM, axes=1 << 1, keep_dims=True).get_output(0)
        for user in layers:
            for index in range(user.num_inputs):
                if user.get_input(index) is not None and user.get_input(index).name == product.name:
                    user.set_input(index, total)


def _configure(
    tensorrt: TensorRt,
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    wish: Wish,
    calibrator: trt.IInt8EntropyCalibrator2 | None,
) -> trt.IBuilderConfig:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.module.MemoryPoolType.WORKSPACE, wish.workspace_bytes)
    if wish.weak and wish.precision != "fp32":
        set_flags(tensorrt, config, _type_flags(wish.precision))
        keep_reductions_fp32(tensorrt, network)
    if wish.version_compatible:
        set_flags(tensorrt, config, ["VERSION_COMPATIBLE"])  # 8.6 on
    if wish.strip:
        set_flags(tensorrt, config, ["STRIP_PLAN", "REFIT_IDENTICAL"])  # 10.0 on
    if tensorrt.has_user_allocation:
        set_flags(tensorrt, config, ["REQUIRE_USER_ALLOCATION"])
    set_target(tensorrt, config, wish.target)
    if wish.dla is not None:
        _use_dla(tensorrt, builder, config, wish.dla)
    profile = _profile(builder, network, wish.batches)
    config.add_optimization_profile(profile)
    if calibrator is not None:
        config.int8_calibrator = calibrator  # tensorrt up to 10.x
        config.set_calibration_profile(profile)
    return config


def _type_flags(precision: str) -> Sequence[str]:
    # INT8 alone would leave every layer that has no INT8 kernel in FP32.
    types = ["FP16"] if precision == "fp16" else ["FP16", "INT8"]
    return [*types, "OBEY_PRECISION_CONSTRAINTS"]


def _use_dla(tensorrt: TensorRt, builder: trt.Builder, config: trt.IBuilderConfig, core: int) -> None:
    if core >= builder.num_DLA_cores:
        raise EngineError(
            f"DLA core {core}: {tensorrt} sees {builder.num_DLA_cores} of them here. DLA is on AGX Orin, Orin NX and"
            " Xavier, up to TensorRT 10.7 and again from 11.4.1 on; build for the GPU: leave --dla out."
        )
    config.default_device_type = tensorrt.module.DeviceType.DLA
    config.DLA_core = core
    set_flags(tensorrt, config, ["GPU_FALLBACK"])


def _profile(builder: trt.Builder, network: trt.INetworkDefinition, batches: Batches) -> trt.IOptimizationProfile:
    """One profile: every batch size from the least to the most runs, with one context's memory."""
    pixels = network.get_input(0)
    shape: Any = pixels.shape  # a Dims, which the published types do not let be a sequence
    shapes: list[Any] = [(batch, *tuple(shape)[1:]) for batch in batches]
    profile = builder.create_optimization_profile()
    profile.set_shape(pixels.name, *shapes)
    return profile


def _use_timings(tensorrt: TensorRt, config: trt.IBuilderConfig, timings: bytes) -> trt.ITimingCache | None:
    if not tensorrt.has_timing_cache:
        return None
    cache = cast("trt.ITimingCache | None", config.create_timing_cache(timings))
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        # Of another version or GPU, or damaged: it only saves time.
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _bridge(tensorrt: TensorRt, monitor: Monitor) -> trt.IProgressMonitor:
    """tensorrt 10.0 on, every tensorrt_rtx."""

    class Bridge(tensorrt.module.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._uninterrupted():
                monitor.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._uninterrupted():
                monitor.cancelled |= not monitor.step(phase_name, step + 1)
            return not monitor.cancelled

        def phase_finish(self, phase_name: str) -> None:
            with self._uninterrupted():
                monitor.finish(phase_name)

        @contextmanager
        def _uninterrupted(self) -> Iterator[None]:
            try:
                yield
            except KeyboardInterrupt:  # an exception cannot pass through TensorRT
                monitor.cancelled = True

    bridge: trt.IProgressMonitor = Bridge()
    return bridge


def _advice(tensorrt: TensorRt, wish: Wish) -> str:
    if wish.version_compatible or wish.strip:
        option = "--version-compatible" if wish.version_compatible else "--strip"
        return f" Not every installation of {tensorrt} can do {option}: leave it out."
    if wish.weak or wish.target == "current":
        return " Where memory ran out: lower --workspace, or close other programs."
    return ""
