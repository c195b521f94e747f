"""Stand-ins for TensorRT versions that are not installed: every public name of that version, and no other.

Import: `from tests.surfaces import recorded`. The names were read off the vendor's wheels (runtime/surfaces), the
extension loaded with empty libraries in place of libnvinfer. A name that a version lacks raises AttributeError, when
read and when set, as it would there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from segdec_edge.runtime.tensorrt_api import TensorRt, tensorrt_from

FOLDER = Path(__file__).parent / "runtime" / "surfaces"
VERSIONS = ("8.6", "10.3", "10.16", "11.4")
SUBCLASSED = ("ILogger", "IProgressMonitor", "IInt8EntropyCalibrator2")
OBJECTS = {
    "create_network": "INetworkDefinition",
    "create_builder_config": "IBuilderConfig",
    "create_optimization_profile": "IOptimizationProfile",
    "create_timing_cache": "ITimingCache",
    "get_timing_cache": "ITimingCache",
    "get_input": "ITensor",
    "get_output": "ITensor",
    "get_layer": "ILayer",
    "get_error": "ParserError",
    "deserialize_cuda_engine": "ICudaEngine",
    "create_execution_context": "IExecutionContext",
    "create_execution_context_without_device_memory": "IExecutionContext",
}
"""Methods that give an object of a recorded class."""
ANSWERS: Mapping[str, Any] = {
    "parse": True,
    "set_timing_cache": True,
    "serialize": b"timings",
    "build_serialized_network": b"plan",
    "desc": "no such\noperator",
    "node": 7,
    "node_name": "/conv/Conv",
    "node_operator": "Conv",
}
"""Methods that give a value."""
VALUES: Mapping[str, Any] = {
    "num_layers": 1,
    "num_errors": 1,
    "num_DLA_cores": 2,
    "num_io_tensors": 3,
    "name": "pixels",
    "shape": (-1, 32, 32, 1),
    "device_memory_size": 100,
    "device_memory_size_v2": 200,
}
"""Attributes."""


def recorded(version: str, answers: Mapping[str, Any] | None = None) -> TensorRt:
    """That version as find_tensorrt would give it. answers: in place of ANSWERS or VALUES; functions are called.

    `module.calls` keeps every call as (class.name, arguments) and every attribute set as (class.name=, value).
    """
    facts = json.loads((FOLDER / f"tensorrt-{version}.json").read_text())
    module = ModuleType(facts["name"])
    module.__dict__.update({name: type(name, (), {}) for name in facts["module"].split()})
    module.__dict__["__version__"] = facts["version"]
    calls: list[tuple[str, Any]] = []
    module.__dict__["calls"] = calls
    for name, members in facts["enums"].items():
        module.__dict__[name] = IntEnum(name, members.split(), start=0)
    for name, members in facts["classes"].items():
        made = _subclassed(members) if name in SUBCLASSED else _recorder(module, name, set(members.split()), answers)
        module.__dict__[name] = made
    return tensorrt_from(module, facts["name"])


def _subclassed(members: str) -> type:
    return type("Base", (), dict.fromkeys(members.split(), None))


def _recorder(module: ModuleType, name: str, members: set[str], answers: Mapping[str, Any] | None) -> type:
    known = {**ANSWERS, **(answers or {})}
    values = {**VALUES, "type": None, "dtype": None, **(answers or {})}

    class Recorder:
        def __init__(self, *arguments: Any) -> None:
            module.calls.append((name, arguments))

        def __getattribute__(self, member: str) -> Any:
            if member.startswith("__"):
                return object.__getattribute__(self, member)
            if member not in members:
                raise AttributeError(f"{module.__version__} has no {name}.{member}")
            own = object.__getattribute__(self, "__dict__")
            if member in own:
                return own[member]
            if member in OBJECTS:
                return lambda *a, **k: _call(member, a, k, getattr(module, OBJECTS[member])())
            if member in known:
                return lambda *a, **k: _call(member, a, k, known[member])
            if member in values:
                return _value(member)
            return lambda *a, **k: _call(member, a, k, None)

        def __setattr__(self, member: str, value: Any) -> None:
            if member not in members:
                raise AttributeError(f"{module.__version__} has no {name}.{member}")
            module.calls.append((f"{name}.{member}=", value))
            object.__getattribute__(self, "__dict__")[member] = value

    def _call(member: str, arguments: tuple[Any, ...], named: dict[str, Any], result: Any) -> Any:
        module.calls.append((f"{name}.{member}", (*arguments, *named.values())))
        return result(*arguments) if isinstance(result, FunctionType) else result

    def _value(member: str) -> Any:
        if member == "type":
            return module.LayerType.REDUCE
        return module.DataType.FLOAT if member == "dtype" else values[member]

    return Recorder


def called(tensorrt: TensorRt, name: str) -> Iterator[Any]:
    """The arguments of every call of that name, as IBuilderConfig.set_flag."""
    return (arguments for found, arguments in tensorrt.module.calls if found == name)
