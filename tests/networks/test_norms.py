"""Normalisations against their definitions, over scales and in FP16."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from outfitgan.config import Norm
from outfitgan.networks.blocks import ConvBlock
from outfitgan.networks.initialisation import he
from outfitgan.networks.norms import ChannelNorm, InstanceNorm, WeightNormConv2d, convolution_of

NORMS: list[Callable[[int], nn.Module]] = [ChannelNorm, InstanceNorm]


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def test_a_config_names_each_norm() -> None:
    convolutions = {name: convolution_of(name)(3, 5) for name in get_args(Norm)}
    assert {name: type(list(made.modules())[-1]) for name, made in convolutions.items()} == {
        "weight": WeightNormConv2d,
        "channel": ChannelNorm,
        "instance": InstanceNorm,
    }


@pytest.mark.parametrize("scale", [0.1, 1.0, 6e4])
def test_channel_norm_has_root_mean_square_one(scale: float) -> None:
    x = features(3, 12, 4, 5) * scale
    norm = ChannelNorm(12)
    np.testing.assert_allclose(norm(x).detach().square().mean(dim=1).sqrt().numpy(), 1, atol=1e-3)
    nn.init.uniform_(norm.gain, 0.5, 2)
    wide = x.double().numpy()
    expected = wide / np.sqrt((wide**2).mean(1, keepdims=True) + 1e-6) * norm.gain.detach().double().numpy()
    np.testing.assert_allclose(norm(x).detach().numpy(), expected, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    channels=st.integers(1, 9),
    size=st.tuples(st.integers(1, 7), st.integers(2, 7)),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    offset=st.floats(-3, 3),
)
def test_instance_norm_is_that_of_torch(
    seed: int, channels: int, size: tuple[int, int], scale: float, offset: float
) -> None:
    torch.manual_seed(seed)
    norm = InstanceNorm(channels)
    nn.init.normal_(norm.gain)
    nn.init.normal_(norm.shift)
    x = (torch.randn(2, channels, *size) + offset) * scale
    gain, shift = (weight.detach().double().flatten() for weight in (norm.gain, norm.shift))
    expected = F.instance_norm(x.double(), weight=gain, bias=shift)
    torch.testing.assert_close(norm(x).double(), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("norm_type", NORMS)
def test_a_norm_of_zeros_is_zero_with_a_finite_gradient(norm_type: Callable[[int], nn.Module]) -> None:
    x = torch.zeros(1, 4, 2, 2, requires_grad=True)
    y = norm_type(4)(x)
    y.sum().backward()
    assert not y.any()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("norm_type", NORMS)
@pytest.mark.parametrize("scale", [1.0, 300.0, 6e4])
def test_a_norm_of_large_fp16_is_that_of_fp32(norm_type: Callable[[int], nn.Module], scale: float) -> None:
    """The square of 256 overflows FP16; the error allowed is two roundings to FP16 of numbers up to 4."""
    x = (torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (2, 16, 5, 5))) * scale).half()
    norm = norm_type(16)
    expected = norm(x.float())
    found = norm.half()(x)
    assert found.dtype == torch.float16
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.float(), expected, atol=2e-3, rtol=1e-3)


def test_instance_norm_of_fp16_keeps_a_small_spread_on_a_large_mean() -> None:
    """The mean is taken off before anything is squared, in FP32: what is left is a spread of some units on 2000."""
    x = (features(1, 3, 8, 8) * 20 + 2000).half()
    expected = F.instance_norm(x.double())
    torch.testing.assert_close(InstanceNorm(3).half()(x).double(), expected, atol=2e-3, rtol=1e-3)


def test_each_norm_divides_out_what_its_name_says() -> None:
    """A brighter picture stays brighter through the one, a stronger position through the other."""
    x = features(1, 6, 4, 4) + 1
    brighter = x * torch.tensor([1.0, 3, 1, 3, 1, 3]).view(1, 6, 1, 1)
    stronger = x * torch.linspace(1, 4, 16).view(1, 1, 4, 4)
    channel, instance = ChannelNorm(6), InstanceNorm(6)
    torch.testing.assert_close(channel(stronger), channel(x), atol=1e-3, rtol=0)
    assert (channel(brighter) - channel(x)).abs().mean() > 0.1
    torch.testing.assert_close(instance(brighter), instance(x), atol=1e-3, rtol=0)
    assert (instance(stronger) - instance(x)).abs().mean() > 0.1


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 9),
    kernel=st.sampled_from([1, 3, 4, 7]),
    stride=st.sampled_from([1, 2]),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_weight_norm_is_that_of_torch(
    seed: int, inputs: int, outputs: int, kernel: int, stride: int, scale: float
) -> None:
    torch.manual_seed(seed)
    ours = WeightNormConv2d(inputs, outputs, kernel, stride)
    with torch.no_grad():
        ours.weight *= scale
    nn.init.normal_(ours.gain)
    theirs = nn.utils.parametrizations.weight_norm(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - 1) // 2), dim=0
    )
    theirs.parametrizations.weight.original0.data = ours.gain.data
    theirs.parametrizations.weight.original1.data = ours.weight.data
    assert ours.bias is not None
    assert theirs.bias is not None
    theirs.bias.data = ours.bias.data
    x = torch.randn(2, inputs, 11, 10)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gain", [0.2, 1.0])
def test_a_weight_normed_convolution_keeps_the_scale_through_a_leaky_relu(gain: float) -> None:
    torch.manual_seed(0)
    layer = WeightNormConv2d(64, 512, gain=gain)
    y = F.leaky_relu(layer(torch.randn(1, 64, 32, 32)), 0.2)
    assert y.square().mean().sqrt().item() == pytest.approx(gain, rel=0.1)


def test_flat_white_magnifies_no_gradient() -> None:
    """Ten layers deep: a norm of activations does, a thousand times a layer where they are nearly zero."""

    def largest(name: Norm) -> float:
        torch.manual_seed(0)
        convolution = convolution_of(name)
        network = nn.Sequential(*(ConvBlock(4 if not i else 8, 8, 1, convolution) for i in range(10)))
        network.apply(he)  # its biases are 0, so that white stays 0
        white = torch.zeros(2, 4, 16, 16)  # as the networks see it
        network(white).sum().backward()
        return max(float(p.grad.abs().max()) for p in network.parameters() if p.grad is not None)

    assert largest("weight") < 1e4
    assert largest("channel") > 1e20  # whose square, which Adam keeps, is infinite


def test_a_grey_garment_keeps_its_brightness() -> None:
    """What decides against weights of mean zero, which see edges and hues alone."""
    torch.manual_seed(0)
    layer = WeightNormConv2d(3, 32)
    dark, light = (layer(torch.full((1, 3, 8, 8), shade))[..., 2:6, 2:6] for shade in (-1.5, -0.5))
    assert (dark - light).abs().mean() > 0.3
