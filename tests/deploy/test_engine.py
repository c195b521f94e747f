"""Engines for other versions of TensorRT, tried on their names alone: types, batches, calibration, memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segdec_edge.bundle import Bundle
from segdec_edge.deploy import engine
from segdec_edge.deploy.calibrator import Calibration
from segdec_edge.deploy.engine import build_engine, plan_name
from segdec_edge.deploy.memory import check_memory, free_swap, needed_bytes
from segdec_edge.errors import BackendError, BundleError, EngineError
from segdec_edge.runtime.gpu import Gpu
from segdec_edge.runtime.sidecar import Here, find_plan
from segdec_edge.types import Pixels
from tests.deploy.made_engines import A4000, with_model
from tests.nets import textures
from tests.surfaces import called, recorded

ORIN = Gpu("Orin", (8, 7), 8, integrated=True)


@pytest.fixture
def onboard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As if this were a Jetson: its GPU, and a cache folder of its own."""
    monkeypatch.setattr(engine, "current_gpu", lambda: ORIN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("version", "own", "asked", "dla", "words"),
    [
        ("10.3", "fp32", "fp16", None, r"graph is fp32, wanted a fp16 engine .*segdec quantize .* --precision fp16$"),
        ("11.4", "fp32", "int8", None, r"segdec quantize .* --precision int8$"),
        ("8.6", "fp32", "int8", None, r"segdec quantize .* --precision int8$"),
        ("10.3", "fp32", "int8", 0, r"on DLA: .* --calibration MANIFEST"),
        ("10.3", "int8", None, 0, r"holds Q/DQ nodes, .* on DLA wants an fp32 bundle"),
        ("10.3", "int8", "fp32", None, r"graph is int8, wanted a fp32 engine .*Build from the fp32 bundle"),
        ("10.3", "fp32", "fp8", None, r"precision fp8, wanted one of"),
    ],
)
@pytest.mark.usefixtures("onboard")
def test_a_precision_that_is_not_in_the_graph_is_refused_with_the_way_to_it(
    small: Bundle, tmp_path: Path, version: str, own: str, asked: str | None, dla: int | None, words: str
) -> None:
    bundle = with_model(tmp_path / "parts.bundle", small, b"graph", own)
    with pytest.raises(EngineError, match=words):
        build_engine(bundle, precision=asked, dla=dla, tensorrt=recorded(version))


