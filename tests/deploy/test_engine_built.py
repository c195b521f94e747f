"""Engines built for real by tensorrt_rtx, which needs no GPU for it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from segdec_edge.bundle import Bundle, read_bundle
from segdec_edge.deploy.builder import Wish, build_plan
from segdec_edge.deploy.engine import build_engine
from segdec_edge.deploy.export import _trace
from segdec_edge.errors import BackendError, EngineError
from segdec_edge.files import sha256_of
from segdec_edge.model.backend import spec_of
from segdec_edge.runtime.gpu import current_gpu
from segdec_edge.runtime.sidecar import Here, Plan, check_plan, find_plan, read_plan
from segdec_edge.runtime.tensorrt_api import TensorRt
from segdec_edge.types import Pixels
from tests.deploy.made_engines import A4000, exported, with_model
from tests.nets import SIZE_HW, lively_net, textures


@pytest.mark.trt
@pytest.mark.parametrize("size_hw", [(128, 64), (64, 128), (160, 160)])
def test_the_whole_network_is_built_at_every_size(rtx: TensorRt, tmp_path: Path, size_hw: tuple[int, int]) -> None:
    """FeatureNorm, uint8 input and dynamic batch included."""
    bundle = exported(tmp_path, 0.25, size_hw)
    plan = build_engine(bundle, target="sm86", batches=(1, 4, 8), tensorrt=rtx)
    assert plan.path == bundle.path / "engines" / "rtx-sm86-fp32.plan"
    assert plan.facts.plan_bytes == plan.path.stat().st_size > bundle.meta.model.size_bytes / 2
    assert plan.facts.plan_sha256 == sha256_of(plan.path)
    assert (plan.facts.onnx_sha256, plan.facts.batches) == (bundle.meta.model.sha256, (1, 4, 8))
    assert (plan.facts.gpu, plan.facts.compute_capability) == (None, (8, 6))
    assert plan.facts.checked == "not run here"
    assert read_bundle(bundle.path) == bundle
    check_plan(find_plan(bundle, Here(rtx.name, rtx.version, A4000)), bundle, Here(rtx.name, rtx.version, A4000))


@pytest.mark.trt
def test_the_network_is_built_at_its_published_width(rtx: TensorRt) -> None:
    """In memory: as a bundle it would be 300 MB of writing."""
    net = lively_net(width=1.0)
    graph = _trace(net, spec_of(net, SIZE_HW, threshold=0.5, sha256="0" * 64))
    built = build_plan(rtx, graph, Wish(target="sm86"))
    assert built.plan.nbytes > 4 * 15e6  # 15.7 million weights in FP32


@pytest.mark.trt
@pytest.mark.parametrize(("target", "capability"), [("sm75", (7, 5)), ("sm120", (12, 0))])
def test_the_oldest_and_the_newest_gpu(
    rtx: TensorRt, tmp_path: Path, small: Bundle, target: str, capability: tuple[int, int]
) -> None:
    bundle = with_model(tmp_path / "half.bundle", small, _plain_graph(np.float16), "fp16")
    plan = build_engine(bundle, target=target, tensorrt=rtx)
    assert plan.path.name == f"rtx-{target}-fp16.plan"
    assert plan.facts.compute_capability == capability


@pytest.mark.trt
def test_an_fp16_graph_is_built_as_it_is(rtx: TensorRt, tmp_path: Path, small: Bundle) -> None:
    bundle = with_model(tmp_path / "half.bundle", small, _plain_graph(np.float16), "fp16")
    plan = build_engine(bundle, target="sm86", tensorrt=rtx)
    assert (plan.path.name, plan.facts.precision) == ("rtx-sm86-fp16.plan", "fp16")


@pytest.mark.trt
def test_a_qdq_graph_is_built_as_it_is(rtx: TensorRt, tmp_path: Path, small: Bundle) -> None:
    """What onnxruntime's quantiser makes of the whole network."""
    bundle = with_model(tmp_path / "int8.bundle", small, _quantized(small, tmp_path), "int8")
    plan = build_engine(bundle, target="sm86", tensorrt=rtx)
    assert (plan.path.name, plan.facts.precision) == ("rtx-sm86-int8.plan", "int8")
    whole = build_engine(small, target="sm86", tensorrt=rtx)
    assert plan.facts.plan_bytes < whole.facts.plan_bytes


@pytest.mark.trt
@pytest.mark.parametrize(
    ("operator", "words"),
    [("Det", r"node bad_node \(Det\): TensorRT does not support it"), ("Add", r"node bad_node \(Add\)")],
)
def test_a_wrong_graph_is_refused_and_its_node_named(
    rtx: TensorRt, tmp_path: Path, small: Bundle, operator: str, words: str
) -> None:
    """An operator that there is not, and types that do not go together in a strongly typed network."""
    bundle = with_model(tmp_path / "wrong.bundle", small, _plain_graph(np.float32, operator), "fp32")
    with pytest.raises(EngineError, match=words) as refused:
        build_engine(bundle, target="sm86", tensorrt=rtx)
    assert "\n" not in str(refused.value)
    assert not (bundle.path / "engines").exists()


