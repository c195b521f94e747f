"""segdec verify: alike is told as alike, and where something differs the layer that does is named."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from segdec_edge.bundle import Bundle, Step, model_facts, utc_now, write_bundle
from segdec_edge.deploy.apart import FP16, FP32, INT8, REBUILT, Compared
from segdec_edge.deploy.graph_read import read_network
from segdec_edge.deploy.graph_write import to_onnx
from segdec_edge.deploy.layer_outputs import ask_onnx, taps
from segdec_edge.deploy.network import Conv
from segdec_edge.deploy.quantize_run import Job as QuantizeJob
from segdec_edge.deploy.quantize_run import quantize_bundle
from segdec_edge.deploy.verify import Job, Report, verify
from segdec_edge.deploy.verify_text import in_words
from segdec_edge.errors import BundleError, DataError
from tests.deploy.made_bundles import SPEC, made_bundle
from tests.nets import SIZE_HW, lively_net, save_net, textures

LAYERS = [f"volume.{index}" for index in (0, 2, 3, 4, 6, 7, 8, 9, 11)]
LAYERS += ["seg_mask", "extractor.1", "extractor.3", "extractor.5", "fc"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """feature.bundle, with the checkpoint feature.pt beside it."""
    return made_bundle(tmp_path_factory.mktemp("verify"))


@pytest.fixture(scope="module")
def checkpoint(exported: Bundle) -> Path:
    return exported.path.with_name("feature.pt")


def variant(exported: Bundle, path: Path, content: bytes, *steps: str, precision: str = "fp32") -> Bundle:
    """The bundle with another graph, as the named steps would have left it."""
    facts = model_facts(content, opset=17, precision=precision, simplified=False)
    made = tuple(Step(step=step, sha256=facts.sha256, when=utc_now()) for step in steps)
    meta = exported.meta.model_copy(update={"model": facts, "lineage": (*exported.meta.lineage, *made), "parity": None})
    return write_bundle(path, onnx_bytes=content, meta=meta, split=exported.split())


def perturbed(exported: Bundle, layer: str, amount: float = 0.3) -> bytes:
    """The graph with noise on one layer's weights, as a damaged copy or a wrong conversion leaves it."""
    model = onnx.load(exported.model_path)
    kernel = next(
        one for one in model.graph.initializer if one.name in (f"net.{layer}.0.weight", f"net.{layer}.weight")
    )
    values = onnx.numpy_helper.to_array(kernel)
    noise = np.random.default_rng(0).normal(0, amount * values.std(), values.shape)
    kernel.CopyFrom(onnx.numpy_helper.from_array((values + noise).astype(np.float32), kernel.name))
    return bytes(model.SerializeToString())


def by_name(report: Report, words: str) -> Compared:
    return next(one for one in report.compared if words in one.name)


def test_torch_and_every_runtime_are_alike(exported: Bundle, checkpoint: Path) -> None:
    report = verify(Job(exported.path, (checkpoint,), layers=True))
    assert report.reference == "feature.pt on torch"
    assert {one.name.split(" on ")[1] for one in report.compared} == {"onnxruntime", "openvino"}
    assert len(report.pictures) == 8
    assert not report.exceeded
    assert report.remarks == ()
    for one in report.compared:
        assert one.limits == FP32
        assert one.score_max < 1e-5
        assert [layer.name for layer in one.layers] == LAYERS
        assert all(layer.relative is not None and layer.relative < 1e-4 for layer in one.layers)
        assert one.first is None


@pytest.mark.parametrize("layer", ["volume.6", "seg_mask", "fc"])
def test_the_layer_that_differs_is_named(exported: Bundle, tmp_path: Path, layer: str) -> None:
    other = variant(exported, tmp_path / "other.bundle", perturbed(exported, layer), "quantize")
    report = verify(Job(other.path, (exported.path,), pictures=3))
    assert report.exceeded
    for one in report.compared:
        assert one.exceeded
        assert one.first == layer
        before = [found.relative for found in one.layers][: LAYERS.index(layer)]
        assert all(relative < 1e-4 for relative in before if relative is not None)
    told = in_words(report)
    assert f"first layer that differs: {layer} (limit 0.001 relative)" in told
    assert "too far" in told


def test_torch_against_a_wrong_graph_names_the_layer(exported: Bundle, checkpoint: Path, tmp_path: Path) -> None:
    other = variant(exported, tmp_path / "other.bundle", perturbed(exported, "volume.3"), "quantize")
    report = verify(Job(other.path, (checkpoint, exported.path), pictures=3))
    assert [one.first for one in report.compared if "other" in one.name] == ["volume.3", "volume.3"]
    assert by_name(report, exported.path.name).exceeded == ()


def test_our_own_graphs_have_the_same_layers(exported: Bundle, tmp_path: Path) -> None:
    network = read_network(exported.model_path.read_bytes())
    old = network.conv("volume.8")
    assert isinstance(old, Conv)
    noise = np.random.default_rng(0).normal(0, 0.3 * old.weight.std(), old.weight.shape).astype(np.float32)
    wrong = network.exchanged("volume.8", replace(old, weight=old.weight + noise))
    same = variant(exported, tmp_path / "same.bundle", to_onnx(network, SIZE_HW), "quantize")
    other = variant(exported, tmp_path / "other.bundle", to_onnx(wrong, SIZE_HW), "quantize")
    alike = verify(Job(same.path, (exported.path,), pictures=3, layers=True))
    assert not alike.exceeded
    assert [layer.name for layer in alike.compared[0].layers] == LAYERS
    assert [one.first for one in verify(Job(other.path, (exported.path,), pictures=3)).compared] == ["volume.8"] * 2


