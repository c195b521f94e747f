"""A TensorRT whose engines compute on the host, for tests of everything around it. Import: `from tests.standin_tensorrt
import ...`. Its plans are plain bytes, or the ONNX file that onnxruntime then computes; its names are those of 10.3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from segdec_edge.bundle import Bundle, utc_now
from segdec_edge.runtime.sidecar import Plan, PlanFacts, sidecar_of
from segdec_edge.runtime.tensorrt_api import TensorRt
from segdec_edge.types import Pixels
from tests.host_cuda import HostCuda

VERSION = (10, 3, 0)
MEMORY_BYTES = 4096
Floats = NDArray[Any]
Compute = Callable[[Pixels], tuple[Floats, Floats]]


class Severity(IntEnum):
    ERROR = 0
    INFO = 1


class DataType(IntEnum):
    FLOAT = 0
    HALF = 1
    UINT8 = 2


class TensorIOMode(IntEnum):
    INPUT = 0
    OUTPUT = 1


class ExecutionContextAllocationStrategy(IntEnum):
    STATIC = 0
    USER_MANAGED = 1


def brightness(pixels: Pixels) -> tuple[Floats, Floats]:
    """An engine that needs no network: the mean of each picture, and of each 8×8 pixels of it, in [0, 1]."""
    count, height, width, channels = pixels.shape
    blocks = pixels.reshape(count, height // 8, 8, width // 8, 8, channels)
    return pixels.mean((1, 2, 3)) / 255, blocks.mean((2, 4, 5)) / 255


def network(model: Path) -> Compute:
    """An engine that computes what the ONNX file says."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return lambda pixels: tuple(session.run(["score", "heatmap"], {"pixels": pixels}))


@dataclass(eq=False)
class StandIn:
    """The module. refused: methods that give False or None; says: what the logger hears then; writes: what of the
    outputs a run writes (all, nothing, or the score alone); after: (method, number of calls it still takes)."""

    cuda: HostCuda
    compute: Compute = brightness
    batches: tuple[int, int, int] = (1, 1, 4)
    size_hwc: tuple[int, int, int] = (128, 64, 1)
    heatmap_hw: tuple[int, int] = (16, 8)
    dtype: DataType = DataType.FLOAT
    names: tuple[str, ...] = ("pixels", "heatmap", "score")
    refused: set[str] = field(default_factory=set)
    after: dict[str, int] = field(default_factory=dict)
    says: str = "Error Code 1: Cuda Runtime (an illegal memory access was encountered)"
    writes: str = "all"
    enqueued: int = 0
    refitted: list[str] = field(default_factory=list)

    __version__ = "10.3.0"
    DataType = DataType
    TensorIOMode = TensorIOMode
    ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy
    ILogger = type("ILogger", (), {})

    def found(self) -> TensorRt:
        """As find_tensorrt gives it."""
        return TensorRt(self, "tensorrt", VERSION)

    def Runtime(self, logger: Any) -> Runtime:
        return Runtime(self, logger)

    def Refitter(self, engine: Engine, logger: Any) -> Refitter:
        return Refitter(self)

    def OnnxParserRefitter(self, refitter: Refitter, logger: Any) -> Refitter:
        return refitter

    def enqueue(
        self, addresses: dict[str, int], shape: tuple[int, ...], memory: tuple[int, int], stream_handle: int
    ) -> None:
        """Put one run into the stream."""
        self.cuda.bytes_at(*memory)  # it must be there
        self.cuda.streams[stream_handle].put(lambda: _compute(self, addresses, shape))

    def accepts(self, method: str, logger: Any) -> bool:
        left = self.after.get(method)
        if left:
            self.after[method] = left - 1
        if method in self.refused or left == 0:
            logger.log(Severity.ERROR, self.says)
            return False
        return True


class Counted:
    """A vendor object: HostCuda counts it, and hears of its end as of a free."""

    def __init__(self, module: StandIn, kind: str) -> None:
        self._cuda, self._kind = module.cuda, kind
        self._cuda.live[kind] += 1

    def __del__(self) -> None:
        self._cuda.live[self._kind] -= 1
        self._cuda.frees.append(self._kind)


