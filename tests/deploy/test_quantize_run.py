"""segdec quantize from end to end: judged on held-out pictures, written whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segdec_edge.bundle import Bundle, read_bundle
from segdec_edge.deploy.calibration import read_manifest
from segdec_edge.deploy.quantize import Int8, cache_path
from segdec_edge.deploy.quantize_run import Job, beside, calibration_of, quantize_bundle
from segdec_edge.deploy.ranges import histogram_of, load_cache, save_cache
from segdec_edge.errors import (
    BackendError,
    BundleError,
    CalibrationError,
    DataError,
    GateError,
    QuantizeError,
    StorageError,
)
from segdec_edge.files import sha256_of
from segdec_edge.runtime import open_backend
from tests.deploy.made_bundles import SPEC, made_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return made_bundle(tmp_path_factory.mktemp("run"))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "calibration" / "parts.toml"


def test_int8_is_written_with_what_was_done_and_how_it_did(bundle: Bundle, manifest: Path, tmp_path: Path) -> None:
    said: list[str] = []
    before = sha256_of(bundle.model_path)
    job = Job(bundle.path, tmp_path / "q.bundle", manifest=manifest, data=SPEC, max_ap_drop=100)
    done = quantize_bundle(job, say=said.append)
    made = read_bundle(tmp_path / "q.bundle")
    assert made.meta == done.bundle.meta
    assert made.meta.model.precision == "int8"
    assert [step.step for step in made.meta.lineage] == ["export", "quantize"]
    note = made.meta.lineage[-1].note
    assert note in said
    assert note.startswith("13 of 13 layers INT8 (100.0 % of the multiply-adds), activations int8, minmax on 30")
    assert made.meta.parity is None
    accuracy = made.meta.accuracy[0]
    assert accuracy == done.found.after.accuracy
    assert accuracy.subset == "test"
    assert accuracy.backend in ("onnxruntime", "openvino")
    assert made.meta.threshold == bundle.meta.threshold
    assert made.split() == bundle.split()
    assert sha256_of(bundle.model_path) == before
    assert open_backend(made, "onnxruntime").spec.precision == "int8"
    assert len(read_manifest(manifest, bundle).samples) == 30


def test_a_result_past_the_limit_is_refused_and_nothing_written(bundle: Bundle, manifest: Path, tmp_path: Path) -> None:
    """Ranges a thousand times too small clip every activation: all parts score alike."""
    out = tmp_path / "q.bundle"
    job = Job(bundle.path, out, manifest=manifest, data=SPEC, max_ap_drop=100, backend="onnxruntime")
    quantize_bundle(job, say=lambda line: None)
    out.rename(tmp_path / "kept.bundle")
    calibration = read_manifest(manifest, bundle)
    cache = cache_path(manifest, bundle)
    measured = load_cache(cache, bundle.spec.sha256, calibration.sha256)
    tiny = {name: histogram_of(measured[name].counts[:8].astype("f4") * 0 + 1e-4) for name in measured}
    save_cache(cache, bundle.spec.sha256, calibration.sha256, tiny)
    tight = Job(bundle.path, out, manifest=manifest, max_ap_drop=0.0, backend="onnxruntime")
    with pytest.raises(GateError, match=r"test pictures, .* nothing was written"):
        quantize_bundle(tight, say=lambda line: None)
    assert not out.exists()


def test_fp16_loses_nothing(bundle: Bundle, manifest: Path, tmp_path: Path) -> None:
    job = Job(bundle.path, tmp_path / "h.bundle", "fp16", manifest, SPEC, max_ap_drop=0.5)
    done = quantize_bundle(job, say=lambda line: None)
    assert done.bundle.meta.model.precision == "fp16"
    assert done.found.score_rms < 0.02


def test_mixed_measures_the_layers_and_leaves_out_what_it_must(tmp_path: Path) -> None:
    own = made_bundle(tmp_path)
    job = Job(own.path, manifest=tmp_path / "m.toml", data=SPEC, mixed=True, max_ap_drop=99, backend="onnxruntime")
    done = quantize_bundle(job, say=lambda line: None)
    assert done.sensitivity is not None and done.sensitivity.left_out == ()
    assert done.bundle.path == beside(own.path, "int8")
    assert read_bundle(done.bundle.path).meta.lineage[-1].accuracy == done.found.after.accuracy
    assert (tmp_path / "feature-sensitivity" / "sensitivity.md").exists()


def test_mixed_that_the_test_pictures_refuse_leaves_nothing(tmp_path: Path) -> None:
    own = made_bundle(tmp_path)
    before = {path.name: path.read_bytes() for path in own.path.iterdir()}
    job = Job(own.path, manifest=tmp_path / "m.toml", data=SPEC, mixed=True, max_ap_drop=-1, backend="onnxruntime")
    with pytest.raises(QuantizeError, match=r"No choice of layers keeps .* --precision fp16"):
        quantize_bundle(job, say=lambda line: None)
    assert {path.name: path.read_bytes() for path in own.path.iterdir()} == before
    assert not list(tmp_path.glob("feature-*.bundle"))


@pytest.mark.parametrize(
    ("wishes", "told"),
    [
        ({"precision": "fp16", "mixed": True}, "--mixed chooses layers for INT8"),
        ({"precision": "fp16", "options": Int8(exclude=("volume.0",))}, "--exclude chooses layers for INT8"),
        ({"mixed": True, "options": Int8(exclude=("volume.0",))}, "Leave --exclude out"),
    ],
)
def test_a_wish_that_would_be_passed_over_is_refused(
    bundle: Bundle, tmp_path: Path, wishes: dict[str, Any], told: str
) -> None:
    job = replace(Job(bundle.path, tmp_path / "q.bundle", manifest=tmp_path / "m.toml", data=SPEC), **wishes)
    with pytest.raises(QuantizeError, match=told):
        quantize_bundle(job, say=lambda line: None)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_or_judged_is_told_before_any_measuring(bundle: Bundle, tmp_path: Path) -> None:
    said: list[str] = []
    job = Job(bundle.path, tmp_path / "q.bundle", manifest=tmp_path / "m.toml", data=SPEC)
    for wrong, error, told in (
        (replace(job, out=bundle.path), BundleError, "never changed"),
        (replace(job, out=bundle.path / "q.bundle"), BundleError, "never changed"),
        (replace(job, out=tmp_path / "none" / "q.bundle"), StorageError, "no folder"),
        (replace(job, subset="train"), DataError, "trained on"),
        (replace(job, backend="tensorrt"), BackendError, "has no engine yet"),
        (replace(job, backend="triton"), BackendError, "triton"),
    ):
        with pytest.raises(error, match=told):
            quantize_bundle(wrong, say=said.append)
    assert not [line for line in said if not line.startswith(str(tmp_path / "m.toml"))]


def test_a_manifest_that_was_named_and_is_not_there_is_asked_for(
    bundle: Bundle, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CalibrationError, match=r"no such manifest .* segdec calibrate"):
        quantize_bundle(Job(bundle.path, tmp_path / "q.bundle", manifest=manifest), say=lambda line: None)
    monkeypatch.chdir(tmp_path)
    assert calibration_of(bundle, None, None, say=lambda line: None).path == Path("calibration/feature.toml")
