"""SegDecNet against a second, plain restatement of the published table, and its limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segdec_edge.errors import ModelError, SizeError
from segdec_edge.model.backend import TorchBackend, spec_of
from segdec_edge.model.segdecnet import SegDecNet, check_size, nearest_legal_size
from tests.nets import lively_net, textures
from tests.restatement import plain_segdecnet, published_shapes


@pytest.mark.parametrize(
    ("in_channels", "size_hw", "batch"),
    [(1, (128, 64), 1), (1, (136, 72), 2), (3, (72, 136), 2), (3, (160, 104), 1)],
    ids=["smallest", "floors everywhere", "colour", "as 640x232"],
)
def test_it_is_the_published_network(in_channels: int, size_hw: tuple[int, int], batch: int) -> None:
    net = lively_net(in_channels, width=0.25).double()
    x = torch.rand(batch, in_channels, *size_hw, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            decision, segmentation = net(x)
            wanted_decision, wanted_segmentation = plain_segdecnet(net.state_dict(), x)
        assert decision.shape == (batch, 1)
        assert segmentation.shape == (batch, 1, size_hw[0] // 8, size_hw[1] // 8)
        torch.testing.assert_close(decision, wanted_decision, atol=1e-9, rtol=0)
        torch.testing.assert_close(segmentation, wanted_segmentation, atol=1e-9, rtol=0)


@pytest.mark.parametrize("in_channels", [1, 3])
def test_the_full_width_is_equal_too(in_channels: int) -> None:
    net = lively_net(in_channels, width=1.0).double()
    x = torch.rand(1, in_channels, 72, 136, dtype=torch.float64)
    with torch.no_grad():
        for found, wanted in zip(net(x), plain_segdecnet(net.state_dict(), x), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)


def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    net = lively_net().double()
    x = torch.rand(3, 1, 128, 64, dtype=torch.float64) * torch.tensor([1.0, 0.5, 0.1]).view(3, 1, 1, 1)
    with torch.no_grad():
        together = net(x)
        alone = [net(one[None]) for one in x]
    for index in (0, 1):
        torch.testing.assert_close(together[index], torch.cat([one[index] for one in alone]), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("in_channels", "count"), [(1, 15_637_213), (3, 15_637_213 + 1600)])
def test_keys_shapes_and_count_are_the_published_ones(in_channels: int, count: int) -> None:
    net = SegDecNet(in_channels)
    assert {key: tuple(value.shape) for key, value in net.state_dict().items()} == published_shapes(in_channels)
    assert sum(parameter.numel() for parameter in net.parameters()) == count


def test_weights_of_the_authors_format_load_strictly() -> None:
    foreign = {key: torch.full(shape, 0.5) for key, shape in published_shapes(1).items()}
    net = SegDecNet()
    net.load_state_dict(foreign, strict=True)
    assert all((value == 0.5).all() for value in net.state_dict().values())


def test_initial_weights_have_the_published_distribution() -> None:
    torch.manual_seed(0)
    net = SegDecNet(width=0.5)
    for name, parameter in net.named_parameters():
        if parameter.dim() == 4 and name.endswith("weight"):
            outside, inside, height, width = parameter.shape
            deviation = math.sqrt(2 / ((inside + outside) * height * width))
            tolerance = 4 / math.sqrt(2 * parameter.numel())
            assert parameter.std().item() == pytest.approx(deviation, rel=tolerance), name
            assert abs(parameter.mean().item()) < 5 * deviation / math.sqrt(parameter.numel()), name
            if parameter.numel() > 5000:  # normal, not uniform: some weights lie beyond three deviations
                assert 0.0005 < (parameter.abs() > 3 * deviation).float().mean().item() < 0.006, name
        elif name.endswith("scale"):
            assert (parameter == 1).all()
        elif name.endswith("1.bias"):
            assert (parameter == 0).all()
    bound = 1 / math.sqrt(net.fc.in_features)
    assert 0.7 * bound < net.fc.weight.abs().max().item() <= bound


@pytest.mark.parametrize("stop", [True, False])
def test_the_gradient_stop_keeps_the_decision_out_of_the_segmentation(stop: bool) -> None:
    net = lively_net(gradient_stop=stop).train()
    decision, _ = net(torch.rand(1, 1, 128, 64))
    decision.sum().backward()
    for part in (net.volume, net.seg_mask):
        for name, parameter in part.named_parameters():
            arrived = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            assert arrived is not stop, name
    assert all(parameter.grad is not None for part in (net.extractor, net.fc) for parameter in part.parameters())


def test_the_gradient_stop_changes_no_value_and_spares_the_segmentation_loss() -> None:
    net = lively_net(gradient_stop=True).train()
    x = torch.rand(1, 1, 128, 64)
    decision, segmentation = net(x)
    segmentation.square().sum().backward()
    assert all(parameter.grad is not None for parameter in (*net.volume.parameters(), *net.seg_mask.parameters()))
    net.gradient_stop = False
    torch.testing.assert_close(net(x)[0], decision)


@pytest.mark.parametrize("width", [0.25, 0.5])
def test_width_scales_every_inner_channel(width: float) -> None:
    shapes = {key: value.shape for key, value in SegDecNet(width=width).state_dict().items()}
    assert shapes["volume.0.0.weight"] == (32 * width, 1, 5, 5)
    assert shapes["volume.11.0.weight"] == (1024 * width, 64 * width, 15, 15)
    assert shapes["extractor.1.0.weight"] == (8 * width, 1024 * width + 1, 5, 5)
    assert shapes["fc.weight"] == (1, 2 * 32 * width + 2)


def test_batch_norm_variant_runs_and_keeps_the_picture_out_of_its_statistics() -> None:
    net = lively_net(norm="batch").double()
    assert "volume.0.1.running_mean" in net.state_dict()
    assert not any(key.endswith("scale") for key in net.state_dict())
    x = torch.rand(2, 1, 128, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(x)[0][:1], net(x[:1])[0])


@pytest.mark.parametrize(
    ("asked", "legal"),
    [
        ((64, 64), (128, 64)),
        ((130, 64), (128, 64)),
        ((128, 70), (128, 72)),
        ((8, 8), (128, 64)),
        ((1, 500), (64, 496)),
        ((100, 120), (96, 128)),
        ((120, 96), (128, 96)),
        ((704, 250), (704, 248)),
    ],
)
def test_an_illegal_size_names_the_nearest_legal_one(asked: tuple[int, int], legal: tuple[int, int]) -> None:
    net = lively_net(width=0.1)
    with pytest.raises(SizeError, match=f"Nearest legal size: {legal[0]}x{legal[1]}") as caught:
        net(torch.rand(1, 1, *asked))
    assert "\n" not in str(caught.value)
    with torch.no_grad():
        decision, _ = net(torch.rand(1, 1, *legal))
    assert torch.isfinite(decision).all()


def test_every_legal_size_gives_numbers_and_every_other_is_refused() -> None:
    net = lively_net(width=0.05)
    for height in range(56, 200, 8):
        for width in (56, 64, 72, 120, 128):
            legal = height >= 64 and width >= 64 and (height // 64) * (width // 64) >= 2
            assert (nearest_legal_size((height, width)) == (height, width)) is legal
            if legal:
                check_size((height, width))
                with torch.no_grad():
                    assert torch.isfinite(net(torch.rand(1, 1, height, width))[0]).all()


@pytest.mark.parametrize(
    "settings", [{"in_channels": 2}, {"width": 0.0}, {"width": 5.0}, {"width": float("nan")}, {"norm": "group"}]
)
def test_unusable_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="wanted"):
        SegDecNet(**settings)  # type: ignore[arg-type]


def test_the_backend_leaves_the_networks_mode_alone() -> None:
    net = lively_net(norm="batch").train()
    backend = TorchBackend(net, spec_of(net, (128, 64)))
    first = backend.infer(textures(2))
    assert net.training
    net.eval()
    assert np.array_equal(backend.infer(textures(2)).score, first.score)
    assert not net.training


@pytest.mark.parametrize("shape", [(1, 3, 128, 64), (1, 128, 64), (128, 64)])
def test_an_input_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"wanted \(B, 1, H, W\)"):
        SegDecNet(width=0.25)(torch.zeros(shape))


@pytest.mark.parametrize("size_hw", [(128, 64), (136, 72)])
def test_training_pools_volume_and_segmentation_apart_and_sees_the_same(size_hw: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = SegDecNet(width=0.125)
    x = torch.rand(2, 1, *size_hw)
    with torch.no_grad():
        wanted, found = net.eval()(x), net.train()(x)
    for one, other in zip(wanted, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)
