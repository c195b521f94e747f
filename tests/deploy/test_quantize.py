"""INT8 and FP16 graphs: what stands where, that real runtimes agree on them, and that TensorRT takes them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from segdec_edge.bundle import Bundle, model_facts, write_bundle
from segdec_edge.deploy.calibration import CalibrationSet, read_manifest, write_manifest
from segdec_edge.deploy.half import LARGEST, half_layers, to_half
from segdec_edge.deploy.qdq import only
from segdec_edge.deploy.quantize import (
    Int8,
    Int8Graphs,
    cache_path,
    half_candidate,
    int8_candidate,
    int8_graphs,
)
from segdec_edge.deploy.ranges import observe
from segdec_edge.errors import CalibrationError, QuantizeError
from segdec_edge.pictures import prepare, read_picture
from segdec_edge.runtime import backend_classes
from segdec_edge.types import ModelSpec, Pixels, Prediction
from tests.deploy.made_bundles import SPEC, made_bundle
from tests.nets import lively_net, textures

NORMS = ("feature", "batch")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("quantize")
    return {norm: made_bundle(folder, norm) for norm in NORMS}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def calibration(bundles: dict[str, Bundle]) -> CalibrationSet:
    path = bundles["batch"].path.with_name("parts.toml")
    write_manifest(path, bundles["batch"], SPEC, count=16)
    return read_manifest(path, bundles["batch"])


@pytest.fixture(scope="module")
def graphs(bundles: dict[str, Bundle], calibration: CalibrationSet) -> dict[str, Int8Graphs]:
    return {norm: int8_graphs(bundles[norm], calibration, Int8()) for norm in NORMS}


def infer(content: bytes, spec: ModelSpec, pixels: Pixels, folder: Path) -> dict[str, Prediction]:
    """The prediction of every backend that is here."""
    path = folder / "model.onnx"
    path.write_bytes(content)
    found = {}
    for name, backend_class in backend_classes().items():
        backend = backend_class(path, spec)
        found[name] = backend.infer(pixels)
        backend.close()
    return found


def kinds_of(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor between input and outputs, by the graph's own rules."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {one.name: one.type.tensor_type.elem_type for one in (*inferred.value_info, *inferred.output)}


@pytest.mark.parametrize("norm", NORMS)
def test_q_and_dq_stand_on_the_inputs_of_convolutions_alone(graphs: dict[str, Int8Graphs], norm: str) -> None:
    model = graphs[norm].quantised
    onnx.checker.check_model(model, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 17)]
    makers = {name: node for node in model.graph.node for name in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == len(graphs[norm].layers) == 13
    for node in convolutions:
        assert [makers[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":  # never on a convolution's own output: ReLU has to fuse with it
            assert makers[node.input[0]].op_type in {"Transpose", "Relu", "MaxPool"}


@pytest.mark.parametrize("norm", NORMS)
def test_zero_points_are_zero_and_weights_have_a_scale_a_channel(graphs: dict[str, Int8Graphs], norm: str) -> None:
    model = graphs[norm].quantised
    values = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    weights = 0
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert values[node.input[2]].dtype == np.int8
            assert not values[node.input[2]].any()
            if node.input[0] in values:
                weights += 1
                assert values[node.input[0]].dtype == np.int8
                assert values[node.input[1]].shape == values[node.input[0]].shape[:1]
    assert weights == 13
    assert all(values[node.input[2]].dtype == np.float32 for node in model.graph.node if node.op_type == "Conv")


@pytest.mark.parametrize("norm", NORMS)
def test_all_backends_agree_on_int8_and_stay_near_fp32(
    bundles: dict[str, Bundle], graphs: dict[str, Int8Graphs], norm: str, tmp_path: Path
) -> None:
    """OpenVINO scales INT8 convolutions without bias twice: without the bias they get, norm feature fails here."""
    spec, pixels = bundles[norm].spec, textures(4, seed=5)
    wanted = infer(bundles[norm].model_path.read_bytes(), spec, pixels, tmp_path)["onnxruntime"]
    for name, found in infer(graphs[norm].variant(graphs[norm].layers), spec, pixels, tmp_path).items():
        assert np.abs(found.heatmap - wanted.heatmap).mean() < 0.03, name
        assert np.abs(found.score - wanted.score).max() < 0.08, name
        assert np.abs(found.heatmap - wanted.heatmap).max() > 1e-4, name  # it is INT8


def test_pooling_works_on_int8_and_changes_no_score(bundles: dict[str, Bundle], graphs: dict[str, Int8Graphs]) -> None:
    made, pixels = graphs["batch"], textures(3)
    with_pools_before = onnx.load_from_string(made.variant(made.layers, "fp32"))
    onnx.checker.check_model(with_pools_before, full_check=True)
    makers = {name: node for node in with_pools_before.graph.node for name in node.output}
    feeding = [makers[node.input[0]].op_type for node in with_pools_before.graph.node if node.op_type == "MaxPool"]
    assert feeding == ["DequantizeLinear"] * 6
    for new, old in zip(exact(with_pools_before, pixels), exact(made.quantised, pixels), strict=True):
        np.testing.assert_array_equal(new, old)
    without = onnx.load_from_string(made.variant([layer for layer in made.layers if layer.name != "volume.6"], "fp32"))
    makers = {name: node for node in without.graph.node for name in node.output}
    pool = next(node for node in without.graph.node if node.op_type == "MaxPool" and "volume.5" in node.name)
    assert makers[pool.input[0]].op_type == "Relu"


def exact(model: onnx.ModelProto, pixels: Pixels) -> list[np.ndarray]:
    """What the graph gives as it is written, no kernel exchanged for a faster one."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: pixels}))


