"""Peaks of this machine, measured, and the least time that they leave for a model. Knows no board by name.

A peak of the CPU is the best of several large matrix products through the very runtime that is judged by it; one of
memory is a copy that no cache holds. Convolutions of 3×3 can beat the peak by a Winograd transform, which needs fewer
operations than are counted; SegDecNet's are 5×5 and larger.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segdec_edge.bench.count import LayerCost, compulsory_bytes, layers_of
from segdec_edge.bench.record import Ceiling, Floor
from segdec_edge.bundle import Bundle

SIDES = (512, 1024)
"""Of the products: the small one often ends before a busy machine takes the core away, the large one keeps many
cores busy. The better rate of the two is the peak."""
_BEST_OF, _AT_LEAST_S = 7, 0.3
_SIZES = " and ".join(f"{side}³" for side in SIDES)
_COPY_BYTES, _PIECES = 256 << 20, 16
Doubles = NDArray[np.float64]


def ceilings(backends: Sequence[str], threads: int | None) -> dict[str, Ceiling]:
    """Measured peaks for each of these backends that has a way to measure them; takes some seconds.

    tensorrt: through torch, where that has CUDA.
    """
    ways = {
        "onnxruntime": lambda: _onnx_peaks(_onnxruntime(threads)),
        "openvino": lambda: _onnx_peaks(_openvino(threads)),
        "torch": _torch_peaks,
    }
    names = list(dict.fromkeys(backends))
    found = {}
    moved = memory_peak() if any(name in ways for name in names) else None
    for name in names:
        if name in ways:
            how = f"matrix products {_SIZES} through {name}, a copy of {_COPY_BYTES >> 20} MiB; best of {_BEST_OF}"
            found[name] = Ceiling(ops_per_s=ways[name](), bytes_per_s=moved, how=how)
        elif name == "tensorrt" and (of_gpu := _gpu_peaks()) is not None:
            found[name] = of_gpu
    return found


def best_of(first: Mapping[str, Ceiling], second: Mapping[str, Ceiling]) -> dict[str, Ceiling]:
    """The higher of each peak measured twice: what disturbs a measurement only lowers it."""
    found = {}
    for name, one in first.items():
        other = second.get(name, one)
        rates = {key: max(rate, other.ops_per_s.get(key, 0.0)) for key, rate in one.ops_per_s.items()}
        moved = [speed for speed in (one.bytes_per_s, other.bytes_per_s) if speed is not None]
        found[name] = Ceiling(ops_per_s=rates, bytes_per_s=max(moved, default=None), how=one.how)
    return found


def floor_of(layers: Sequence[LayerCost], compulsory: int, ceiling: Ceiling, median_ms: float) -> Floor | None:
    """None where no layer counts, or one has a precision without a peak, nor a wider one that has."""
    times = [_layer_ms(layer, ceiling) for layer in layers]
    if not times or any(compute is None for compute, _ in times):
        return None
    computing = sum(compute or 0.0 for compute, _ in times)
    moving = compulsory / ceiling.bytes_per_s * 1e3 if ceiling.bytes_per_s else 0.0
    bound: Literal["compute", "memory"] = "compute" if computing >= moving else "memory"
    least = max(computing, moving)
    return Floor(
        operations=sum(layer.operations for layer in layers),
        bytes=sum(layer.bytes for layer in layers),
        compulsory_bytes=compulsory,
        floor_ms=least,
        layers_ms=sum(max(compute or 0.0, memory) for compute, memory in times),
        achieved=least / median_ms,
        bound=bound,
        ceiling=ceiling.how,
    )


def bundle_floor(bundle: Bundle, batch: int, ceiling: Ceiling, median_ms: float) -> Floor | None:
    """Raises BundleError where the graph cannot be counted."""
    layers = layers_of(bundle, batch)
    return floor_of(layers, compulsory_bytes(layers, bundle, batch), ceiling, median_ms)


def peak_for(precision: str, ceiling: Ceiling) -> float | None:
    """Operations a second at a precision; where there is none for it, of the next wider one: it can always run so."""
    for name in ("int8", "fp16", "fp32")[("int8", "fp16", "fp32").index(precision) :]:
        if name in ceiling.ops_per_s:
            return ceiling.ops_per_s[name]
    return None


def _layer_ms(layer: LayerCost, ceiling: Ceiling) -> tuple[float | None, float]:
    peak = peak_for(layer.precision, ceiling)
    memory = layer.bytes / ceiling.bytes_per_s * 1e3 if ceiling.bytes_per_s else 0.0
    return (None if peak is None else layer.operations / peak * 1e3), memory


def memory_peak() -> float:
    """Bytes a second that a copy reads and writes, by as many threads as there are cores to use, at most four.

    The best piece of a copy that no cache holds: pieces short enough to end before a busy machine takes the core away.
    """
    source = np.ones(_COPY_BYTES // 8)
    target = np.empty_like(source)
    count = min(4, usable_cores())
    halves = zip(np.array_split(target, _PIECES), np.array_split(source, _PIECES), strict=True)
    pieces = [list(zip(np.array_split(to, count), np.array_split(of, count), strict=True)) for to, of in halves]
    with ThreadPoolExecutor(count) as crew:

        def copy(piece: list[tuple[Doubles, Doubles]]) -> float:
            start = time.perf_counter()
            list(crew.map(lambda pair: np.copyto(*pair), piece))
            return time.perf_counter() - start

        taken = [copy(piece) for _ in range(_BEST_OF) for piece in pieces]
    return 2 * _COPY_BYTES / _PIECES / min(taken)


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _onnx_peaks(open_model: Callable[[Path, int], Callable[[], object]]) -> dict[str, float]:
    found = {"fp32": 0.0, "int8": 0.0}
    with TemporaryDirectory(prefix="segdec_peak_") as folder:
        path = Path(folder) / "product.onnx"
        for side in SIDES:
            for precision in found:
                path.write_bytes(_product(side, quantised=precision == "int8"))
                found[precision] = max(found[precision], 2 * side**3 / _best(open_model(path, side)))
    # Where INT8 is no faster here, running it as FP32 is the peak.
    return {**found, "int8": max(found.values())}


def _onnxruntime(threads: int | None) -> Callable[[Path, int], Callable[[], object]]:
    import onnxruntime

    def open_model(path: Path, side: int) -> Callable[[], object]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        given = _given(side)
        return lambda: session.run(["y"], {"x": given})

    return open_model


def _openvino(threads: int | None) -> Callable[[Path, int], Callable[[], object]]:
    from segdec_edge.runtime.openvino import compile_for_cpu, compile_options

    def open_model(path: Path, side: int) -> Callable[[], object]:
        request = compile_for_cpu(path, compile_options(threads)).create_infer_request()
        given = _given(side)
        return lambda: request.infer({"x": given})

    return open_model


def _torch_peaks() -> dict[str, float]:
    import torch

    rates = []
    with torch.inference_mode():
        for side in SIDES:
            square = torch.randn(side, side)
            rates.append(2 * side**3 / _best(partial(torch.mm, square, square)))
    return {"fp32": max(rates)}


def _gpu_peaks() -> Ceiling | None:
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None

    def best(call: Callable[[], object]) -> float:
        def whole() -> None:
            call()
            torch.cuda.synchronize()

        return _best(whole)

    side = 8 * SIDES[-1]
    left = torch.randn(side, side, device="cuda")
    narrow = left.half()
    integers = torch.ones(side, side, dtype=torch.int8, device="cuda")
    target = torch.empty_like(left)
    peaks = {
        "fp32": best(lambda: torch.mm(left, left)),
        "fp16": best(lambda: torch.mm(narrow, narrow)),
        "int8": best(lambda: torch._int_mm(integers, integers)),
    }
    moved = 2 * left.nbytes / best(lambda: target.copy_(left))
    how = f"matrix products {side}³ and a copy of {left.nbytes >> 20} MiB on the GPU through torch; best of {_BEST_OF}"
    return Ceiling(ops_per_s={name: 2 * side**3 / took for name, took in peaks.items()}, bytes_per_s=moved, how=how)


def _given(side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((side, side)).astype(np.float32)


def _product(side: int, quantised: bool) -> bytes:
    """y = x · w with constant w, (side, side) each; quantised: both through Q/DQ, x unsigned, as CPUs like it."""
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(1).standard_normal((side, side)).astype(np.float32)
    constants: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {"w": weight}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    if quantised:
        constants = {
            "w8": np.clip(np.round(weight * 30), -127, 127).astype(np.int8),
            "ws": np.float32(1 / 30).reshape(()),
            "wz": np.zeros((), np.int8),
            "xs": np.float32(1 / 30).reshape(()),
            "xz": np.full((), 128, np.uint8),
        }
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
            helper.make_node("DequantizeLinear", ["w8", "ws", "wz"], ["wd"]),
            helper.make_node("MatMul", ["xd", "wd"], ["y"]),
        ]
    sides = [side, side]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, sides)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def _best(call: Callable[[], object]) -> float:
    """Seconds of the fastest of some calls, as many as fit into 0.3 s: a peak is what nothing disturbed."""
    call()
    taken: list[float] = []
    while len(taken) < _BEST_OF or sum(taken) < _AT_LEAST_S:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)
