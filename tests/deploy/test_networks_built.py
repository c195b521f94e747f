"""Folded and compressed networks through the real TensorRT-RTX builder, which needs no GPU, in every precision."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from segdec_edge.bundle import read_bundle
from segdec_edge.deploy.builder import Wish, build_plan
from segdec_edge.deploy.compress import choose_ranks, factorised, spectra, without_dead
from segdec_edge.deploy.export import export_checkpoint
from segdec_edge.deploy.fold import folded, standardisation_of
from segdec_edge.deploy.graph_read import read_network
from segdec_edge.deploy.graph_write import to_onnx
from segdec_edge.deploy.half import half_layers, to_half
from segdec_edge.deploy.qdq import quantisable, with_qdq
from segdec_edge.errors import EngineError
from segdec_edge.runtime.tensorrt_api import TensorRt
from tests.deploy.made_networks import PIXELS
from tests.nets import SIZE_HW, lively_net, save_net

FORMS = ("folded", "compressed")
PRECISIONS = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], bytes]:
    """Each form in each precision, its pictures standardised and the segmentation's norm kept."""
    folder = tmp_path_factory.mktemp("built")
    checkpoint = save_net(folder / "tiny.pt", lively_net(), threshold=0.3)
    bundle = export_checkpoint(checkpoint, folder / "tiny.bundle", pictures=list(PIXELS[..., 0]), simplify=False)
    network = read_network(read_bundle(bundle.path).model_path.read_bytes())
    plain = folded(network, PIXELS, standardise=standardisation_of(PIXELS), keep=("seg_mask",))
    ranks = choose_ranks(spectra(plain, PIXELS, SIZE_HW), 0.3)
    assert ranks
    small = without_dead(factorised(plain, PIXELS, ranks), PIXELS)
    made = {}
    for form, one in zip(FORMS, (plain, small), strict=True):
        model = onnx.load_from_string(to_onnx(one, SIZE_HW))
        layers = quantisable(model, SIZE_HW)
        half = to_half(model)
        assert half_layers(half)
        quantised = with_qdq(model, layers, {layer.source: (-4.0, 4.0) for layer in layers})
        for precision, graph in zip(PRECISIONS, (model, half, quantised), strict=True):
            made[form, precision] = bytes(graph.SerializeToString())
    return made


@pytest.mark.trt
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_form_is_built_in_every_precision(
    rtx: TensorRt, graphs: dict[tuple[str, str], bytes], form: str, precision: str
) -> None:
    built = build_plan(rtx, graphs[form, precision], Wish(target="sm86", precision=precision))
    assert built.plan.nbytes > 10_000


@pytest.mark.trt
@pytest.mark.parametrize("target", ["sm75", "sm89", "sm120"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_compressed_network_is_built_for_other_gpus(
    rtx: TensorRt, graphs: dict[tuple[str, str], bytes], target: str, precision: str
) -> None:
    """SM75 has no FP32 matrix product in tensorrt_rtx, and the fully connected layer is FP32 in all of them."""
    built = build_plan(rtx, graphs["compressed", precision], Wish(target=target, precision=precision))
    assert built.plan.nbytes > 10_000


@pytest.mark.trt
def test_a_compressed_network_is_smaller_in_the_engine_too(rtx: TensorRt, graphs: dict[tuple[str, str], bytes]) -> None:
    sizes = [build_plan(rtx, graphs[form, "fp32"], Wish(target="sm86")).plan.nbytes for form in FORMS]
    assert sizes[1] < 0.7 * sizes[0]


@pytest.mark.trt
def test_a_graph_of_torn_channels_is_refused(
    rtx: TensorRt, graphs: dict[tuple[str, str], bytes], tmp_path: Path
) -> None:
    model = onnx.load_from_string(graphs["compressed", "fp32"])
    weight = next(one for one in model.graph.initializer if one.name == "volume.11.b.weight")
    values = onnx.numpy_helper.to_array(weight)
    weight.CopyFrom(onnx.numpy_helper.from_array(values[:, :-1].copy(), weight.name))
    with pytest.raises(EngineError, match=r"volume\.11\.b"):
        build_plan(rtx, bytes(model.SerializeToString()), Wish(target="sm86"))
