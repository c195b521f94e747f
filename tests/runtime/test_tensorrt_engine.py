"""Loading and launching an engine with the names of each TensorRT version alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segdec_edge.bundle import Bundle
from segdec_edge.errors import BackendError
from segdec_edge.runtime.tensorrt_api import TensorRt
from segdec_edge.runtime.tensorrt_engine import Engine, Run
from tests.host_cuda import HostCuda, HostStream
from tests.standin_tensorrt import standin_plan
from tests.surfaces import VERSIONS, called, recorded

NAMES = ("pixels", "heatmap", "score")
SHAPES = {"pixels": (-1, 128, 64, 1), "heatmap": (-1, 16, 8), "score": (-1,)}


def answers(tensorrt_of: dict[str, Any], **others: Any) -> dict[str, Any]:
    """What an engine of the test's bundle says. tensorrt_of["it"]: the module, known once it is made."""

    def enum(name: str, member: str) -> Any:
        return getattr(getattr(tensorrt_of["it"].module, name), member)

    return {
        "get_tensor_name": lambda index: NAMES[index],
        "get_tensor_mode": lambda name: enum("TensorIOMode", "INPUT" if name == "pixels" else "OUTPUT"),
        "get_tensor_dtype": lambda name: enum("DataType", "UINT8" if name == "pixels" else "FLOAT"),
        "get_tensor_shape": lambda name: SHAPES[name],
        "get_tensor_profile_shape": lambda name, profile: [(size, 128, 64, 1) for size in (1, 2, 8)],
        "set_input_shape": True,
        "set_tensor_address": True,
        "execute_async_v3": True,
        **others,
    }


def loaded(version: str, folder: Path, bundle: Bundle, **others: Any) -> Engine:
    tensorrt_of: dict[str, Any] = {}
    tensorrt_of["it"] = recorded(version, answers(tensorrt_of, **others))
    plan = standin_plan(folder, bundle, dla=0, version_compatible=True)
    return Engine(tensorrt_of["it"], plan, bundle)


def launched(engine: Engine) -> None:
    addresses = dict(zip(NAMES, (256, 512, 1024), strict=True))
    run = Run(engine, (2, 128, 64, 1), addresses, (4096, engine.memory_bytes))
    run.launch(HostStream(HostCuda(), 77))


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_runs_an_engine_with_its_own_names_alone(version: str, bundle: Bundle, tmp_path: Path) -> None:
    engine = loaded(version, tmp_path, bundle)
    assert engine.batches == (1, 2, 8)
    launched(engine)
    module = engine.tensorrt
    assert list(called(module, "Runtime.deserialize_cuda_engine")) == [(b"plan",)]
    assert list(called(module, "Runtime.DLA_core=")) == [0]
    assert list(called(module, "Runtime.engine_host_code_allowed=")) == [True]
    assert list(called(module, "IExecutionContext.set_input_shape")) == [("pixels", (2, 128, 64, 1))]
    assert sorted(called(module, "IExecutionContext.set_tensor_address")) == [
        ("heatmap", 512),
        ("pixels", 256),
        ("score", 1024),
    ]
    assert list(called(module, "IExecutionContext.execute_async_v3")) == [(77,)]


@pytest.mark.parametrize("version", VERSIONS)
def test_contexts_share_one_memory(version: str, bundle: Bundle, tmp_path: Path) -> None:
    engine = loaded(version, tmp_path, bundle)
    launched(engine)
    if version == "8.6":
        assert list(called(engine.tensorrt, "ICudaEngine.create_execution_context_without_device_memory")) == [()]
        assert list(called(engine.tensorrt, "IExecutionContext.device_memory=")) == [4096]
    else:
        (strategy,) = next(called(engine.tensorrt, "ICudaEngine.create_execution_context"))
        assert strategy.name == "USER_MANAGED"
        assert list(called(engine.tensorrt, "IExecutionContext.set_device_memory")) == [(4096, 200)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("method", ["set_input_shape", "set_tensor_address", "execute_async_v3"])
def test_what_a_version_refuses_is_an_error(version: str, method: str, bundle: Bundle, tmp_path: Path) -> None:
    engine = loaded(version, tmp_path, bundle, **{method: False})
    with pytest.raises(BackendError, match=r"TensorRT .* (refuses|did not run).*it gave no reason"):
        launched(engine)


@pytest.mark.trt
def test_tensorrt_rtx_has_the_names_too(rtx: TensorRt) -> None:
    module = rtx.module
    assert module.ExecutionContextAllocationStrategy.USER_MANAGED
    assert module.DynamicShapesKernelSpecializationStrategy.EAGER is not None
    wanted = {
        "Runtime": "deserialize_cuda_engine DLA_core engine_host_code_allowed",
        "ICudaEngine": "num_io_tensors get_tensor_name get_tensor_mode get_tensor_dtype get_tensor_shape"
        " get_tensor_profile_shape create_execution_context create_runtime_config device_memory_size_v2",
        "IRuntimeConfig": "set_execution_context_allocation_strategy dynamic_shapes_kernel_specialization_strategy",
        "IExecutionContext": "set_input_shape set_tensor_address execute_async_v3 set_device_memory"
        " is_stream_capturable",
        "OnnxParserRefitter": "refit_from_file",
        "Refitter": "refit_cuda_engine",
    }
    missing = [
        (name, one) for name, all_ in wanted.items() for one in all_.split() if not hasattr(getattr(module, name), one)
    ]
    assert missing == []