def test_a_factorised_layer_is_compared_where_it_ends(exported: Bundle, tmp_path: Path) -> None:
    """volume.3 as volume.3.a and volume.3.b, at full rank: the same layer."""
    network = read_network(exported.model_path.read_bytes())
    old = network.conv("volume.3")
    channels = old.weight.shape[0]
    outer = np.eye(channels, dtype=np.float32)[:, :, None, None]
    pair = (Conv("volume.3.a", old.weight), Conv("volume.3.b", outer, np.zeros(channels, np.float32)))
    content = to_onnx(network.exchanged("volume.3", *pair), SIZE_HW)
    other = variant(exported, tmp_path / "pair.bundle", content, "compress")
    report = verify(Job(other.path, (exported.path,), pictures=3, layers=True))
    for one in report.compared:
        assert one.limits == REBUILT
        assert [layer.name for layer in one.layers] == LAYERS
        assert one.layers[2].relative is not None and one.layers[2].relative < 1e-5


def test_int8_and_fp16_differ_a_little(exported: Bundle, tmp_path: Path) -> None:
    manifest = tmp_path / "m.toml"
    for precision, limits, least in (("int8", INT8, 1e-4), ("fp16", FP16, 0.0)):
        out = tmp_path / f"{precision}.bundle"
        job = QuantizeJob(exported.path, out, precision, manifest, SPEC, max_ap_drop=100, backend="onnxruntime")  # type: ignore[arg-type]
        quantize_bundle(job, say=lambda line: None)
        report = verify(Job(out, (exported.path,), pictures=3, layers=True))
        assert not report.exceeded, in_words(report)
        for one in report.compared:
            assert one.limits == limits
            assert least < one.score_max < limits.score
            assert [layer.name for layer in one.layers] == LAYERS
            assert one.layers[0].relative is not None and 0 < one.layers[0].relative < limits.layer
        strict = verify(Job(out, (exported.path,), pictures=3, score_limit=0.0, layer_limit=0.0))
        assert strict.exceeded
        assert {one.first for one in strict.compared} == {"volume.0"}


def test_a_score_that_is_missing_is_too_far(exported: Bundle, tmp_path: Path) -> None:
    model = onnx.load(exported.model_path)
    bias = next(one for one in model.graph.initializer if one.name == "net.fc.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(1, np.nan, np.float32), bias.name))
    other = variant(exported, tmp_path / "nan.bundle", bytes(model.SerializeToString()), "quantize")
    report = verify(Job(other.path, (exported.path,)))
    for one in report.compared:
        assert "8 pictures have a score in one of the two alone" in one.exceeded[0]
        assert one.first == "fc"


def test_the_pictures_are_held_out_and_of_both_kinds(exported: Bundle) -> None:
    report = verify(Job(exported.path, pictures=6))
    split = exported.split()
    assert split is not None
    assert report.reference == "feature.bundle on onnxruntime"
    assert set(report.pictures) <= set(split["test"])
    assert len(report.pictures) == 6
    other = verify(Job(exported.path, data="synthetic:seed=9,n=4,size=128x64", pictures=9))
    assert len(other.pictures) == 4


def test_another_network_is_no_match(exported: Bundle, tmp_path: Path) -> None:
    stranger = save_net(tmp_path / "stranger.pt", lively_net(width=0.1, seed=5))
    report = verify(Job(exported.path, (stranger,), pictures=3))
    assert report.exceeded
    assert "is not in the lineage of feature.bundle" in report.remarks[0]
    assert report.compared[0].first == "volume.0"
    colour = save_net(tmp_path / "colour.pt", lively_net(in_channels=3, width=0.1))
    with pytest.raises(BundleError, match=r"colour\.pt: takes 128x64x3, the bundle 128x64x1"):
        verify(Job(exported.path, (colour,)))
    with pytest.raises(DataError, match="0 pictures, wanted at least 1"):
        verify(Job(exported.path, pictures=0))


def test_a_tap_is_behind_norm_and_relu(exported: Bundle) -> None:
    model = onnx.load(exported.model_path)
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    ends = {name: makers[tensor] for name, tensor in taps(model).items()}
    assert ends.pop("fc") == "Gemm"
    assert ends.pop("seg_mask") == "Add"
    assert set(ends.values()) == {"Relu"}
    pixels = textures(2)
    given = ask_onnx(exported.model_path.read_bytes())(pixels)
    assert given["volume.11"].shape[2:] == (16, 8)
    assert (given["volume.0"] >= 0).all()
    assert (given["seg_mask"] < 0).any()


def test_the_command_says_so_and_exits_1(exported: Bundle, checkpoint: Path, tmp_path: Path) -> None:
    other = variant(exported, tmp_path / "other.bundle", perturbed(exported, "volume.2"), "quantize")
    for path, rc, words in ((exported.path, 0, " ok"), (other.path, 1, "first layer that differs: volume.2")):
        command = [sys.executable, "-c", "from segdec_edge.cli import main; main()", "verify", str(path)]
        environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
        done = subprocess.run(
            [*command, "--against", str(checkpoint), "--pictures", "2"],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == rc, done.stderr
        assert words in done.stdout
        assert "Traceback" not in done.stderr
