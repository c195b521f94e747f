"""Peaks of this machine, measured: operations a second by precision, bytes a second of memory.

A peak is the machine's, whoever reaches it: the best of several matrix products and a convolution through every runtime
that is installed. One runtime's own product is no ceiling (OpenVINO's INT8 convolutions were faster than its INT8
products). All are short: a call that ends within a millisecond or two finds a moment in which nothing else ran. Memory
is a copy that no cache holds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segdec_edge.bench.record import Ceiling
from segdec_edge.bench.roofline import CPU, GPU, ceiling_name

SIDES = (256, 512, 1024)
"""Of the products: small ones end before a busy machine takes the core away, large ones keep many cores busy."""
_CONV, _CONV_SIDE, _KERNEL = 64, 64, 5
"""Channels in and out, height and width, kernel: the middle of SegDecNet."""
_BEST_OF, _AT_LEAST_S = 7, 0.15
_COPY_BYTES, _PIECES, _GPU_SIDE = 256 << 20, 16, 8192
_SCALE = 1 / 30
Doubles = NDArray[np.float64]
Call = Callable[[], object]


def ceilings(backends: Sequence[str], threads: int | None) -> dict[str, Ceiling]:
    """The peaks of each device that one of these backends runs on, by its name; takes some ten seconds.

    A device whose peaks cannot be measured here (a GPU without torch that knows it) is left out.
    """
    devices = {ceiling_name(backend) for backend in backends}
    found = {}
    if CPU in devices:
        found[CPU] = _cpu_peaks(threads)
    if GPU in devices and (of_gpu := _gpu_peaks()) is not None:
        found[GPU] = of_gpu
    return found


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


def _cpu_peaks(threads: int | None) -> Ceiling:
    rates, winners = dict[str, float](), dict[str, str]()
    for precision, name, rate in _tried(threads):
        if rate > rates.get(precision, 0.0):
            rates[precision], winners[precision] = rate, name
    if rates["int8"] < rates["fp32"]:  # then running it as FP32 is the peak
        rates["int8"], winners["int8"] = rates["fp32"], winners["fp32"]
    how = ", ".join(f"{precision} by {winners[precision]}" for precision in rates)
    return Ceiling(
        ops_per_s=rates,
        bytes_per_s=memory_peak(),
        how=f"the fastest product or convolution of any runtime here ({how}), a copy of {_COPY_BYTES >> 20} MiB",
    )


def _tried(threads: int | None) -> list[tuple[str, str, float]]:
    """(precision, who and what, operations a second) of everything that can be tried."""
    ways: dict[str, Callable[[bytes, NDArray[np.float32]], Call]] = {"onnxruntime": partial(_onnxruntime, threads)}
    if find_spec("openvino") is not None:
        ways["openvino"] = partial(_openvino, threads)
    found = []
    for name, open_model in ways.items():
        for what, given_shape, weight_shape in _shapes():
            for precision in ("fp32", "int8"):
                model, operations = _model(given_shape, weight_shape, quantised=precision == "int8")
                seconds = _best(open_model(model, _given(given_shape)))
                found.append((precision, f"{name} {what}", operations / seconds))
    return [*found, *(_torch(threads) if find_spec("torch") is not None else ())]


def _shapes() -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    products = [(f"product {side}³", (side, side), (side, side)) for side in SIDES]
    given, weight = (1, _CONV, _CONV_SIDE, _CONV_SIDE), (_CONV, _CONV, _KERNEL, _KERNEL)
    return [*products, (f"convolution {_KERNEL}×{_KERNEL}", given, weight)]


def _onnxruntime(threads: int | None, model: bytes, given: NDArray[np.float32]) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # a constant that a plain product leaves unused is no news to the user
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["y"], {"x": given})


def _openvino(threads: int | None, model: bytes, given: NDArray[np.float32]) -> Call:
    from segdec_edge.runtime.openvino import compile_for_cpu, compile_options

    request = compile_for_cpu(model, compile_options(threads)).create_infer_request()
    return lambda: request.infer({"x": given})


def _torch(threads: int | None) -> list[tuple[str, str, float]]:
    import torch

    from segdec_edge.bench.forms import use_torch_threads

    use_torch_threads(threads)
    found = []
    with torch.inference_mode():
        for side in SIDES:
            square, integers = torch.randn(side, side), torch.ones(side, side, dtype=torch.int8)
            half = square.bfloat16()
            products: dict[str, Call] = {
                "fp32": partial(torch.mm, square, square),
                "bf16": partial(torch.mm, half, half),
                "int8": partial(torch._int_mm, integers, integers),
            }
            for precision, call in products.items():
                found.append((precision, f"torch product {side}³", 2 * side**3 / _best(call)))
    return found


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

    side = _GPU_SIDE
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


def _given(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _model(given: tuple[int, ...], weight: tuple[int, ...], quantised: bool) -> tuple[bytes, int]:
    """y = x · w, or w over x, with constant w, and its operations.

    quantised: through Q/DQ, x unsigned, as CPUs like it.
    """
    from onnx import TensorProto, helper, numpy_helper

    convolves = len(given) == 4
    made = (1, weight[0], *given[2:]) if convolves else (given[0], weight[1])
    name, more = ("Conv", {"pads": [weight[2] // 2] * 4}) if convolves else ("MatMul", dict[str, Any]())
    inner = int(np.prod(weight[1:])) if convolves else weight[0]
    values = np.random.default_rng(1).standard_normal(weight).astype(np.float32)
    constants: Mapping[str, NDArray[Any]] = {"w": values}
    nodes = [helper.make_node(name, ["x", "w"], ["y"], **more)]
    if quantised:
        constants = {
            "w8": np.clip(np.round(values / _SCALE), -127, 127).astype(np.int8),
            "s": np.array(_SCALE, np.float32),
            "ys": np.array(inner**0.5 * _SCALE, np.float32),
            "wz": np.zeros((), np.int8),
            "xz": np.full((), 128, np.uint8),
        }
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "xz"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "s", "xz"], ["xd"]),
            helper.make_node("DequantizeLinear", ["w8", "s", "wz"], ["wd"]),
            helper.make_node(name, ["xd", "wd"], ["c" if convolves else "y"], **more),
        ]
        if convolves:  # as within a network; a product is faster without
            nodes.append(helper.make_node("QuantizeLinear", ["c", "ys", "xz"], ["cq"]))
            nodes.append(helper.make_node("DequantizeLinear", ["cq", "ys", "xz"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "peak",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, made)],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString()), 2 * int(np.prod(made)) * inner


def _best(call: Call) -> float:
    """Seconds of the fastest of some calls, as many as fit into 0.15 s: a peak is what nothing disturbed."""
    call()
    taken: list[float] = []
    while len(taken) < _BEST_OF or sum(taken) < _AT_LEAST_S:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)
