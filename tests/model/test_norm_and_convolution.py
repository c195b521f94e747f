"""The two hand-written gradients against plain autograd."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from segdec_edge.model import convolution, norm
from segdec_edge.model.convolution import SameConv2d
from segdec_edge.model.norm import FeatureNorm, feature_norm


def gradients(compute: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The result and the gradient of Σ result · fixed noise for each input."""
    leaves = [one.detach().clone().requires_grad_() for one in inputs]
    result = compute(*leaves)
    noise = torch.randn(result.shape, generator=torch.Generator().manual_seed(3)).to(result.dtype)
    (result * noise).sum().backward()
    found = [leaf.grad for leaf in leaves]
    assert all(one is not None for one in found)
    return [result.detach(), *(one for one in found if one is not None)]


def norm_inputs(batch: int = 1, channels: int = 4, size: tuple[int, int] = (12, 10)) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, *size, generator=generator) * torch.tensor([0.01, 1.0, 5.0, 50.0]).view(1, 4, 1, 1)
    x = x + torch.tensor([0.0, 3.0, -2.0, 100.0]).view(1, 4, 1, 1)
    return (
        x,
        torch.rand(1, channels, 1, 1, generator=generator) + 0.5,
        torch.randn(1, channels, 1, 1, generator=generator),
    )