@pytest.mark.parametrize(
    ("version", "own", "asked", "dla", "built"),
    [
        ("8.6", "fp32", "fp16", None, ["FP16", "OBEY_PRECISION_CONSTRAINTS"]),
        ("8.6", "int8", None, None, ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"]),
        ("8.6", "mixed", "int8", None, ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"]),
        ("8.6", "fp32", None, None, []),
        ("10.3", "fp16", None, None, []),
        ("10.3", "fp32", "fp16", 0, ["FP16", "OBEY_PRECISION_CONSTRAINTS", "GPU_FALLBACK"]),
        ("11.4", "int8", "int8", 0, ["GPU_FALLBACK"]),
    ],
)
@pytest.mark.usefixtures("onboard")
def test_flags_set_the_types_where_the_graph_cannot(
    small: Bundle, tmp_path: Path, version: str, own: str, asked: str | None, dla: int | None, built: list[str]
) -> None:
    bundle = with_model(tmp_path / "parts.bundle", small, b"graph", own)
    tensorrt = recorded(version)
    plan = build_engine(bundle, precision=asked, dla=dla, tensorrt=tensorrt)
    assert [flag.name for (flag,) in called(tensorrt, "IBuilderConfig.set_flag")] == built
    wanted = own if own == "mixed" else asked or own
    assert plan.path.name == plan_name("tensorrt", "sm87", wanted, dla)
    assert (plan.facts.gpu, plan.facts.multiprocessors) == ("Orin", 8)
    assert find_plan(bundle, Here("tensorrt", tensorrt.version, ORIN), dla) == plan


@pytest.mark.usefixtures("onboard")
def test_what_tensorrt_learned_of_kernels_is_kept_for_the_next_build(small: Bundle, tmp_path: Path) -> None:
    bundle = with_model(tmp_path / "parts.bundle", small, b"graph", "fp32")
    build_engine(bundle, tensorrt=recorded("10.3"))
    (kept,) = (tmp_path / "cache" / "segdec-edge").iterdir()
    assert (kept.name, kept.read_bytes()) == ("tensorrt-10.3.0-orin-8.timings", b"timings")
    again = recorded("10.3")
    build_engine(bundle, tensorrt=again)
    assert list(called(again, "IBuilderConfig.create_timing_cache")) == [(b"timings",)]


@pytest.mark.parametrize(
    ("batches", "dla", "words"),
    [
        ((0, 1, 1), None, "from 1 on"),
        ((4, 1, 8), None, "least, best and most"),
        ((1, 4, 4), 0, r"one size .*--batch 4"),
        ((1, 1, 10**22), None, "at most 65536 pictures"),
    ],
)
@pytest.mark.usefixtures("onboard")
def test_batch_sizes_that_cannot_be(small: Bundle, batches: tuple[int, int, int], dla: int | None, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        build_engine(small, batches=batches, dla=dla, tensorrt=recorded("10.3"))


@pytest.mark.parametrize("workspace_bytes", [0, 10**20])
@pytest.mark.usefixtures("onboard")
def test_a_workspace_that_cannot_be(small: Bundle, workspace_bytes: int) -> None:
    with pytest.raises(EngineError, match="wanted up to 1024GiB"):
        build_engine(small, workspace_bytes=workspace_bytes, tensorrt=recorded("10.3"))


def test_a_target_without_tensorrt_rtx_says_why(small: Bundle) -> None:
    with pytest.raises(BackendError, match=r"target sm86: TensorRT 10\.3\.0 times kernels on the GPU it builds for"):
        build_engine(small, target="sm86", tensorrt=recorded("10.3"))


@pytest.mark.parametrize("version", ["8.6", "10.3", "10.16"])
@pytest.mark.usefixtures("onboard")
def test_calibration_hands_every_picture_to_tensorrt(small: Bundle, tmp_path: Path, version: str) -> None:
    bundle = with_model(tmp_path / "parts.bundle", small, b"graph", "fp32")
    pixels = textures(20)
    uploaded: list[Pixels] = []
    calibration = _calibration(tmp_path, pixels, uploaded)
    tensorrt = recorded(version, {"build_serialized_network": _calibrating(b"ranges")})
    plan = build_engine(bundle, precision="int8", dla=0, batches=(4, 4, 4), calibration=calibration, tensorrt=tensorrt)
    np.testing.assert_array_equal(np.concatenate(uploaded), pixels)
    assert [len(one) for one in uploaded] == [4] * 5
    assert plan.facts.calibration_sha256 == "c" * 64
    assert list(called(tensorrt, "IBuilderConfig.set_calibration_profile"))
    cache = calibration.cache_of(tensorrt, bundle.meta.model.sha256)
    assert cache.read_bytes() == b"ranges"
    assert bundle.meta.model.sha256[:12] in cache.name
    build_engine(bundle, precision="int8", dla=0, batches=(4, 4, 4), calibration=calibration, tensorrt=tensorrt)
    assert len(uploaded) == 5  # the second build reads the cache


@pytest.mark.usefixtures("onboard")
def test_a_failing_picture_fails_the_build(small: Bundle, tmp_path: Path) -> None:
    """TensorRT takes an exception for the end of the pictures and builds on; the engine must not come out of it."""

    def pictures() -> Iterator[Pixels]:
        yield textures(1)
        raise BundleError("a picture is gone")

    bundle = with_model(tmp_path / "parts.bundle", small, b"graph", "fp32")
    tensorrt = recorded("10.3", {"build_serialized_network": _calibrating(b"ranges")})
    calibration = Calibration(pictures(), "c" * 64, tmp_path, lambda pixels: 1)
    with pytest.raises(BundleError, match="a picture is gone"):
        build_engine(bundle, precision="int8", dla=0, calibration=calibration, tensorrt=tensorrt)
    few = _calibration(tmp_path, textures(15), [])
    with pytest.raises(EngineError, match="15 pictures to calibrate on, wanted at least 16"):
        build_engine(bundle, precision="int8", dla=0, calibration=few, tensorrt=tensorrt)
    assert not (bundle.path / "engines").exists()


@pytest.mark.usefixtures("onboard")
def test_calibration_pictures_where_they_are_of_no_use_are_refused(small: Bundle, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="Leave them out"):
        build_engine(small, calibration=_calibration(tmp_path, textures(16), []), tensorrt=recorded("11.4"))


def test_a_build_without_memory_is_refused_before_it_starts() -> None:
    gib = 1 << 30
    needed = needed_bytes(gib // 4, gib, ORIN)
    assert needed == 3 * gib
    assert needed_bytes(gib // 4, gib, A4000) == 2 * gib  # its workspace is in its own memory
    assert check_memory(needed, free=3 * gib, swap=0) == ""
    assert "it will swap" in check_memory(needed, free=2 * gib, swap=gib)
    with pytest.raises(EngineError, match=r"2\.0 GiB of memory and 0\.5 GiB of swap are free, .*3\.0 GiB.*swapon"):
        check_memory(needed, free=2 * gib, swap=gib // 2)


def test_swap_is_read_where_the_system_tells_it(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 10 kB\nSwapTotal:       20 kB\nSwapFree:        7 kB\n")
    assert free_swap(meminfo) == 7 * 1024
    assert free_swap(tmp_path / "none") == 0


def _calibrating(ranges: bytes) -> Any:
    """What build_serialized_network does with a calibrator: the cache, else all pictures; an exception ends them."""

    def build(network: Any, config: Any) -> bytes:
        calibrator = config.int8_calibrator
        if calibrator.read_calibration_cache() is None:
            try:
                while calibrator.get_batch(["pixels"]):
                    pass
            except Exception:  # noqa: BLE001
                pass
            calibrator.write_calibration_cache(memoryview(ranges))
        return b"plan"

    return build


def _calibration(folder: Path, pixels: Pixels, uploaded: list[Pixels]) -> Calibration:
    def upload(batch: Pixels) -> int:
        uploaded.append(batch)
        return 4096

    return Calibration([pixels[:3], pixels[3:]], "c" * 64, folder / "calibration", upload)
