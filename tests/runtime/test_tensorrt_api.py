"""The table of differences against every version's own names: a call that a version lacks fails here."""

from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from segdec_edge.deploy.builder import Wish, build_plan
from segdec_edge.errors import BackendError, EngineError
from segdec_edge.runtime.tensorrt_api import (
    TensorRt,
    allow_host_code,
    because,
    check_target,
    device_memory_bytes,
    dtype_of,
    find_tensorrt,
    logger_of,
    network_flags,
    parser_errors,
    set_flags,
    tensorrt_from,
    version_of,
)
from tests.surfaces import VERSIONS, called, recorded


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_builds_with_its_own_names_alone(version: str) -> None:
    tensorrt = recorded(version)
    built = build_plan(tensorrt, b"onnx", Wish(weak=not tensorrt.has_strong_typing), timings=b"old", monitor=Silent())
    assert (bytes(built.plan), built.timings) == (b"plan", b"timings")
    assert list(called(tensorrt, "IBuilderConfig.create_timing_cache")) == [(b"old",)]
    assert list(called(tensorrt, "IOptimizationProfile.set_shape")) == [
        ("pixels", (1, 32, 32, 1), (1, 32, 32, 1), (4, 32, 32, 1))
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_is_told_the_types_in_its_own_way(version: str) -> None:
    """In the graph where it can; else by flags, with sums kept in FP32."""
    tensorrt = recorded(version)
    weak = not tensorrt.has_strong_typing
    build_plan(tensorrt, b"onnx", Wish(precision="int8", weak=weak))
    (flags,) = next(called(tensorrt, "Builder.create_network"))
    strong = 1 << int(getattr(tensorrt.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", 63))
    assert bool(flags & strong) is (version != "8.6")
    found = [flag.name for (flag,) in called(tensorrt, "IBuilderConfig.set_flag")]
    assert found == (["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"] if version == "8.6" else [])
    kept = list(called(tensorrt, "ILayer.precision="))
    assert kept == ([tensorrt.module.DataType.FLOAT] if version == "8.6" else [])


@pytest.mark.parametrize("version", ["10.3", "10.16"])
def test_dla_is_told_the_types_by_flags_up_to_10(version: str) -> None:
    tensorrt = recorded(version)
    build_plan(tensorrt, b"onnx", Wish(precision="fp16", dla=1, weak=True))
    assert [flag.name for (flag,) in called(tensorrt, "IBuilderConfig.set_flag")] == [
        "FP16", "OBEY_PRECISION_CONSTRAINTS", "GPU_FALLBACK",
    ]  # fmt: skip
    assert list(called(tensorrt, "IBuilderConfig.DLA_core=")) == [1]
    assert list(called(tensorrt, "IBuilderConfig.default_device_type=")) == [tensorrt.module.DeviceType.DLA]


def test_dla_in_11_takes_its_types_from_the_graph() -> None:
    tensorrt = recorded("11.4")
    build_plan(tensorrt, b"onnx", Wish(precision="fp16", dla=0))
    assert [flag.name for (flag,) in called(tensorrt, "IBuilderConfig.set_flag")] == ["GPU_FALLBACK"]


@pytest.mark.parametrize(
    ("version", "strong", "weak", "calibrators", "progress"),
    [
        ("8.6", False, True, True, False),
        ("10.3", True, True, True, True),
        ("10.16", True, True, True, True),
        ("11.4", True, False, False, True),
    ],
)
def test_what_each_version_has(version: str, strong: bool, weak: bool, calibrators: bool, progress: bool) -> None:
    found = recorded(version)
    has = (found.has_strong_typing, found.has_weak_typing, found.has_calibrators, found.has_progress)
    assert has == (strong, weak, calibrators, progress)
    assert found.targets == ()
    assert found.has_timing_cache


def test_a_flag_that_a_version_lacks_is_told_with_its_name() -> None:
    tensorrt = recorded("8.6")
    with pytest.raises(BackendError, match=r"TensorRT 8\.6\.1 has no builder flag STRIP_PLAN"):
        build_plan(tensorrt, b"onnx", Wish(weak=True, strip=True))
    with pytest.raises(BackendError, match=r"TensorRT 11\.4\.0\.106 has no builder flag FP16"):
        set_flags(recorded("11.4"), tensorrt.module.IBuilderConfig(), ["FP16"])


@pytest.mark.parametrize("version", VERSIONS)
def test_plans_of_later_versions_are_asked_for_by_one_name(version: str) -> None:
    tensorrt = recorded(version)
    weak = not tensorrt.has_strong_typing
    build_plan(tensorrt, b"onnx", Wish(weak=weak, version_compatible=True))
    assert [flag.name for (flag,) in called(tensorrt, "IBuilderConfig.set_flag")] == ["VERSION_COMPATIBLE"]
    allow_host_code(tensorrt.module.Runtime())
    assert list(called(tensorrt, "Runtime.engine_host_code_allowed=")) == [True]


@pytest.mark.parametrize(("version", "size"), [("8.6", 100), ("10.3", 200), ("10.16", 200), ("11.4", 200)])
def test_the_memory_of_a_context_has_two_names(version: str, size: int) -> None:
    assert device_memory_bytes(recorded(version).module.ICudaEngine()) == size


@pytest.mark.parametrize("version", VERSIONS)
def test_a_refused_node_is_named_as_far_as_the_version_knows_it(version: str) -> None:
    found = parser_errors(recorded(version).module.OnnxParser())
    assert found == (
        ("node 7: no such operator",) if version == "8.6" else ("node /conv/Conv (Conv): no such operator",)
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_types_become_numpys_without_their_nptype(version: str) -> None:
    tensorrt = recorded(version)
    names = {"FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "UINT8": np.uint8, "BOOL": np.bool_}
    for name, wanted in names.items():
        assert dtype_of(tensorrt, getattr(tensorrt.module.DataType, name)) == np.dtype(wanted)
    with pytest.raises(BackendError, match="FP8"):
        dtype_of(tensorrt, tensorrt.module.DataType.FP8)


def test_versions_are_numbers_and_not_words() -> None:
    assert version_of("10.3.0") > version_of("8.6.2.3")
    assert version_of("10.16.0b6.post1") == (10, 16, 0)
    assert version_of("none") == ()


def test_a_version_too_old_is_refused() -> None:
    old = ModuleType("tensorrt")
    old.__dict__.update(Builder=object, __version__="8.5.2")
    with pytest.raises(BackendError, match=r"8\.5\.2 is installed, wanted 8\.6"):
        tensorrt_from(old, "tensorrt")


def test_no_tensorrt_at_all_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))  # what stubs in site-packages look like
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    find_tensorrt.cache_clear()
    with pytest.raises(BackendError, match=r"tensorrt does not load .*tensorrt_rtx does not load .*pip install"):
        find_tensorrt()
    find_tensorrt.cache_clear()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_vendors_log_goes_to_logging_and_its_last_error_is_kept(
    version: str, caplog: pytest.LogCaptureFixture
) -> None:
    tensorrt = recorded(version)
    logger = logger_of(tensorrt)
    assert logger_of(tensorrt) is logger
    severity = tensorrt.module.Severity
    with caplog.at_level(logging.DEBUG, "segdec_edge.tensorrt"):
        logger.log(severity.ERROR, "first\n  line")
        logger.log(severity.WARNING, "a weight was rounded")
        logger.log(severity.VERBOSE, "chatter")
    assert because(logger) == logger.last_error == "first line"
    assert [record.getMessage() for record in caplog.records] == [
        "tensorrt: first line",
        "tensorrt: a weight was rounded",
    ]
    logger.forget()
    assert because(logger) == "it gave no reason"


@pytest.mark.parametrize("version", VERSIONS)
def test_only_tensorrt_rtx_builds_for_gpus_that_are_elsewhere(version: str) -> None:
    with pytest.raises(BackendError, match="only TensorRT-RTX builds for others"):
        check_target(recorded(version), "sm86")


@pytest.mark.trt
def test_the_installed_module_is_found(rtx: TensorRt) -> None:
    assert rtx.name == "tensorrt_rtx"
    assert rtx.version >= (1, 1)
    assert str(rtx).startswith("TensorRT-RTX 1.")
    assert (rtx.has_strong_typing, rtx.has_weak_typing, rtx.has_timing_cache) == (True, False, False)
    assert {"sm75", "sm86", "sm120"} <= set(rtx.targets)
    assert network_flags(rtx, weak=False) == 1 << int(rtx.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert dtype_of(rtx, rtx.module.DataType.UINT8) == np.uint8
    with pytest.raises(BackendError, match=r"target sm87: .* Choose one of these"):
        check_target(rtx, "sm87")


class Silent:
    cancelled = False

    def start(self, phase: str, parent: str | None, steps: int) -> None: ...

    def step(self, phase: str, done: int) -> bool:
        return True

    def finish(self, phase: str) -> None: ...


def test_a_builder_without_an_engine_gives_the_vendors_reason() -> None:
    def fail(network: Any, config: Any) -> None:
        logger_of(tensorrt).log(tensorrt.module.Severity.ERROR, "Error Code 2: out of memory")

    tensorrt = recorded("10.3", {"build_serialized_network": fail})
    with pytest.raises(EngineError, match=r"TensorRT 10\.3\.0 built no engine: Error Code 2: out of memory\. Where"):
        build_plan(tensorrt, b"onnx", Wish())


def test_an_old_error_is_not_taken_for_the_reason() -> None:
    tensorrt = recorded("10.3", {"build_serialized_network": None})
    logger_of(tensorrt).log(tensorrt.module.Severity.ERROR, "of yesterday")
    with pytest.raises(EngineError, match="built no engine: it gave no reason"):
        build_plan(tensorrt, b"onnx", Wish())


def test_a_stale_timing_cache_gives_way_to_an_empty_one() -> None:
    tensorrt = recorded("10.3", {"set_timing_cache": False})
    build_plan(tensorrt, b"onnx", Wish(), timings=b"of another GPU")
    assert list(called(tensorrt, "IBuilderConfig.create_timing_cache")) == [(b"of another GPU",), (b"",)]


def test_a_cancelled_build_is_an_interruption() -> None:
    class Impatient(Silent):
        cancelled = True

    with pytest.raises(KeyboardInterrupt):
        build_plan(recorded("10.3"), b"onnx", Wish(), monitor=Impatient())