class Runtime(Counted):
    DLA_core = -1

    def __init__(self, module: StandIn, logger: Any) -> None:
        super().__init__(module, "runtime")
        self.module, self.logger = module, logger

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        if content.startswith(b"bad") or not self.module.accepts("deserialize", self.logger):
            return None
        return Engine(self.module, self.logger)


@dataclass
class Refitter:
    module: StandIn

    def refit_from_file(self, model: str) -> bool:
        self.module.refitted.append(model)
        return "refit_from_file" not in self.module.refused

    def refit_cuda_engine(self) -> bool:
        return "refit_cuda_engine" not in self.module.refused


class Engine(Counted):
    device_memory_size_v2 = MEMORY_BYTES

    def __init__(self, module: StandIn, logger: Any) -> None:
        super().__init__(module, "engine")
        self.module, self.logger = module, logger

    @property
    def num_io_tensors(self) -> int:
        return len(self.module.names)

    def get_tensor_name(self, index: int) -> str:
        return self.module.names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "pixels" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.UINT8 if name == "pixels" else self.module.dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *{"pixels": self.module.size_hwc, "heatmap": self.module.heatmap_hw}.get(name, ()))

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert (name, profile) == ("pixels", 0)
        return [(size, *self.module.size_hwc) for size in self.module.batches]

    def create_execution_context(self, strategy: ExecutionContextAllocationStrategy) -> Context | None:
        assert strategy == ExecutionContextAllocationStrategy.USER_MANAGED
        return Context(self) if self.module.accepts("create_execution_context", self.logger) else None


class Context(Counted):
    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.module, "context")
        self.engine, self.module, self.logger = engine, engine.module, engine.logger
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.memory = (0, 0)

    def set_device_memory(self, address: int, nbytes: int) -> None:
        self.memory = (address, nbytes)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        least, _, most = self.module.batches
        return self.module.accepts("set_input_shape", self.logger) and least <= shape[0] <= most

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return self.module.accepts("set_tensor_address", self.logger)

    def execute_async_v3(self, stream_handle: int) -> bool:
        self.module.enqueued += 1
        if not self.module.accepts("execute_async_v3", self.logger):
            return False
        assert self.memory[1] == MEMORY_BYTES
        self.module.enqueue(dict(self.addresses), self.shape, self.memory, stream_handle)
        return True


def _compute(module: StandIn, addresses: dict[str, int], shape: tuple[int, ...]) -> None:
    pixels = module.cuda.bytes_at(addresses["pixels"], int(np.prod(shape))).reshape(shape)
    results = dict(zip(("score", "heatmap"), module.compute(pixels), strict=True))
    written = {"all": ("score", "heatmap"), "score": ("score",), "nothing": ()}[module.writes]
    for name in written:
        values = np.ascontiguousarray(results[name], np.float16 if module.dtype == DataType.HALF else np.float32)
        np.copyto(module.cuda.bytes_at(addresses[name], values.nbytes), values.reshape(-1).view(np.uint8))


def standin_plan(
    folder: Path, bundle: Bundle, content: bytes = b"plan", *, name: str = "sm87-fp32", **facts: Any
) -> Plan:
    """A plan with its sidecar that fits HostCuda's GPU and this TensorRT. facts: other fields of PlanFacts."""
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"{name}.plan"
    path.write_bytes(content)
    known = {
        "plan_sha256": hashlib.sha256(content).hexdigest(),
        "plan_bytes": len(content),
        "onnx_sha256": bundle.meta.model.sha256,
        "runtime": "tensorrt",
        "runtime_version": "10.3.0",
        "target": "current",
        "gpu": "stand-in",
        "compute_capability": (8, 7),
        "multiprocessors": 8,
        "precision": "fp32",
        "batches": (1, 1, 4),
        "build_seconds": 1.0,
        "created": utc_now(),
    }
    plan = Plan(path, PlanFacts(**{**known, **facts}))
    sidecar_of(path).write_text(plan.facts.model_dump_json(), encoding="utf-8")
    return plan