def test_leaving_layers_out_is_the_same_as_never_quantising_them(
    bundles: dict[str, Bundle], graphs: dict[str, Int8Graphs], tmp_path: Path
) -> None:
    made = graphs["feature"]
    none = only(made.quantised, made.original, [])
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in none.graph.node}
    spec, pixels = bundles["feature"].spec, textures(2)
    plain = infer(made.original.SerializeToString(), spec, pixels, tmp_path)["onnxruntime"]
    again = infer(none.SerializeToString(), spec, pixels, tmp_path)["onnxruntime"]
    np.testing.assert_allclose(again.score, plain.score, atol=1e-6, rtol=0)
    some = only(made.quantised, made.original, made.layers[2:5])
    onnx.checker.check_model(some, full_check=True)
    dequantised = {name for node in some.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    reading = [node.output[0] for node in some.graph.node if node.op_type == "Conv" and node.input[1] in dequantised]
    assert reading == [layer.output for layer in made.layers[2:5]]
    assert {one.data_type for one in some.graph.initializer} >= {TensorProto.INT8, TensorProto.FLOAT}


def test_a_mixed_graph_holds_int8_fp16_and_fp32(
    bundles: dict[str, Bundle], graphs: dict[str, Int8Graphs], calibration: CalibrationSet, tmp_path: Path
) -> None:
    candidate = int8_candidate(graphs["batch"], calibration, exclude=["volume.0", "seg_mask"])
    assert candidate.precision == "mixed"
    assert "fp16: volume.0, seg_mask" in candidate.note
    model = onnx.load_from_string(candidate.content)
    onnx.checker.check_model(model, full_check=True)
    layers = graphs["batch"].layers
    assert half_layers(model) == (layers[0].output, layers[9].output)
    spec, pixels = bundles["batch"].spec, textures(2)
    found = infer(candidate.content, spec, pixels, tmp_path)
    wanted = infer(bundles["batch"].model_path.read_bytes(), spec, pixels, tmp_path)["onnxruntime"]
    assert all(np.abs(one.score - wanted.score).max() < 0.08 for one in found.values())
    with pytest.raises(QuantizeError, match=r"no layer volume\.1 to quantise, wanted one of volume\.0, volume\.2"):
        int8_candidate(graphs["batch"], calibration, exclude=["volume.1"])
    with pytest.raises(QuantizeError, match="every layer is excluded"):
        int8_candidate(graphs["batch"], calibration, exclude=[layer.name for layer in layers])


def test_uint8_activations_let_onnxruntime_compute_in_int8(
    bundles: dict[str, Bundle], calibration: CalibrationSet, tmp_path: Path
) -> None:
    counts = {}
    for activations in ("int8", "uint8"):
        made = int8_graphs(bundles["batch"], calibration, Int8(activations=activations))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(tmp_path / f"{activations}.onnx")
        content = made.variant(made.layers)
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        counts[activations] = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    assert counts["uint8"]["QLinearConv"] >= 11
    assert counts["int8"]["QLinearConv"] == 0  # if this fails, the advice in the README is out of date


def test_ranges_are_measured_once_for_one_set_of_weights(
    bundles: dict[str, Bundle], calibration: CalibrationSet
) -> None:
    said: list[str] = []
    cache = cache_path(calibration.path, bundles["batch"])
    int8_graphs(bundles["batch"], calibration, Int8(), recalibrate=True, say=said.append)
    assert said[-1] == "calibrating: 16 of 16 pictures"
    written = cache.stat().st_mtime_ns
    for calibrator in ("minmax", "entropy", "mse"):
        int8_graphs(bundles["batch"], calibration, Int8(calibrator=calibrator), say=said.append)
    assert (len(said), cache.stat().st_mtime_ns) == (2, written)
    cache.write_text(cache.read_text().replace(calibration.sha256, "0" * 64))
    with pytest.raises(CalibrationError, match="other calibration pictures"):
        int8_graphs(bundles["batch"], calibration, Int8())
    cache.write_text(cache.read_text().replace("0" * 64, calibration.sha256).replace('"tensors": {"', '"tensors": {"z'))
    with pytest.raises(CalibrationError, match=r"holds nothing of .*--recalibrate"):
        int8_graphs(bundles["batch"], calibration, Int8())
    with pytest.raises(QuantizeError, match="no layer nowhere to quantise"):
        int8_graphs(bundles["batch"], calibration, Int8(exclude=("nowhere",)), recalibrate=True, say=said.append)
    assert len(said) == 2
    int8_graphs(bundles["batch"], calibration, Int8(), recalibrate=True)


def test_a_bundle_of_another_precision_is_refused(
    bundles: dict[str, Bundle], calibration: CalibrationSet, graphs: dict[str, Int8Graphs], tmp_path: Path
) -> None:
    content = graphs["batch"].variant(graphs["batch"].layers)
    for precision in ("int8", "fp32"):  # said by meta.json, and not said
        facts = model_facts(content, opset=17, precision=precision, simplified=False)
        meta = bundles["batch"].meta.model_copy(update={"model": facts})
        made = write_bundle(tmp_path / "q.bundle", onnx_bytes=content, meta=meta)
        with pytest.raises(QuantizeError, match=r"INT8 already|is int8 already"):
            int8_graphs(made, calibration, Int8())


@pytest.mark.parametrize("norm", NORMS)
def test_fp16_keeps_statistics_and_outputs_in_fp32(
    bundles: dict[str, Bundle], calibration: CalibrationSet, norm: str, tmp_path: Path
) -> None:
    bundle = bundles[norm]
    candidate = half_candidate(bundle, calibration)
    model = onnx.load_from_string(candidate.content)
    onnx.checker.check_model(model, full_check=True)
    assert candidate.precision == "fp16"
    assert len(half_layers(model)) == 13
    kinds = kinds_of(model)
    for node in model.graph.node:
        wanted = TensorProto.FLOAT16 if node.op_type in ("Conv", "MaxPool") else TensorProto.FLOAT
        if node.op_type in ("Conv", "MaxPool", "ReduceMean", "ReduceMax", "Sqrt", "Gemm", "Sigmoid"):
            assert kinds[node.output[0]] == wanted, node.name
    casts = Counter(tuple(node.input) for node in model.graph.node if node.op_type == "Cast")
    assert max(casts.values()) == 1
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert len(candidate.content) < 0.6 * len(bundle.model_path.read_bytes())
    wanted = infer(bundle.model_path.read_bytes(), bundle.spec, textures(3), tmp_path)["onnxruntime"]
    for name, found in infer(candidate.content, bundle.spec, textures(3), tmp_path).items():
        np.testing.assert_allclose(found.score, wanted.score, atol=5e-3, rtol=0, err_msg=name)
        np.testing.assert_allclose(found.heatmap, wanted.heatmap, atol=1e-2, rtol=0, err_msg=name)


def test_what_overflows_stays_in_fp32(bundles: dict[str, Bundle], calibration: CalibrationSet, tmp_path: Path) -> None:
    """FeatureNorm hides any factor on the weights before it, but FP16 does not reach 65 504."""
    model = onnx.load(bundles["feature"].model_path)
    weight = next(one for one in model.graph.initializer if one.name == "net.volume.3.0.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(3e5), weight.name))
    content = model.SerializeToString()
    facts = model_facts(content, opset=17, simplified=False)
    meta = bundles["feature"].meta.model_copy(update={"model": facts})
    loud = write_bundle(tmp_path / "loud.bundle", onnx_bytes=content, meta=meta)
    candidate = half_candidate(loud, calibration)
    assert candidate.note.startswith("12 of 13 convolutions FP16")
    # Judged by the graph: onnxruntime computes FP16 in FP32 on a CPU, and no runtime here would overflow.
    loud_layer = "/net/volume/volume.3/volume.3.0/Conv_output_0"
    assert loud_layer not in half_layers(onnx.load_from_string(candidate.content))
    assert loud_layer in half_layers(to_half(model))
    found = infer(candidate.content, loud.spec, textures(2), tmp_path)["onnxruntime"]
    assert np.isfinite(found.heatmap).all()


@pytest.mark.parametrize(
    ("size_hw", "channels"), [((640, 232), 3), pytest.param((1408, 512), 1, marks=pytest.mark.slow)]
)
def test_fp16_gives_no_nan_at_the_sizes_of_the_published_sets(
    size_hw: tuple[int, int], channels: int, tmp_path: Path
) -> None:
    from segdec_edge.deploy.export import _trace
    from segdec_edge.model.backend import spec_of

    net = lively_net(channels, width=0.05)
    spec = spec_of(net, size_hw, threshold=0.5, sha256="0" * 64, source_hw=None)
    plain = _trace(net, spec)
    pixels = textures(1, channels, size_hw)
    wanted = infer(plain, spec, pixels, tmp_path)["onnxruntime"]
    half = to_half(onnx.load_from_string(plain))
    for name, found in infer(half.SerializeToString(), spec, pixels, tmp_path).items():
        np.testing.assert_allclose(found.score, wanted.score, atol=5e-3, rtol=0, err_msg=name)
        np.testing.assert_allclose(found.heatmap, wanted.heatmap, atol=2e-2, rtol=0, err_msg=name)
    # CPU runtimes compute FP16 in FP32; so every value that is FP16 is measured, as it is before it is rounded.
    halves = [name for name, kind in kinds_of(half).items() if kind == TensorProto.FLOAT16]
    known = {name for node in onnx.load_from_string(plain).graph.node for name in node.output}
    seen = observe(onnx.load_from_string(plain), [name for name in halves if name in known], [pixels])
    assert len(seen) >= 26
    assert max(one.largest for one in seen.values()) < LARGEST / 100


@pytest.mark.data
def test_scores_of_real_pictures_stay_near(bundles: dict[str, Bundle], kolektor_root: Path, tmp_path: Path) -> None:
    bundle = bundles["feature"]
    pictures = [read_picture(kolektor_root / "kos01" / f"Part{number}.jpg") for number in range(4)]
    pixels = np.stack([prepare(picture, bundle.spec.size_hw, 1) for picture in pictures])
    wanted = infer(bundle.model_path.read_bytes(), bundle.spec, pixels, tmp_path)["onnxruntime"]
    half = to_half(onnx.load(bundle.model_path)).SerializeToString()
    for found in infer(half, bundle.spec, pixels, tmp_path).values():
        np.testing.assert_allclose(found.score, wanted.score, atol=5e-3, rtol=0)


TENSORRT = """
import sys, tensorrt_rtx as trt
logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
network = builder.create_network(0)
parser = trt.OnnxParser(network, logger)
if not parser.parse(open(sys.argv[1], "rb").read()):
    sys.exit("; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
config = builder.create_builder_config()
config.num_compute_capabilities = 1
config.set_compute_capability(trt.ComputeCapability.SM86, 0)
profile = builder.create_optimization_profile()
one, four = ((count, *tuple(network.get_input(0).shape)[1:]) for count in (1, 4))
profile.set_shape("pixels", one, one, four)
config.add_optimization_profile(profile)
built = builder.build_serialized_network(network, config)
if built is None:
    sys.exit("no engine")
print(built.nbytes)
"""


def build(content: bytes, folder: Path) -> subprocess.CompletedProcess[str]:
    """An engine for SM86 in a process of its own: the library must not meet torch's."""
    path = folder / "build.onnx"
    path.write_bytes(content)
    return subprocess.run([sys.executable, "-c", TENSORRT, str(path)], capture_output=True, text=True)


@pytest.mark.trt
def test_tensorrt_builds_int8_mixed_and_fp16_and_refuses_uint8(
    graphs: dict[str, Int8Graphs], bundles: dict[str, Bundle], calibration: CalibrationSet, tmp_path: Path
) -> None:
    if find_spec("tensorrt_rtx") is None:
        pytest.skip("no tensorrt_rtx here: pip install 'segdec-edge[tensorrt-rtx]'")
    for norm in NORMS:
        made = graphs[norm]
        contents = {"mixed": made.variant(made.layers[1:])}
        if norm == "batch":
            contents["int8"] = made.variant(made.layers)
            contents["fp16"] = to_half(made.original).SerializeToString()
        for word, content in contents.items():
            done = build(content, tmp_path)
            assert done.returncode == 0, (norm, word, done.stderr[-500:])
    unsigned = int8_graphs(bundles["batch"], calibration, Int8(activations="uint8"))
    refused = build(unsigned.variant(unsigned.layers), tmp_path)
    assert refused.returncode != 0
    assert "zero" in refused.stderr or "UINT8" in refused.stderr
