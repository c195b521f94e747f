"""Networks as layers: read, written, run by torch, folded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from segdec_edge.deploy import fold, walk
from segdec_edge.deploy.export import export_checkpoint
from segdec_edge.deploy.fold import folded, standardisation_of
from segdec_edge.deploy.graph_read import read_network
from segdec_edge.deploy.graph_write import to_onnx
from segdec_edge.deploy.network import Conv, Network, Pool, Relu, Standardise, operations
from segdec_edge.deploy.torch_network import TorchNetwork, planes_of
from segdec_edge.errors import BundleError
from segdec_edge.model.backend import TorchBackend, spec_of
from segdec_edge.runtime.onnxruntime import OnnxRuntimeBackend
from segdec_edge.types import Prediction
from tests.deploy.made_networks import PIXELS, logits
from tests.nets import SIZE_HW, lively_net, save_net, textures


def scored(network: Network, path: Path) -> Prediction:
    path.write_bytes(to_onnx(network, SIZE_HW))
    return OnnxRuntimeBackend(path, spec_of(lively_net(), SIZE_HW)).infer(PIXELS)


@pytest.mark.parametrize("settings", [{}, {"in_channels": 3}, {"norm": "batch"}], ids=str)
@pytest.mark.parametrize("simplify", [True, False])
def test_an_exported_graph_is_read_whole(tmp_path: Path, settings: dict[str, object], simplify: bool) -> None:
    net = lively_net(**settings)  # type: ignore[arg-type]
    pixels = textures(3, net.in_channels)
    pictures = [one[..., 0] if net.in_channels == 1 else one for one in pixels]
    path = save_net(tmp_path / "net.pt", net, threshold=0.3)
    bundle = export_checkpoint(path, tmp_path / "net.bundle", pictures=pictures, simplify=simplify)
    read = read_network(bundle.model_path.read_bytes())
    (tmp_path / "again.onnx").write_bytes(to_onnx(read, SIZE_HW))
    again = OnnxRuntimeBackend(tmp_path / "again.onnx", bundle.spec).infer(pixels)
    wanted = TorchBackend(net, bundle.spec).infer(pixels)
    np.testing.assert_allclose(again.score, wanted.score, atol=1e-5)
    np.testing.assert_allclose(again.heatmap, wanted.heatmap, atol=1e-5)
    assert [conv.name for conv in read.convs] == [
        *(f"volume.{i}" for i in (0, 2, 3, 4, 6, 7, 8, 9, 11)), "seg_mask", "extractor.1", "extractor.3", "extractor.5",
    ]  # fmt: skip
    assert len(read.norms) == (0 if settings.get("norm") == "batch" else 13)


def test_what_is_written_is_read_again(network: Network, plain: Network) -> None:
    for one in (network, plain, replace(plain, standardise=Standardise(0.4, 0.2))):
        again = read_network(to_onnx(one, SIZE_HW))
        assert again.standardise == pytest.approx(one.standardise) if one.standardise is None else True
        if one.standardise is not None:
            assert again.standardise is not None
            assert again.standardise.mean == pytest.approx(0.4)
            assert again.standardise.deviation == pytest.approx(0.2)
        torch.testing.assert_close(logits(again), logits(one))
        assert [type(layer) for layer in again.layers()] == [type(layer) for layer in one.layers()]


def test_torch_and_onnxruntime_agree_on_a_standardised_network(plain: Network, tmp_path: Path) -> None:
    lit = replace(plain, standardise=Standardise(0.5, 0.25))
    found = scored(lit, tmp_path / "lit.onnx")
    np.testing.assert_allclose(found.score, torch.sigmoid(logits(lit)[:, 0]).numpy(), atol=1e-4)
    assert not np.allclose(found.score, scored(plain, tmp_path / "plain.onnx").score, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda graph: setattr(graph.node[_first(graph, "Conv")], "op_type", "ConvTranspose"), "ConvTranspose"),
        (lambda graph: graph.node[_first(graph, "Relu")].__setattr__("op_type", "Sigmoid"), "Sigmoid"),
        (lambda graph: graph.initializer[_constant(graph, "input.scale")].CopyFrom(_half(graph)), "input.scaled"),
    ],
)
def test_a_foreign_graph_is_refused_with_the_node_named(plain: Network, change: object, named: str) -> None:
    model = onnx.load_from_string(to_onnx(plain, SIZE_HW))
    change(model.graph)  # type: ignore[operator]
    with pytest.raises(BundleError, match=named):
        read_network(model.SerializeToString())


def _first(graph: onnx.GraphProto, op: str) -> int:
    return next(index for index, node in enumerate(graph.node) if node.op_type == op)


def _constant(graph: onnx.GraphProto, name: str) -> int:
    return next(index for index, one in enumerate(graph.initializer) if one.name == name)


def _half(graph: onnx.GraphProto) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.asarray(0.5, np.float32), "input.scale")


def test_operations_of_the_published_network() -> None:
    counts = operations(_published(), (512, 512))
    assert sum(counts.values()) == pytest.approx(168e9, rel=0.01)
    assert counts["volume.11"] / sum(counts.values()) == pytest.approx(0.72, abs=0.01)


def _published() -> Network:
    """Shapes of the published network; the values do not count."""

    def conv(name: str, outputs: int, inputs: int, side: int) -> Conv:
        return Conv(name, np.zeros((outputs, inputs, side, side), np.float32))

    wide = [conv(f"volume.{i}", 64, 64, 5) for i in (3, 4)]
    deeper = [conv(f"volume.{i}", 64, 64, 5) for i in (6, 7, 8, 9)]
    trunk = (conv("volume.0", 32, 1, 5), Pool(), conv("volume.2", 64, 32, 5), *wide, Pool(), *deeper, Pool())
    decision = (Pool(), conv("a", 8, 1025, 5), Pool(), conv("b", 16, 8, 5), Pool(), conv("c", 32, 16, 5))
    return Network(
        channels=1,
        trunk=(*trunk, conv("volume.11", 1024, 64, 15)),
        segmentation=(conv("seg_mask", 1, 1024, 1),),
        decision=decision,
        fc_weight=np.zeros((1, 66), np.float32),
        fc_bias=np.zeros(1, np.float32),
    )


@pytest.mark.parametrize("recalibrate", [True, False])
def test_folded_on_one_picture_that_picture_scores_as_before(network: Network, recalibrate: bool) -> None:
    one = PIXELS[:1]
    plain = folded(network, one, recalibrate=recalibrate)
    assert not plain.norms
    torch.testing.assert_close(logits(plain)[0], logits(network)[0], atol=2e-3, rtol=2e-3)
    assert (logits(plain)[1:] - logits(network)[1:]).abs().max() > 0.05  # the others are not what it was measured on


def test_least_squares_come_nearer_than_mean_statistics(network: Network) -> None:
    errors = [
        (logits(folded(network, PIXELS, recalibrate=recalibrate)) - logits(network)).square().mean()
        for recalibrate in (True, False)
    ]
    assert errors[0] < errors[1]


def test_a_norm_may_stay(network: Network) -> None:
    kept = folded(network, PIXELS, keep=("seg_mask", "extractor.5"))
    assert [norm.name for norm in kept.norms] == ["seg_mask.norm", "extractor.5.norm"]
    assert kept.norms[0] == network.norms[9]


def test_standardised_pictures_score_alike_in_any_light(network: Network) -> None:
    lit = folded(network, PIXELS, standardise=standardisation_of(PIXELS))
    dark = (PIXELS * 0.7).astype(np.float32) / 255
    with torch.inference_mode():
        usual, _ = TorchNetwork(lit)(planes_of(PIXELS))
        darker, _ = TorchNetwork(lit)(torch.from_numpy(dark).permute(0, 3, 1, 2))
    torch.testing.assert_close(usual, darker, atol=1e-3, rtol=1e-3)


def test_standardisation_is_the_mean_over_pictures() -> None:
    found = standardisation_of(PIXELS)
    assert found.mean == pytest.approx(np.mean([one.mean() for one in PIXELS / 255]))
    assert found.deviation == pytest.approx(np.mean([one.std() for one in PIXELS / 255]))


def test_what_layers_give_is_kept_as_far_as_it_may() -> None:
    asked: list[int] = []

    def values() -> Iterator[torch.Tensor]:
        for index in range(3):
            asked.append(index)
            yield torch.full((1, 1, 4, 4), float(index))

    given = walk.States(values, 3)
    for most, times in ((3 * 64, 3), (3 * 64 - 1, 1 + 3 + 3)):
        asked.clear()
        made = given.through([Relu()], most)
        for _ in range(2):
            assert [float(one.max()) for one in made] == [0, 1, 2]
        assert len(asked) == times


def test_a_channel_that_never_moves_gets_no_slope() -> None:
    """Variance and covariance are rounding there, and their quotient anything."""
    constant = torch.full((1, 1, 64, 64), 0.1234567)
    before = walk.States(lambda: [constant, constant + 1e-9], 2)
    wanted = walk.States(lambda: [torch.randn(1, 1, 64, 64, generator=torch.manual_seed(i)) for i in range(2)], 2)
    slope, offset = fold._line(before, wanted)
    assert float(slope) == 0
    assert float(offset) == pytest.approx(float(torch.cat(list(wanted)).mean()), abs=1e-6)
