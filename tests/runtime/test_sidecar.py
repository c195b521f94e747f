"""A plan runs where it was built for and nowhere else; each refusal names the command that rebuilds."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from segdec_edge.bundle import ENGINES, Bundle, Meta, ModelFacts, utc_now, write_bundle
from segdec_edge.errors import BackendError, BundleError
from segdec_edge.runtime.gpu import Gpu, current_gpu
from segdec_edge.runtime.sidecar import Here, Plan, check_plan, find_plan, read_plan, sidecar_of
from tests.nets import SIZE_HW
from tests.standin_tensorrt import standin_plan

ORIN = Gpu("Orin", (8, 7), 16, integrated=True)
NANO = replace(ORIN, multiprocessors=8)
RTX = Gpu("NVIDIA RTX A4000", (8, 6), 48)
HERE = Here("tensorrt", (10, 3, 0), ORIN)
ONNX = b"a model"


@pytest.fixture
def parts(tmp_path: Path) -> Bundle:
    return _bundle(tmp_path / "parts.bundle", ONNX)


def test_a_plan_is_found_where_it_fits(parts: Bundle) -> None:
    plan = _plan(parts)
    found = find_plan(parts, HERE)
    assert found == plan
    assert found == read_plan(plan.path, parts)
    check_plan(found, parts, HERE)


def test_another_onnx(parts: Bundle) -> None:
    plan = _plan(parts)
    other = _bundle(parts.path.parent / "other.bundle", b"another model")
    with pytest.raises(BundleError, match=r"was built from model .*, this bundle holds .*\. Rebuild it: segdec build"):
        check_plan(plan, other, HERE)


@pytest.mark.parametrize("version", [(10, 7, 0), (10, 3, 1), (8, 6, 2)])
def test_another_tensorrt(parts: Bundle, version: tuple[int, ...]) -> None:
    plan = _plan(parts, precision="fp16", batches=(1, 4, 8))
    with pytest.raises(BundleError) as refused:
        check_plan(plan, parts, replace(HERE, version=version))
    here = ".".join(str(part) for part in version)
    assert str(refused.value) == (
        f"{plan.path}: was built for TensorRT 10.3.0, this machine has TensorRT {here}."
        f" Rebuild it: segdec build {parts.path} --precision fp16 --batch 1,4,8"
    )


def test_a_plan_calibrated_by_its_builder_is_rebuilt_with_its_pictures(parts: Bundle) -> None:
    plan = _plan(parts, precision="int8", calibration_sha256="c" * 64, dla=0)
    with pytest.raises(BundleError, match=r"--precision int8 --dla 0 --batch \S+ --calibration MANIFEST$"):
        check_plan(plan, parts, replace(HERE, version=(10, 7, 0)))


def test_tensorrt_rtx_is_another_runtime(parts: Bundle) -> None:
    with pytest.raises(BundleError, match=r"built for TensorRT 10\.3\.0, this machine has TensorRT-RTX 1\.7\.1"):
        check_plan(_plan(parts), parts, Here("tensorrt_rtx", (1, 7, 1), ORIN))


@pytest.mark.parametrize(
    ("version", "fits"), [((10, 3, 0), True), ((10, 16, 2), True), ((10, 2, 0), False), ((11, 0, 0), False)]
)
def test_a_version_compatible_plan_runs_on_later_ones_of_its_major(
    parts: Bundle, version: tuple[int, ...], fits: bool
) -> None:
    plan = _plan(parts, version_compatible=True)
    here = replace(HERE, version=version)
    if fits:
        check_plan(plan, parts, here)
    else:
        with pytest.raises(BundleError, match=r"this machine has .* --version-compatible$"):
            check_plan(plan, parts, here)


@pytest.mark.parametrize("gpu", [RTX, NANO, replace(ORIN, name="Thor")])
def test_another_gpu(parts: Bundle, gpu: Gpu) -> None:
    """All Orin modules carry one name; their multiprocessors differ."""
    with pytest.raises(BundleError, match=rf"was built on Orin \(sm87, 16 .*this machine has {gpu.name} \(.*Rebuild"):
        check_plan(_plan(parts), parts, replace(HERE, gpu=gpu))


def test_a_plan_for_a_target_asks_for_the_compute_capability_alone(parts: Bundle) -> None:
    facts = {"gpu": None, "multiprocessors": None, "target": "sm86", "compute_capability": (8, 6)}
    plan = _plan(parts, runtime="tensorrt_rtx", runtime_version="1.7.1", **facts)
    here = Here("tensorrt_rtx", (1, 7, 1), RTX)
    check_plan(plan, parts, here)
    ada = replace(here, gpu=Gpu("NVIDIA L4", (8, 9), 58))
    with pytest.raises(BundleError, match=r"built for sm86, this machine has NVIDIA L4 .* --target sm89"):
        check_plan(plan, parts, ada)


def test_a_truncated_plan(parts: Bundle) -> None:
    plan = _plan(parts)
    plan.path.write_bytes(plan.path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"is damaged: 5 bytes, wanted 6 as its .*json says\. Rebuild it"):
        check_plan(plan, parts, HERE)
    plan.path.unlink()
    with pytest.raises(BundleError, match=r"cannot be read \(No such file"):
        check_plan(plan, parts, HERE)


def test_a_changed_plan(parts: Bundle) -> None:
    plan = _plan(parts)
    plan.path.write_bytes(b"PLAN!!")
    with pytest.raises(BundleError, match=r"was changed: hash [0-9a-f]{12}, wanted [0-9a-f]{12}\. Rebuild it"):
        find_plan(parts, HERE)


def test_no_driver(parts: Bundle) -> None:
    plan = _plan(parts)
    nowhere = replace(HERE, gpu=None)
    with pytest.raises(BackendError, match=r"no NVIDIA driver or GPU here"):
        check_plan(plan, parts, nowhere)
    with pytest.raises(BackendError, match=r"no NVIDIA driver or GPU here"):
        find_plan(parts, nowhere)


def test_a_bundle_without_plans_says_how_to_build_one(parts: Bundle) -> None:
    with pytest.raises(BundleError, match=r"has no engine\. Build it on this machine: segdec build .*parts\.bundle$"):
        find_plan(parts, HERE)
    _plan(parts)
    with pytest.raises(BundleError, match=r"has no engine for DLA 0\. .* --dla 0$"):
        find_plan(parts, HERE, dla=0)


def test_the_newest_plan_that_fits_is_taken(parts: Bundle) -> None:
    hour = timedelta(hours=1)
    _plan(parts, "old", created=utc_now() - hour)
    fits = _plan(parts, "fits")
    _plan(parts, "newer", created=utc_now() + hour, runtime_version="10.7.0")
    core = _plan(parts, "core", created=utc_now() + 2 * hour, dla=0)
    assert find_plan(parts, HERE).path == fits.path
    assert find_plan(parts, HERE, dla=0).path == core.path


def test_where_none_fits_the_newest_ones_reason_is_told(parts: Bundle) -> None:
    _plan(parts, "old", created=utc_now() - timedelta(hours=1), runtime_version="8.6.2")
    _plan(parts, "new", runtime_version="10.7.0")
    with pytest.raises(BundleError, match=r"new\.plan: was built for TensorRT 10\.7\.0.*\(1 more do not fit either\)$"):
        find_plan(parts, HERE)


@pytest.mark.parametrize(
    ("content", "words"), [(None, "has no plain.json"), ("{}", "Field required"), ("not JSON", "Invalid JSON")]
)
def test_a_plan_without_facts_is_refused(parts: Bundle, content: str | None, words: str) -> None:
    plan = _plan(parts)
    sidecar_of(plan.path).unlink()
    if content is not None:
        sidecar_of(plan.path).write_text(content)
    with pytest.raises(BundleError, match=rf"{words}.*Rebuild it: segdec build"):
        find_plan(parts, HERE)


def test_where_there_is_no_driver_there_is_no_gpu() -> None:
    assert current_gpu(driver="libno_such_driver.so") is None


@pytest.mark.gpu
def test_the_gpu_that_is_here() -> None:
    gpu = current_gpu()
    if gpu is None:
        pytest.skip("no NVIDIA GPU here")
    assert gpu.name
    assert gpu.compute_capability >= (5, 0)
    assert gpu.multiprocessors > 0


def _plan(bundle: Bundle, name: str = "plain", **changes: Any) -> Plan:
    orin = {"gpu": ORIN.name, "multiprocessors": ORIN.multiprocessors}
    return standin_plan(bundle.path / ENGINES, bundle, b"a plan", name=name, **(orin | changes))


def _bundle(path: Path, onnx: bytes) -> Bundle:
    model = ModelFacts(sha256=hashlib.sha256(onnx).hexdigest(), size_bytes=len(onnx), opset=17)
    meta = Meta(
        segdec_edge="0",
        created=utc_now(),
        input={"size_hw": SIZE_HW, "channels": 1, "colour": "grey"},
        outputs={"heatmap_hw": (16, 8)},
        threshold={"value": 0.5, "source": "by hand"},
        model=model,
    )
    return write_bundle(path, onnx_bytes=onnx, meta=meta)
