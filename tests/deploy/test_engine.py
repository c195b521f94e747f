"""Engines built for real by tensorrt_rtx, which needs no GPU for it; other versions are tried on their names alone."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from segdec_edge.bundle import Bundle, model_facts, read_bundle, write_bundle
from segdec_edge.deploy import engine
from segdec_edge.deploy.builder import Wish, build_plan
from segdec_edge.deploy.calibrator import Calibration
from segdec_edge.deploy.engine import build_engine, plan_name
from segdec_edge.deploy.export import _trace, export_checkpoint
from segdec_edge.deploy.memory import check_memory, free_swap, needed_bytes
from segdec_edge.errors import BackendError, BundleError, EngineError
from segdec_edge.files import sha256_of
from segdec_edge.model.backend import spec_of
from segdec_edge.runtime.gpu import Gpu, current_gpu
from segdec_edge.runtime.sidecar import Here, Plan, check_plan, find_plan, read_plan
from segdec_edge.runtime.tensorrt_api import TensorRt, find_tensorrt
from segdec_edge.types import Pixels
from tests.nets import SIZE_HW, lively_net, save_net, textures
from tests.surfaces import called, recorded

ORIN = Gpu("Orin", (8, 7), 8, integrated=True)
A4000 = Gpu("NVIDIA RTX A4000", (8, 6), 48)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return _exported(tmp_path_factory.mktemp("engine"), 0.25, SIZE_HW)


@pytest.fixture
def rtx() -> TensorRt:
    if find_spec("tensorrt_rtx") is None:
        pytest.skip("no tensorrt_rtx: pip install tensorrt-rtx-cu13")
    return find_tensorrt("tensorrt_rtx")


@pytest.fixture
def onboard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As if this were a Jetson: its GPU, and a cache folder of its own."""
    monkeypatch.setattr(engine, "current_gpu", lambda: ORIN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.trt
@pytest.mark.parametrize("size_hw", [(128, 64), (64, 128), (160, 160)])
def test_the_whole_network_is_built_at_every_size(rtx: TensorRt, tmp_path: Path, size_hw: tuple[int, int]) -> None:
    """FeatureNorm, uint8 input and dynamic batch included."""
    bundle = _exported(tmp_path, 0.25, size_hw)
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
    bundle = _with_model(tmp_path / "half.bundle", small, _plain_graph(np.float16), "fp16")
    plan = build_engine(bundle, target=target, tensorrt=rtx)
    assert plan.path.name == f"rtx-{target}-fp16.plan"
    assert plan.facts.compute_capability == capability


@pytest.mark.trt
def test_an_fp16_graph_is_built_as_it_is(rtx: TensorRt, tmp_path: Path, small: Bundle) -> None:
    bundle = _with_model(tmp_path / "half.bundle", small, _plain_graph(np.float16), "fp16")
    plan = build_engine(bundle, target="sm86", tensorrt=rtx)
    assert (plan.path.name, plan.facts.precision) == ("rtx-sm86-fp16.plan", "fp16")


@pytest.mark.trt
def test_a_qdq_graph_is_built_as_it_is(rtx: TensorRt, tmp_path: Path, small: Bundle) -> None:
    """What onnxruntime's quantiser makes of the whole network."""
    bundle = _with_model(tmp_path / "int8.bundle", small, _quantized(small, tmp_path), "int8")
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
    bundle = _with_model(tmp_path / "wrong.bundle", small, _plain_graph(np.float32, operator), "fp32")
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

    class Interrupted(Watching):
        def step(self, phase: str, done: int) -> bool:
            raise KeyboardInterrupt

    watching = Watching()
    onnx_bytes = small.model_path.read_bytes()
    build_plan(rtx, onnx_bytes, Wish(target="sm86"), monitor=watching)
    assert "Building engine" in watching.seen[0]
    assert watching.steps > 10
    with pytest.raises(KeyboardInterrupt):
        build_plan(rtx, onnx_bytes, Wish(target="sm86"), monitor=Interrupted())


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
    bundle = _with_model(tmp_path / "checked.bundle", small, _plain_graph(np.float32), "fp32")
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
    bundle = _with_model(tmp_path / "parts.bundle", small, b"graph", own)
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
    bundle = _with_model(tmp_path / "parts.bundle", small, b"graph", own)
    tensorrt = recorded(version)
    plan = build_engine(bundle, precision=asked, dla=dla, tensorrt=tensorrt)
    assert [flag.name for (flag,) in called(tensorrt, "IBuilderConfig.set_flag")] == built
    wanted = own if own == "mixed" else asked or own
    assert plan.path.name == plan_name("tensorrt", "sm87", wanted, dla)
    assert (plan.facts.gpu, plan.facts.multiprocessors) == ("Orin", 8)
    assert find_plan(bundle, Here("tensorrt", tensorrt.version, ORIN), dla) == plan


@pytest.mark.usefixtures("onboard")
def test_what_tensorrt_learned_of_kernels_is_kept_for_the_next_build(small: Bundle, tmp_path: Path) -> None:
    bundle = _with_model(tmp_path / "parts.bundle", small, b"graph", "fp32")
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
    bundle = _with_model(tmp_path / "parts.bundle", small, b"graph", "fp32")
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

    bundle = _with_model(tmp_path / "parts.bundle", small, b"graph", "fp32")
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


@pytest.mark.trt
def test_the_sidecar_is_json_that_people_can_read(rtx: TensorRt, tmp_path: Path, small: Bundle) -> None:
    bundle = _with_model(tmp_path / "read.bundle", small, _plain_graph(np.float32), "fp32")
    plan = build_engine(bundle, target="sm86", tensorrt=rtx)
    values: dict[str, Any] = json.loads(plan.path.with_suffix(".json").read_text())
    assert values["runtime_version"].startswith("1.")
    assert (values["precision"], values["target"], values["checked"]) == ("fp32", "sm86", "not run here")


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


def _exported(folder: Path, width: float, size_hw: tuple[int, int]) -> Bundle:
    checkpoint = save_net(folder / "net.pt", lively_net(width=width), size_hw=size_hw)
    pictures = list(textures(1, size_hw=size_hw)[..., 0])
    return export_checkpoint(checkpoint, folder / "parts.bundle", pictures=pictures, simplify=False)


def _with_model(path: Path, like: Bundle, content: bytes, precision: str) -> Bundle:
    """A bundle of the same facts with another graph."""
    facts = model_facts(content, opset=17, precision=precision, simplified=False)
    return write_bundle(path, onnx_bytes=content, meta=like.meta.model_copy(update={"model": facts}))


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