@pytest.mark.trt
def test_phases_and_steps_are_told_and_can_cancel(rtx: TensorRt, small: Bundle) -> None:
    class Watching:
        cancelled = False

        def __init__(self) -> None:
            self.seen: list[str] = []
            self.steps = 0

        def start(self, phase: str, parent: str | None, steps: int) -> None:
            self.seen.append(phase)

        def step(self, phase: str, done: int) -> bool:
            self.steps += 1
            return True

        def finish(self, phase: str) -> None:
            pass

    class AtAStep(Watching):
        def step(self, phase: str, done: int) -> bool:
            raise KeyboardInterrupt

    class AtAStart(Watching):
        def start(self, phase: str, parent: str | None, steps: int) -> None:
            raise KeyboardInterrupt

    class AtAnEnd(Watching):
        def finish(self, phase: str) -> None:
            raise KeyboardInterrupt

    watching = Watching()
    onnx_bytes = small.model_path.read_bytes()
    build_plan(rtx, onnx_bytes, Wish(target="sm86"), monitor=watching)
    assert "Building engine" in watching.seen[0]
    assert watching.steps > 10
    for interrupted in (AtAStep(), AtAStart(), AtAnEnd()):
        with pytest.raises(KeyboardInterrupt):
            build_plan(rtx, onnx_bytes, Wish(target="sm86"), monitor=interrupted)


@pytest.mark.trt
def test_what_this_machine_cannot_build_for_is_told(rtx: TensorRt, small: Bundle) -> None:
    with pytest.raises(BackendError, match=r"target sm87: TensorRT-RTX .* builds for sm75, .*Choose one"):
        build_engine(small, target="sm87", tensorrt=rtx)
    with pytest.raises(EngineError, match=r"DLA core 0: TensorRT-RTX .* sees 0 of them"):
        build_engine(small, target="sm86", dla=0, tensorrt=rtx)
    if current_gpu() is None:
        with pytest.raises(EngineError, match=r"no NVIDIA GPU or driver here, .* --target sm75"):
            build_engine(small, tensorrt=rtx)


@pytest.mark.trt
def test_a_plan_that_its_check_refuses_leaves_the_old_one(rtx: TensorRt, tmp_path: Path, small: Bundle) -> None:
    bundle = with_model(tmp_path / "checked.bundle", small, _plain_graph(np.float32), "fp32")
    seen: list[Plan] = []

    def check(plan: Plan) -> str:
        check_plan(read_plan(plan.path, bundle), bundle, Here(rtx.name, rtx.version, A4000))
        seen.append(plan)
        if len(seen) > 1:
            raise EngineError("AP fell")
        return "AP 0.99"

    first = build_engine(bundle, target="sm86", tensorrt=rtx, check=check)
    assert read_plan(first.path, bundle).facts.checked == "AP 0.99"
    content = first.path.read_bytes()
    with pytest.raises(EngineError, match="AP fell"):
        build_engine(bundle, target="sm86", tensorrt=rtx, check=check)
    assert first.path.read_bytes() == content
    assert sorted(path.name for path in first.path.parent.iterdir()) == ["rtx-sm86-fp32.json", "rtx-sm86-fp32.plan"]


@pytest.mark.trt
def test_the_sidecar_is_json_that_people_can_read(rtx: TensorRt, tmp_path: Path, small: Bundle) -> None:
    bundle = with_model(tmp_path / "read.bundle", small, _plain_graph(np.float32), "fp32")
    plan = build_engine(bundle, target="sm86", tensorrt=rtx)
    values: dict[str, Any] = json.loads(plan.path.with_suffix(".json").read_text())
    assert values["runtime_version"].startswith("1.")
    assert (values["precision"], values["target"], values["checked"]) == ("fp32", "sm86", "not run here")


def _plain_graph(dtype: type, bad: str = "") -> bytes:
    """uint8 in, cast, layout, convolution, relu, score and heat map out, all in one type. bad: an operator to break it.

    Det is unknown to TensorRT; Add gets operands of two types.
    """
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    height, width = SIZE_HW
    weights = np.random.default_rng(0).normal(size=(8, 1, 3, 3)).astype(dtype)
    head = np.random.default_rng(1).normal(size=(1, 8, 1, 1)).astype(dtype)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["cast"], to=kind),
        helper.make_node("Transpose", ["cast"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "weights"], ["conv"], pads=[1, 1, 1, 1], strides=[8, 8]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Conv", ["relu", "head"], ["logits"]),
        helper.make_node("GlobalAveragePool", ["logits"], ["mean"]),
        helper.make_node("Squeeze", ["mean", "axes3"], ["squeezed"]),
        helper.make_node("Squeeze", ["logits", "axes1"], ["map"]),
        helper.make_node("Cast", ["squeezed"], ["score"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["map"], ["heatmap"], to=TensorProto.FLOAT),
    ]
    if bad == "Det":
        nodes[5] = helper.make_node("Det", ["logits"], ["mean"], name="bad_node")
    if bad == "Add":
        nodes[3] = helper.make_node("Add", ["conv", "other_type"], ["relu"], name="bad_node")
    constants = {
        "weights": weights, "head": head, "axes1": np.array([1]), "axes3": np.array([1, 2, 3]),
        "other_type": np.ones((1,), np.float16),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", height, width, 1])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["batch", height // 8, width // 8]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if not bad:
        onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _quantized(bundle: Bundle, folder: Path) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(textures(2))

        def get_next(self) -> dict[str, Pixels] | None:
            pixels = next(self._left, None)
            return None if pixels is None else {"pixels": pixels[None]}

    out = folder / "quantized.onnx"
    quantize_static(
        str(bundle.model_path), str(out), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv"],
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )  # fmt: skip
    return out.read_bytes()
