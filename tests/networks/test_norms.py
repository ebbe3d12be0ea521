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
from outfitgan.networks.norms import ChannelNorm, InstanceNorm, norm_of

NORMS: list[Callable[[int], nn.Module]] = [ChannelNorm, InstanceNorm]


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def test_a_config_names_each_norm() -> None:
    assert {name: type(norm_of(name)(3)) for name in get_args(Norm)} == {
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
