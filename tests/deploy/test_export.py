"""Export: faithful to the checkpoint, or nothing at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from segdec_edge.bundle import Bundle, read_bundle
from segdec_edge.deploy import export
from segdec_edge.deploy.export import export_checkpoint
from segdec_edge.deploy.simplify import NotSimplified, simplified
from segdec_edge.errors import BundleError, CheckpointError, ExportError, SizeError
from segdec_edge.files import sha256_of
from segdec_edge.model.backend import open_checkpoint
from segdec_edge.pictures import prepare, read_picture
from segdec_edge.runtime import open_backend
from tests.nets import SIZE_HW, lively_net, save_net, textures

PICTURES = list(textures(3)[..., 0])
SPLIT = {"train": ["a"], "validation": [], "test": ["b"], "how": "by hand"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    facts = {"settings": {"data": "synthetic:", "size_hw": (128, 64)}, "split": SPLIT}
    path = tmp_path_factory.mktemp("export") / "tiny.pt"
    return save_net(path, lively_net(), threshold=0.3, threshold_source="by hand", epoch=7, facts=facts)


@pytest.fixture(scope="module")
def stages() -> list[str]:
    return []


@pytest.fixture(scope="module")
def exported(checkpoint: Path, stages: list[str]) -> Bundle:
    """The whole road, onnxsim included."""
    path = checkpoint.with_name("tiny.bundle")
    return export_checkpoint(checkpoint, path, pictures=PICTURES, progress=stages.append)


def test_the_bundle_says_what_it_is_and_where_it_comes_from(exported: Bundle, checkpoint: Path) -> None:
    assert read_bundle(exported.path) == exported
    meta = exported.meta
    assert (meta.input.size_hw, meta.input.channels, meta.input.colour) == (SIZE_HW, 1, "grey")
    assert meta.outputs.heatmap_hw == (16, 8)
    assert (meta.threshold.value, meta.threshold.source) == (0.3, "by hand")
    assert meta.training["checkpoint_sha256"] == sha256_of(checkpoint)
    assert meta.training["epoch"] == 7
    assert meta.training["settings"] == {"data": "synthetic:", "size_hw": [128, 64]}
    assert "split" not in meta.training
    assert exported.split() == SPLIT
    assert {"torch", "onnx", "onnxruntime", "numpy"} <= set(meta.versions)
    assert [step.step for step in meta.lineage] == ["export"]
    assert meta.lineage[0].sha256 == meta.model.sha256 == sha256_of(exported.model_path)


def test_the_parity_on_record_is_real(exported: Bundle, checkpoint: Path) -> None:
    parity = exported.meta.parity
    assert parity is not None
    assert parity.pictures == 3
    assert 0 < parity.max_abs_heatmap <= 1e-4
    pixels = np.stack([prepare(picture, SIZE_HW, 1) for picture in PICTURES])
    wanted = open_checkpoint(checkpoint).infer(pixels)
    found = open_backend(exported, "onnxruntime").infer(pixels)
    np.testing.assert_allclose(found.score, wanted.score, atol=1e-4, rtol=0)
    np.testing.assert_allclose(found.heatmap, wanted.heatmap, atol=1e-4, rtol=0)


def test_the_graph_is_one_that_tensorrt_takes(exported: Bundle, stages: list[str]) -> None:
    model = onnx.load(exported.model_path)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 17)]
    pixels, (score, heatmap) = model.graph.input[0], model.graph.output
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert _shape(pixels) == ["batch", 128, 64, 1]
    assert (_shape(score), _shape(heatmap)) == (["batch"], ["batch", 16, 8])
    kinds = Counter(node.op_type for node in model.graph.node)
    assert not kinds.keys() & {"Shape", "Gather", "ReduceProd", "If", "Loop", "Identity", "Reshape"}
    assert kinds["Conv"] == 13
    assert exported.meta.model.simplified
    assert exported.meta.model.note == ""
    assert any("simplifying" in stage for stage in stages)


def test_the_deviation_is_unbiased(exported: Bundle) -> None:
    """n and n − 1 of each FeatureNorm's map are in the graph, as FP32 numbers."""
    model = onnx.load(exported.model_path)
    values = [onnx.numpy_helper.to_array(one) for one in model.graph.initializer]
    values += [
        onnx.numpy_helper.to_array(node.attribute[0].t) for node in model.graph.node if node.op_type == "Constant"
    ]
    scalars = {float(value.item()) for value in values if value.size == 1 and value.dtype == np.float32}
    pixels = {128 * 64 // 4**level for level in range(4)} | {8 * 4, 4 * 2}  # 2 − 1 divides nothing
    assert {float(count - 1) for count in pixels} <= scalars


def test_flat_pictures_prove_nothing_and_are_left_out(checkpoint: Path, tmp_path: Path) -> None:
    flat = [np.full(SIZE_HW, level, np.uint8) for level in (0, 255)]
    bundle = export_checkpoint(checkpoint, tmp_path / "b.bundle", pictures=[*flat, PICTURES[0]], simplify=False)
    assert bundle.meta.parity is not None
    assert (bundle.meta.parity.pictures, set(bundle.meta.parity.backends)) == (1, {"onnxruntime", "openvino"})
    with pytest.raises(ExportError, match="2 pictures to check the export on, none of them with contrast"):
        export_checkpoint(checkpoint, tmp_path / "c.bundle", pictures=flat)


def test_the_faintest_picture_a_station_judges_keeps_parity(checkpoint: Path, tmp_path: Path) -> None:
    faint = np.round(128 + np.random.default_rng(0).normal(0, 0.6, SIZE_HW)).astype(np.uint8)
    bundle = export_checkpoint(checkpoint, tmp_path / "b.bundle", pictures=[faint], simplify=False)
    assert bundle.meta.parity is not None
    assert bundle.meta.parity.pictures == 1


@pytest.mark.parametrize(("channels", "norm"), [(3, "feature"), (1, "batch")])
def test_other_networks_export_too(tmp_path: Path, channels: int, norm: str) -> None:
    path = save_net(tmp_path / "net.pt", lively_net(channels, 0.1, norm))  # type: ignore[arg-type]
    bundle = export_checkpoint(path, tmp_path / "b.bundle", pictures=[textures(1, 3)[0]], simplify=False)
    assert bundle.meta.input.colour == ("bgr" if channels == 3 else "grey")
    assert open_backend(bundle, "onnxruntime").infer(textures(2, channels)).score.shape == (2,)


def test_a_size_can_be_given_where_a_checkpoint_names_none_and_only_there(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="was trained at 128x64, got --size 64x136"):
        export_checkpoint(checkpoint, tmp_path / "b.bundle", size_hw=(64, 136), pictures=PICTURES)
    unsized = save_net(tmp_path / "unsized.pt", lively_net(width=0.1), size_hw=None)
    bundle = export_checkpoint(unsized, tmp_path / "b.bundle", size_hw=(64, 136), pictures=PICTURES, simplify=False)
    assert bundle.spec.size_hw == (64, 136)
    assert bundle.spec.heatmap_hw == (8, 17)


def test_a_crash_of_onnxsim_keeps_the_plain_graph(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(export, "simplified", lambda model: simplified(model, script))
    said: list[str] = []
    bundle = export_checkpoint(checkpoint, tmp_path / "b.bundle", pictures=PICTURES, progress=said.append)
    assert not bundle.meta.model.simplified
    assert bundle.meta.model.note == "onnxsim failed: it crashed with SIGSEGV"
    assert any("unsimplified" in line and "SIGSEGV" in line for line in said)


def test_an_unfaithful_or_invalid_simplified_graph_is_not_taken(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for harm, reason in ((_other_bias, "differs from torch"), (_unknown_operator, "not valid")):
        monkeypatch.setattr(export, "simplified", harm)
        bundle = export_checkpoint(checkpoint, tmp_path / "b.bundle", pictures=PICTURES)
        assert not bundle.meta.model.simplified
        assert reason in bundle.meta.model.note


def test_too_large_a_difference_writes_nothing_and_keeps_the_old_bundle(exported: Bundle, checkpoint: Path) -> None:
    before = (exported.path / "meta.json").read_bytes()
    with pytest.raises(ExportError, match=r"differs from torch by .* wanted at most 1e-12; nothing was written"):
        export_checkpoint(checkpoint, exported.path, pictures=PICTURES, simplify=False, max_difference=1e-12)
    assert (exported.path / "meta.json").read_bytes() == before
    assert sorted(entry.name for entry in exported.path.parent.iterdir()) == ["tiny.bundle", "tiny.pt"]


def test_a_network_of_nan_is_refused(tmp_path: Path) -> None:
    net = lively_net(width=0.1)
    with torch.no_grad():
        net.fc.weight.fill_(float("nan"))
    path = save_net(tmp_path / "nan.pt", net)
    with pytest.raises(ExportError, match="differs from torch by nan"):
        export_checkpoint(path, tmp_path / "b.bundle", pictures=PICTURES, simplify=False)
    assert not (tmp_path / "b.bundle").exists()


def test_what_cannot_be_exported_is_said_before_any_work(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="0 pictures to check"):
        export_checkpoint(checkpoint, tmp_path / "b.bundle", pictures=[])
    with pytest.raises(SizeError, match="Nearest legal size: 128x64"):
        export_checkpoint(checkpoint, tmp_path / "b.bundle", size_hw=(130, 64), pictures=PICTURES)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        export_checkpoint(tmp_path / "none.pt", tmp_path / "b.bundle", pictures=PICTURES)
    unsized = save_net(tmp_path / "unsized.pt", lively_net(width=0.1), size_hw=None)
    with pytest.raises(ExportError, match=r"does not say its input size.*--size"):
        export_checkpoint(unsized, tmp_path / "b.bundle", pictures=PICTURES)
    said: list[str] = []
    with pytest.raises(BundleError, match="is a file"):
        export_checkpoint(checkpoint, unsized, pictures=PICTURES, progress=said.append)
    assert said == []


def test_a_checkpoint_that_was_never_calibrated_says_so(tmp_path: Path) -> None:
    path = save_net(tmp_path / "net.pt", lively_net(width=0.1))
    bundle = export_checkpoint(path, tmp_path / "b.bundle", pictures=PICTURES[:1], simplify=False)
    assert (bundle.meta.threshold.value, bundle.meta.threshold.source) == (0.5, "never calibrated")
    assert (bundle.meta.model.simplified, bundle.meta.model.note) == (False, "not asked for")


def test_onnxsim_reports_why_it_failed() -> None:
    with pytest.raises(NotSimplified, match="onnxsim failed"):
        simplified(b"no graph")


@pytest.mark.data
def test_parity_holds_on_real_parts(checkpoint: Path, tmp_path: Path, kolektor_root: Path) -> None:
    pictures = [read_picture(kolektor_root / "kos01" / f"Part{number}.jpg") for number in range(3)]
    bundle = export_checkpoint(checkpoint, tmp_path / "b.bundle", pictures=pictures, simplify=False)
    assert bundle.meta.parity is not None
    assert bundle.meta.parity.max_abs_score <= 1e-5


@pytest.mark.trt
def test_tensorrt_rtx_builds_an_engine(exported: Bundle) -> None:
    """Its builder needs no GPU. In a process of its own: the library must not meet torch's."""
    if find_spec("tensorrt_rtx") is None:
        pytest.skip("no tensorrt_rtx here: pip install 'segdec-edge[tensorrt-rtx]'")
    code = """
import sys, tensorrt_rtx as trt
logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
network = builder.create_network(0)
parser = trt.OnnxParser(network, logger)
assert parser.parse(open(sys.argv[1], "rb").read()), [str(parser.get_error(i)) for i in range(parser.num_errors)]
config = builder.create_builder_config()
config.num_compute_capabilities = 1
config.set_compute_capability(trt.ComputeCapability.SM86, 0)
profile = builder.create_optimization_profile()
one, four = ((count, *tuple(network.get_input(0).shape)[1:]) for count in (1, 4))
profile.set_shape("pixels", one, one, four)
config.add_optimization_profile(profile)
print(builder.build_serialized_network(network, config).nbytes)
"""
    command = [sys.executable, "-c", code, str(exported.model_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 1_000_000


def test_meta_is_plain_json(exported: Bundle) -> None:
    values = json.loads((exported.path / "meta.json").read_text())
    assert values["format"] == 1
    assert values["created"].endswith("Z")


def _shape(value: onnx.ValueInfoProto) -> list[object]:
    return [one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim]


def _other_bias(content: bytes) -> bytes:
    model = onnx.load_from_string(content)
    bias = next(one for one in model.graph.initializer if one.name.endswith("fc.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.1), bias.name))
    return model.SerializeToString()


def _unknown_operator(content: bytes) -> bytes:
    model = onnx.load_from_string(content)
    model.graph.node[-1].op_type = "Sigmoidish"
    return model.SerializeToString()
