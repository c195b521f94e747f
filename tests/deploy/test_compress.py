"""Networks made smaller: factorised, dead channels left out, aligned and distilled to what they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from segdec_edge.deploy import walk
from segdec_edge.deploy.attention import at_size_of, attention_of
from segdec_edge.deploy.compress import (
    BLOCK,
    Spectrum,
    choose_ranks,
    factorised,
    importances,
    require_folded,
    spectra,
    without_dead,
)
from segdec_edge.deploy.distil import Recipe, Targets, aligned, distilled, targets_of
from segdec_edge.deploy.fold import folded
from segdec_edge.deploy.network import Conv, Network, Norm, Pool, Relu, operations
from segdec_edge.deploy.torch_network import TorchNetwork, planes_of
from segdec_edge.errors import BundleError, TrainingError
from tests.deploy.made_networks import PIXELS, logits
from tests.nets import SIZE_HW


def test_at_full_rank_nothing_changes(plain: Network) -> None:
    name = "volume.3"
    full = factorised(plain, PIXELS, {name: plain.conv(name).weight.shape[0]})
    assert [conv.name for conv in full.convs if conv.name.startswith(name)] == [f"{name}.a", f"{name}.b"]
    torch.testing.assert_close(logits(full), logits(plain), atol=5e-3, rtol=5e-3)


def test_a_layer_of_low_rank_is_found_and_kept_exactly(plain: Network) -> None:
    layer = plain.conv("volume.9")
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(len(layer.weight), 3)).astype(np.float32)
    basis = rng.normal(size=(3, *layer.weight.shape[1:])).astype(np.float32) * 0.05
    low = plain.exchanged("volume.9", replace(layer, weight=np.tensordot(mixing, basis, axes=1)))
    energies = spectra(low, PIXELS, SIZE_HW)["volume.9"].energies
    assert energies[3] < 1e-6 * energies[0] < energies[2]
    cut = factorised(low, PIXELS, {"volume.9": 3})
    torch.testing.assert_close(logits(cut), logits(low), atol=5e-3, rtol=5e-3)
    assert operations(cut, SIZE_HW)["volume.9.a"] < operations(low, SIZE_HW)["volume.9"] / 4


def test_lower_ranks_cost_more_accuracy(plain: Network) -> None:
    def error(rank: int) -> float:
        return float((logits(factorised(plain, PIXELS, {"volume.11": rank})) - logits(plain)).square().mean())

    assert error(32) < error(4) < error(1)


def test_importance_is_what_the_next_layers_make_of_a_channel(plain: Network) -> None:
    found = importances(plain)
    following = plain.conv("volume.3").weight
    np.testing.assert_allclose(found["volume.2"], np.sqrt(np.square(following).sum(axis=(0, 2, 3))), rtol=1e-5)
    both = np.hypot(plain.conv("seg_mask").weight[0, :, 0, 0], _norms(plain.conv("extractor.1").weight)[:-1])
    np.testing.assert_allclose(found["volume.11"], both, rtol=1e-5)


def _norms(weight: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(weight).sum(axis=(0, 2, 3)))


def test_ranks_keep_the_budget_and_go_where_least_is_lost() -> None:
    steep = Spectrum(np.geomspace(1, 1e-6, 64), 20, 1000)
    level = Spectrum(np.ones(64), 20, 1000)
    ranks = choose_ranks({"steep": steep, "level": level}, 0.6)
    assert ranks["steep"] == BLOCK
    assert "level" not in ranks or ranks["level"] > 25
    spent = sum(20 * ranks[name] if name in ranks else 1000 for name in ("steep", "level"))
    assert 1200 - 20 * BLOCK < spent <= 1200
    assert choose_ranks({"steep": steep, "level": level}, 1.0) == {}


@pytest.mark.parametrize(("outputs", "lowest"), [(8, 2), (16, 4), (31, 7), (32, 16), (1024, 16)])
def test_ranks_of_an_impossible_budget_are_the_lowest(outputs: int, lowest: int) -> None:
    assert choose_ranks({"a": Spectrum(np.ones(outputs), 10, 10000)}, 0.001) == {"a": lowest}


def test_ranks_fill_blocks_that_are_computed_together() -> None:
    level = {str(index): Spectrum(np.geomspace(1, 1 / (index + 1), 64), 20, 1300) for index in range(6)}
    ranks = [rank for share in (0.9, 0.7, 0.5, 0.3) for rank in choose_ranks(level, share).values()]
    assert len(set(ranks)) > 1 and not [rank for rank in ranks if rank % BLOCK]


def test_dead_channels_go_and_nothing_changes(plain: Network) -> None:
    layer, last = plain.conv("volume.6"), plain.conv("volume.11")
    assert layer.bias is not None and last.bias is not None
    dead = plain.exchanged("volume.6", replace(layer, bias=np.where(np.arange(len(layer.bias)) < 5, -1e3, layer.bias)))
    dead = dead.exchanged("volume.11", replace(last, bias=np.where(np.arange(len(last.bias)) < 20, -1e4, last.bias)))
    dead = replace(dead, trunk=tuple(_float32(one) for one in dead.trunk))
    left = without_dead(dead, PIXELS)
    assert len(layer.weight) == 16 and len(left.conv("volume.6").weight) == 12  # 11 alive: blocks of a quarter
    assert len(last.weight) == 256 and len(left.conv("volume.11").weight) == 240
    assert left.conv("extractor.1").weight.shape[1] == len(left.conv("volume.11").weight) + 1
    torch.testing.assert_close(logits(left), logits(dead), atol=1e-4, rtol=1e-4)


def _float32(layer: Conv | Norm | Relu | Pool) -> Conv | Norm | Relu | Pool:
    if isinstance(layer, Conv) and layer.bias is not None:
        return replace(layer, bias=layer.bias.astype(np.float32))
    return layer


def test_compressing_wants_a_folded_network(network: Network, plain: Network) -> None:
    require_folded(plain)
    with pytest.raises(BundleError, match="segdec fold"):
        require_folded(network)
    with pytest.raises(BundleError, match="segdec fold"):
        spectra(network, PIXELS, SIZE_HW)


def test_a_kept_norm_of_the_segmentation_is_left_alone(network: Network) -> None:
    kept = folded(network, PIXELS, keep=("seg_mask",))
    cut = factorised(kept, PIXELS, choose_ranks(spectra(kept, PIXELS, SIZE_HW), 0.3))
    assert cut.segmentation == kept.segmentation
    assert any(conv.name == "volume.11.b" for conv in cut.convs)


def test_defects_weigh_as_much_as_all_the_rest(network: Network) -> None:
    weights = attention_of(network, PIXELS)
    with torch.inference_mode():
        heats = [TorchNetwork(network)(planes_of(one[None]))[1].sigmoid() for one in PIXELS]
    assert sum(float((one - 1).sum()) for one in weights) == pytest.approx(sum(one.numel() for one in weights))
    for weight, heat in zip(weights, heats, strict=True):
        peak = divmod(int(heat.argmax()), heat.shape[3])
        assert weight[0, 0, peak[0], peak[1]] == weight.max()
        assert weight.min() >= 1
    values = torch.zeros(1, 3, 32, 16)
    assert at_size_of(weights[0], values).shape == (512,)
    torch.testing.assert_close(at_size_of(weights[0], values).reshape(32, 16)[::2, ::2], weights[0][0, 0])


def test_aligning_moves_scores_and_never_their_order(network: Network) -> None:
    wanted, defective = targets_of(network, PIXELS), np.array([True, False, True, False])
    moved = replace(network, fc_weight=0.5 * network.fc_weight, fc_bias=network.fc_bias + 2)
    back = aligned(moved, PIXELS, defective, wanted)
    torch.testing.assert_close(logits(back), logits(network), atol=1e-3, rtol=1e-3)
    upside_down = replace(network, fc_weight=-network.fc_weight)
    assert aligned(upside_down, PIXELS, defective, wanted) == upside_down


def test_aligning_keeps_where_the_shipped_threshold_lies(network: Network) -> None:
    """The targets' gap between good and defective is around 0; the nearest line alone would put it elsewhere."""
    order = np.argsort(targets_of(network, PIXELS).decision)
    decision, defective = np.empty(4, np.float32), np.zeros(4, bool)
    decision[order] = [-9.0, -0.5, 0.5, 2.0]
    defective[order[2:]] = True
    back = aligned(network, PIXELS, defective, Targets(decision, np.zeros((4, 16, 8), np.float32)))
    now = np.sort(logits(back)[:, 0].numpy())
    assert (now[1] + now[2]) / 2 == pytest.approx(0.0, abs=1e-3)
    assert now[0] < now[1] < now[2] < now[3]


