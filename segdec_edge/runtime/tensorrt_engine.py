"""A plan becomes an engine, and an engine with fixed buffers and batch size becomes something to launch.

Knows no pictures and no threads; every TensorRT return is checked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from segdec_edge.bundle import Bundle
from segdec_edge.errors import BackendError
from segdec_edge.runtime.checks import HEATMAP, INPUT, SCORE, check_signature
from segdec_edge.runtime.cuda import Cuda, Graph, Stream
from segdec_edge.runtime.sidecar import Plan
from segdec_edge.runtime.tensorrt_api import (
    TensorRt,
    allow_host_code,
    because,
    create_context,
    device_memory_bytes,
    dtype_of,
    give_memory,
    is_capturable,
    logger_of,
)
from segdec_edge.types import ModelSpec

_log = logging.getLogger(__name__)


class Engine:
    """A deserialized plan. batches: least, best and most pictures; memory_bytes: what its contexts compute in.

    Raises BackendError with TensorRT's last words where the plan does not load or is not what spec says.
    """

    def __init__(self, tensorrt: TensorRt, plan: Plan, bundle: Bundle) -> None:
        self.tensorrt, self.logger = tensorrt, logger_of(tensorrt)
        self.logger.forget()
        self._runtime: Any = tensorrt.module.Runtime(self.logger)
        self._own: Any = self._deserialize(plan, bundle)
        self._check(plan, bundle.spec)
        shapes = self._own.get_tensor_profile_shape(INPUT, 0)
        self.batches = tuple(int(shape[0]) for shape in shapes)
        self.memory_bytes = device_memory_bytes(self._own)

    def dtype(self, name: str) -> np.dtype[Any]:
        return dtype_of(self.tensorrt, self._own.get_tensor_dtype(name))

    def context(self) -> Any:
        made = create_context(self.tensorrt, self._own)
        if made is None:
            raise self.refusal("makes no execution context", "Is the GPU's memory full? Close other programs.")
        return made

    def refusal(self, what: str, advice: str) -> BackendError:
        return BackendError(f"{self.tensorrt} {what} ({because(self.logger)}). {advice}")

    def free(self) -> None:
        self._own = None  # an engine must go before its runtime
        self._runtime = None

    def _deserialize(self, plan: Plan, bundle: Bundle) -> Any:
        if plan.facts.dla is not None:
            self._runtime.DLA_core = plan.facts.dla
        if plan.facts.version_compatible:
            allow_host_code(self._runtime)
        try:
            content = plan.path.read_bytes()
        except OSError as error:
            raise BackendError(f"{plan.path}: cannot be read ({error.strerror}). Check its permissions.") from error
        engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise self.refusal(f"cannot load {plan.path}", f"Rebuild it: segdec build {bundle.path}")
        if plan.facts.stripped:
            self._refit(engine, bundle)
        return engine

    def _refit(self, engine: Any, bundle: Bundle) -> None:
        """Give a plan without weights those of the bundle's model.onnx."""
        trt = self.tensorrt.module
        refitter = trt.Refitter(engine, self.logger)
        parser = trt.OnnxParserRefitter(refitter, self.logger)
        if not parser.refit_from_file(str(bundle.model_path)) or not refitter.refit_cuda_engine():
            raise self.refusal("cannot fill a stripped engine", f"Rebuild it: segdec build {bundle.path}")

    def _check(self, plan: Plan, spec: ModelSpec) -> None:
        modes = self.tensorrt.module.TensorIOMode
        names = [self._own.get_tensor_name(index) for index in range(self._own.num_io_tensors)]
        inputs = [name for name in names if self._own.get_tensor_mode(name) == modes.INPUT]
        # Outputs stand in the order that the engine likes.
        outputs = sorted((name for name in names if name not in inputs), key=[SCORE, HEATMAP, *names].index)
        check_signature(spec, self._signature(inputs), self._signature(outputs), str(plan.path))
        wrong = [name for name in names if self.dtype(name) not in _DTYPES[name]]
        if wrong:
            raise BackendError(f"{plan.path}: {wrong[0]} is {self.dtype(wrong[0])}. Export the checkpoint again.")

    def _signature(self, names: list[str]) -> list[tuple[str, list[int | None]]]:
        """A size that varies is -1 there, None here."""
        return [
            (name, [None if size < 0 else int(size) for size in self._own.get_tensor_shape(name)]) for name in names
        ]


_FLOATS = (np.dtype(np.float32), np.dtype(np.float16))
_DTYPES = {INPUT: (np.dtype(np.uint8),), SCORE: _FLOATS, HEATMAP: _FLOATS}


class Run:
    """One batch size on one set of buffers: an execution context of its own, launched as a CUDA graph where it can.

    A captured graph holds its context's state: shapes and addresses are set once here and never again.
    """

    def __init__(
        self,
        engine: Engine,
        shape_nhwc: tuple[int, ...],
        addresses: Mapping[str, int],
        memory: tuple[int, int],
    ) -> None:
        """addresses: of each tensor on the GPU; memory: address and bytes of what to compute in."""
        self._engine = engine
        self._context: Any = engine.context()
        self._graph: Graph | None = None
        if memory[1]:
            give_memory(self._context, *memory)
        self._require(self._context.set_input_shape(INPUT, shape_nhwc), f"refuses the shape {shape_nhwc}")
        for name, address in addresses.items():
            self._require(self._context.set_tensor_address(name, address), f"refuses the buffer of {name}")

    @property
    def captured(self) -> bool:
        return self._graph is not None

    def launch(self, stream: Stream) -> None:
        """Put the work into the stream. Raises BackendError where CUDA or TensorRT refuses it."""
        if self._graph is None:
            self._enqueue(stream)
        else:
            self._graph.launch(stream)

    def capture(self, cuda: Cuda, stream: Stream) -> None:
        """Make a CUDA graph of what launch does from now on. It must have been launched before, which allocates."""
        if not is_capturable(self._context, stream.handle):
            raise self._engine.refusal("cannot be captured", "It runs without a CUDA graph.")
        self._graph = cuda.capture(stream, lambda: self._enqueue(stream))

    def free(self) -> None:
        graph, self._graph = self._graph, None
        try:
            if graph is not None:
                graph.free()
        finally:
            self._context = None  # after the graph, which uses what it allocated

    def _enqueue(self, stream: Stream) -> None:
        self._engine.logger.forget()
        self._require(self._context.execute_async_v3(stream.handle), "did not run the engine")

    def _require(self, accepted: bool, what: str) -> None:
        if not accepted:
            raise self._engine.refusal(what, "Open the bundle again; if that fails too, rebuild its engine.")
