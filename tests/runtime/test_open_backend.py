"""open_backend: which runtime, and what it says when there is none."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest

from segdec_edge.bundle import ENGINES, Bundle, model_facts, write_bundle
from segdec_edge.errors import BackendError, BundleError
from segdec_edge.runtime import BACKENDS, FASTEST_FIRST, available_backends, backend_classes, open_backend
from segdec_edge.runtime.checks import check_pixels
from segdec_edge.runtime.gpu import current_gpu
from tests.nets import textures
from tests.standin_tensorrt import standin_plan


def _without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Make modules impossible to import, as on a machine that lacks them."""
    for module in modules:
        for loaded in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.delitem(sys.modules, f"segdec_edge.runtime.{module}", raising=False)
        monkeypatch.setitem(sys.modules, module, None)


def test_auto_takes_the_fastest(bundle: Bundle) -> None:
    pytest.importorskip("openvino")
    assert open_backend(bundle.path).name == "openvino"


def test_auto_passes_over_what_does_not_load(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, "openvino")
    assert open_backend(bundle).name == "onnxruntime"


def test_auto_names_every_reason_and_remedy(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, *FASTEST_FIRST)
    with pytest.raises(BackendError) as caught:
        open_backend(bundle)
    message = str(caught.value)
    assert "\n" not in message
    assert "pip install 'segdec-edge[openvino]'" in message
    assert "pip install onnxruntime" in message


def test_an_asked_for_runtime_is_never_replaced(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, "openvino")
    with pytest.raises(BackendError, match=r"openvino does not load.*pip install 'segdec-edge\[openvino\]'"):
        open_backend(bundle, "openvino")


def test_a_path_may_be_text(bundle: Bundle) -> None:
    opened = open_backend(str(bundle.path), "onnxruntime")
    assert opened.spec.sha256 == bundle.meta.model.sha256
    opened.close()


def test_an_unknown_name_lists_the_known(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="'tensorflow' is unknown, wanted auto, tensorrt, openvino, onnxruntime"):
        open_backend(bundle, "tensorflow")


def test_threads_below_one_are_refused(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="0 threads"):
        open_backend(bundle, threads=0)


def test_a_bundle_is_checked_first(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        open_backend(tmp_path / "none.bundle")


@pytest.mark.parametrize("name", FASTEST_FIRST)
def test_a_model_of_another_size_than_meta_says_is_refused(bundle: Bundle, tmp_path: Path, name: str) -> None:
    pytest.importorskip(name)
    wrong = bundle.meta.input.model_copy(update={"size_hw": (256, 64)})
    meta = bundle.meta.model_copy(update={"input": wrong})
    write_bundle(tmp_path / "b.bundle", onnx_bytes=bundle.model_path.read_bytes(), meta=meta)
    with pytest.raises(BackendError, match=r"takes pixels \(N, 128, 64, 1\).*meta.json says pixels \(N, 256, 64, 1\)"):
        open_backend(tmp_path / "b.bundle", name)


@pytest.mark.parametrize("name", FASTEST_FIRST)
@pytest.mark.parametrize("content", [b"no graph at all", b""])
def test_a_file_that_is_no_graph_is_refused(bundle: Bundle, tmp_path: Path, name: str, content: bytes) -> None:
    pytest.importorskip(name)
    meta = bundle.meta.model_copy(update={"model": model_facts(content, opset=17, simplified=False)})
    write_bundle(tmp_path / "b.bundle", onnx_bytes=content, meta=meta)
    with pytest.raises(BackendError, match=rf"model.onnx: {name} cannot load it"):
        open_backend(tmp_path / "b.bundle", name)


@pytest.mark.parametrize("name", FASTEST_FIRST)
def test_a_graph_with_other_outputs_is_refused(bundle: Bundle, tmp_path: Path, name: str) -> None:
    pytest.importorskip(name)
    model = onnx.load(bundle.model_path)
    del model.graph.output[1]
    content = model.SerializeToString()
    meta = bundle.meta.model_copy(update={"model": model_facts(content, opset=17, simplified=False)})
    write_bundle(tmp_path / "b.bundle", onnx_bytes=content, meta=meta)
    with pytest.raises(BackendError, match="gives score"):
        open_backend(tmp_path / "b.bundle", name)


def test_a_batch_above_the_profile_is_refused(bundle: Bundle) -> None:
    spec = dataclasses.replace(bundle.spec, max_batch=2)
    check_pixels(textures(2), spec)
    with pytest.raises(BackendError, match="a batch of 3 pictures, wanted at most 2"):
        check_pixels(textures(3), spec)


def test_openvino_computes_in_float32(bundle: Bundle) -> None:
    """On a CPU with bfloat16 its default is bfloat16, whatever the graph says."""
    pytest.importorskip("openvino")
    found, wanted = (open_backend(bundle, name).infer(textures(4)) for name in ("openvino", "onnxruntime"))
    np.testing.assert_allclose(found.score, wanted.score, atol=2e-6, rtol=0)
    np.testing.assert_allclose(found.heatmap, wanted.heatmap, atol=2e-5, rtol=0)


def test_openvino_pins_no_thread_that_was_asked_for(bundle: Bundle) -> None:
    """Two models with one thread each would be pinned to the same core."""
    openvino = pytest.importorskip("openvino")
    from segdec_edge.runtime.openvino import compile_options

    one = openvino.Core().compile_model(str(bundle.model_path), "CPU", compile_options(1))
    assert one.get_property("ENABLE_CPU_PINNING") is False
    assert one.get_property("INFERENCE_NUM_THREADS") == 1


def test_available_backends_gives_versions_or_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_backends()["onnxruntime"] == version("onnxruntime")
    _without(monkeypatch, "openvino")
    found = available_backends()
    assert list(found) == list(BACKENDS)
    assert "pip install 'segdec-edge[openvino]'" in found["openvino"]


@pytest.fixture
def with_engine(bundle: Bundle, tmp_path: Path) -> Bundle:
    """A bundle with an engine of a GPU that is not here."""
    own = write_bundle(tmp_path / "own.bundle", onnx_bytes=bundle.model_path.read_bytes(), meta=bundle.meta)
    standin_plan(own.path / ENGINES, own)
    return own


def test_auto_passes_over_an_engine_without_a_gpu(with_engine: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    if current_gpu() is not None:
        pytest.skip("there is a GPU here")
    with caplog.at_level(logging.INFO, "segdec_edge.runtime"):
        assert open_backend(with_engine).name in FASTEST_FIRST
    assert [(one.levelname, "no NVIDIA driver or GPU here" in one.message) for one in caplog.records] == [
        ("INFO", True)
    ]


def test_auto_does_not_speak_of_engines_where_there_is_none(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "segdec_edge.runtime"):
        open_backend(bundle)
    assert "tensorrt" not in caplog.text


def test_tensorrt_asked_for_says_what_is_missing(with_engine: Bundle) -> None:
    if current_gpu() is not None:
        pytest.skip("there is a GPU here")
    with pytest.raises(BackendError, match=r"no NVIDIA driver or GPU here.*segdec doctor"):
        open_backend(with_engine, "tensorrt")
    assert available_backends()["tensorrt"].startswith("no NVIDIA driver or GPU here")


def test_an_export_is_compared_through_what_runs_a_model_file() -> None:
    assert "tensorrt" not in backend_classes()


def test_the_package_alone_loads_no_runtime() -> None:
    code = "import sys, segdec_edge.runtime; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for module in ("torch", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "pycuda"):
        assert f"'{module}'" not in done.stdout