def test_distillation_brings_the_logits_nearer(network: Network) -> None:
    cut = factorised(folded(network, PIXELS), PIXELS, {"volume.11": 2, "volume.3": 2})
    wanted, defective = targets_of(network, PIXELS), np.array([True, False, True, False])
    recipe = Recipe(steps=40, rate=2e-3, brightness=0.0, contrast=0.0)
    losses: list[float] = []
    tuned = distilled(cut, PIXELS, defective, wanted, recipe, lambda done, of, loss: losses.append(loss))
    before, after = (float((logits(one) - logits(network)).square().mean()) for one in (cut, tuned))
    assert after < 0.7 * before
    assert len(losses) == 40
    again = distilled(cut, PIXELS, defective, wanted, recipe)
    torch.testing.assert_close(logits(again), logits(tuned))


def test_targets_are_the_networks_logits(network: Network) -> None:
    wanted = targets_of(network, PIXELS)
    np.testing.assert_allclose(wanted.decision, logits(network)[:, 0].numpy(), atol=1e-4)
    assert wanted.segmentation.shape == (4, 16, 8)


def test_diverging_distillation_is_told(network: Network) -> None:
    wanted = targets_of(network, PIXELS)
    poor = replace(wanted, decision=np.full(4, np.nan, np.float32))
    with pytest.raises(TrainingError, match="diverged at step 0"):
        distilled(folded(network, PIXELS), PIXELS, np.zeros(4, bool), poor, Recipe(steps=2))