def textbook(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """The formula as it is written down."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    deviation = x.std(dim=(2, 3), keepdim=True, unbiased=True)
    return scale * (x - mean) / (deviation + 0.001).sqrt() + bias


@pytest.mark.parametrize("batch", [1, 3])
def test_the_reference_is_the_formula(batch: int) -> None:
    inputs = [one.double() for one in norm_inputs(batch)]
    for found, wanted in zip(gradients(feature_norm, *inputs), gradients(textbook, *inputs), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-9)


def test_the_reference_passes_gradcheck() -> None:
    inputs = [one.double().requires_grad_() for one in norm_inputs(size=(3, 4))]
    assert torch.autograd.gradcheck(feature_norm, inputs)


def test_the_hand_written_gradient_is_autograds() -> None:
    inputs = norm_inputs()
    wanted = gradients(textbook, *(one.double() for one in inputs))
    for found, exact in zip(gradients(norm._SinglePictureNorm.apply, *inputs), wanted, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), exact, atol=2e-4, rtol=2e-4)


def test_the_hand_written_gradient_in_bfloat16_is_as_near_as_autograds() -> None:
    x, scale, bias = norm_inputs()
    narrow = x.bfloat16()
    wanted = gradients(textbook, narrow.double(), scale.double(), bias.double())
    plain = gradients(feature_norm, narrow, scale, bias)
    for found, reference, exact in zip(
        gradients(norm._SinglePictureNorm.apply, narrow, scale, bias), plain, wanted, strict=True
    ):
        size = exact.abs().max()
        error, reference_error = ((one.double() - exact).abs().max() / size for one in (found, reference))
        assert error <= 2 * reference_error + 0.01


def test_the_module_takes_the_short_way_for_one_picture_and_agrees_for_three() -> None:
    layer = FeatureNorm(4)
    x, scale, bias = norm_inputs(batch=3)
    with torch.no_grad():
        layer.scale.copy_(scale)
        layer.bias.copy_(bias)
    together = gradients(layer, x)
    layer.zero_grad()
    one_by_one = [gradients(layer, x[index : index + 1]) for index in range(3)]
    assert "SinglePictureNorm" in type(layer(x[:1].requires_grad_()).grad_fn).__name__
    torch.testing.assert_close(together[0], torch.cat([one[0] for one in one_by_one]), atol=1e-5, rtol=1e-5)


def test_gradients_of_three_pictures_are_the_sum_of_one_by_one() -> None:
    layer = FeatureNorm(4)
    x, _, _ = norm_inputs(batch=3)
    layer(x).square().sum().backward()
    together = layer.scale.grad, layer.bias.grad
    layer.zero_grad()
    for one in x:
        layer(one[None]).square().sum().backward()
    assert together[0] is not None
    torch.testing.assert_close(layer.scale.grad, together[0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(layer.bias.grad, together[1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("level", [0.0, 0.7, 200.0])
def test_a_constant_channel_has_finite_results_and_gradients(dtype: torch.dtype, level: float) -> None:
    x, scale, bias = norm_inputs()
    x[:, 1] = level
    result, grad_x, grad_scale, grad_bias = gradients(norm._SinglePictureNorm.apply, x.to(dtype), scale, bias)
    for one in (result, grad_x, grad_scale, grad_bias):
        assert torch.isfinite(one).all()
    torch.testing.assert_close(result[0, 1].float(), bias[0, 1].expand(12, 10), atol=0.02, rtol=0.02)


def test_reductions_do_not_overflow_in_half_precision() -> None:
    """640×232 has more pixels than float16 can count, and their squares sum above its range."""
    x = 30 * torch.randn(1, 1, 640, 232, generator=torch.Generator().manual_seed(0)) + 20
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    with torch.no_grad():
        half = feature_norm(x.half(), one.half(), zero.half())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), textbook(x, one, zero), atol=0.05, rtol=0.02)


def test_statistics_are_not_rounded_to_the_inputs_precision() -> None:
    """In bfloat16 a mean of 100.25 would become 100 or 100.5, half a deviation away."""
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    x = (100.25 + 0.7 * noise).bfloat16()
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    for compute in (feature_norm, norm._SinglePictureNorm.apply):
        torch.testing.assert_close(compute(x, one, zero).double(), textbook(x.double(), one, zero), atol=0.03, rtol=0)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(12, 10), (2, 1), (1, 2), (37, 3)])
def test_statistics_are_those_of_the_whole_channel(
    dtype: torch.dtype, memory_format: torch.memory_format, size: tuple[int, int]
) -> None:
    x = norm_inputs(size=size)[0].to(dtype).contiguous(memory_format=memory_format)
    deviation, mean = norm._deviation_and_mean(x)
    wanted = torch.std_mean(x.double(), dim=(0, 2, 3))
    assert deviation.dtype == mean.dtype == torch.float32
    torch.testing.assert_close(mean.double(), wanted[1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(deviation.double(), wanted[0], rtol=1e-5, atol=1e-6)


def test_a_large_constant_channel_in_bfloat16_has_no_deviation() -> None:
    """Rounding that looked like a deviation would be multiplied a thousandfold by the gradient."""
    x = torch.full((1, 2, 704, 256), 0.1, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    deviation, mean = norm._deviation_and_mean(x)
    assert torch.equal(deviation, torch.zeros(2))
    assert torch.equal(mean, x[0, :, 0, 0].float())


def wide_case(batch: int, kernel: int) -> tuple[SameConv2d, Tensor]:
    torch.manual_seed(0)
    layer = SameConv2d(3, 5, kernel)
    return layer, torch.randn(batch, 3, 20, 14)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("batch", "kernel", "outputs_at_once"), [(1, 15, 128), (3, 9, 128), (1, 9, 2), (3, 9, 2)])
def test_the_wide_convolutions_gradient_is_autograds(
    batch: int, kernel: int, outputs_at_once: int, memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "_SLICE", outputs_at_once)
    layer, x = wide_case(batch, kernel)
    x = x.to(memory_format=memory_format)
    wanted = gradients(
        lambda x, weight: functional.conv2d(x, weight, padding=kernel // 2),
        x.bfloat16().double(),
        layer.weight.bfloat16().double(),
    )
    leaf = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = layer(leaf)
    assert "WideConvolution" in type(result.grad_fn).__name__
    noise = torch.randn(result.shape, generator=torch.Generator().manual_seed(3)).to(result.dtype)
    (result * noise).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    assert leaf.grad is not None
    for found, exact in zip((result, leaf.grad, layer.weight.grad), wanted, strict=True):
        assert found.shape == exact.shape
        torch.testing.assert_close(found.double(), exact, atol=0.02 * float(exact.abs().max()), rtol=0)


def test_a_frozen_input_or_weight_gets_no_gradient() -> None:
    layer, x = wide_case(1, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(x).sum().backward()
    assert layer.weight.grad is not None
    layer.weight.requires_grad_(False)
    leaf = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(leaf).sum().backward()
    assert leaf.grad is not None


@pytest.mark.parametrize("kernel", [5, 15])
def test_without_bfloat16_or_gradients_it_is_the_plain_convolution(kernel: int) -> None:
    layer, x = wide_case(2, kernel)
    wanted = functional.conv2d(x, layer.weight, padding=kernel // 2)
    assert torch.equal(layer(x), wanted)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


def test_narrow_kernels_keep_the_librarys_gradient() -> None:
    layer, x = wide_case(1, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert "WideConvolution" not in type(layer(x).grad_fn).__name__
    assert convolution._WIDE_KERNEL == 9


def test_neither_path_warns() -> None:
    layer, x = wide_case(1, 15)
    with warnings.catch_warnings(), torch.autocast("cpu", dtype=torch.bfloat16):
        warnings.simplefilter("error")
        FeatureNorm(5)(layer(x)).float().sum().backward()