def test_what_is_too_large_to_keep_is_computed_again(
    network: Network, plain: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = choose_ranks(spectra(plain, PIXELS, SIZE_HW), 0.3)
    small = factorised(plain, PIXELS, ranks)
    monkeypatch.setattr(walk, "MOST", 0)
    torch.testing.assert_close(logits(folded(network, PIXELS)), logits(plain))
    torch.testing.assert_close(logits(factorised(plain, PIXELS, ranks)), logits(small))


@pytest.mark.parametrize("defective", [np.zeros(4, np.bool_), np.ones(4, np.bool_)], ids=["good", "defective"])
def test_pictures_of_one_kind_move_the_scores_and_stretch_none(network: Network, defective: np.ndarray) -> None:
    """A line through good pictures alone follows their noise, and would put defects below the threshold."""
    found = targets_of(network, PIXELS)
    noise = replace(found, decision=(found.decision * 0.1 + 1).astype(np.float32))
    same = aligned(network, PIXELS, defective, noise)
    np.testing.assert_array_equal(same.fc_weight, network.fc_weight)
    after = targets_of(same, PIXELS).decision
    assert after.mean() == pytest.approx(noise.decision.mean(), abs=1e-4)


def test_one_picture_is_enough_to_move_the_scores(network: Network) -> None:
    one = targets_of(network, PIXELS[:1])
    moved = aligned(network, PIXELS[:1], np.array([True]), replace(one, decision=one.decision + 1))
    np.testing.assert_allclose(targets_of(moved, PIXELS[:1]).decision, one.decision + 1, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_step_or_two_of_distillation(network: Network, steps: int) -> None:
    targets = targets_of(network, PIXELS)
    done = distilled(network, PIXELS, np.zeros(4, np.bool_), targets, Recipe(steps=steps, rate=1e-4))
    assert np.isfinite(targets_of(done, PIXELS).decision).all()
