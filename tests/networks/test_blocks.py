"""The layers that networks are made of: what they keep, double and halve."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from network_cases import photos
from torch import nn

from outfitgan.config import Norm
from outfitgan.networks.blocks import ConvBlock, Downsampler, ResidualBlock, upsample
from outfitgan.networks.norms import ChannelNorm, InstanceNorm, WeightNormConv2d, convolution_of

_NORMS = ChannelNorm | InstanceNorm | WeightNormConv2d


def test_upsampling_repeats_each_position() -> None:
    x = torch.randn(2, 3, 4, 5)
    assert np.array_equal(upsample(x).numpy(), x.numpy().repeat(2, axis=2).repeat(2, axis=3))


@pytest.mark.parametrize(("steps", "outputs"), [(0, 8), (1, 16), (2, 24), (3, 24)])
def test_a_downsampler_doubles_the_width_up_to_its_limit(steps: int, outputs: int) -> None:
    network = Downsampler(4, 8, steps, limit=24)
    assert network.outputs == outputs
    assert network(torch.zeros(1, 4, 32, 32)).shape == (1, outputs, 32 >> steps, 32 >> steps)


@pytest.mark.parametrize(
    ("name", "norm"), [("weight", WeightNormConv2d), ("channel", ChannelNorm), ("instance", InstanceNorm)]
)
def test_blocks_take_the_norm_they_are_given(name: Norm, norm: type[nn.Module]) -> None:
    given = convolution_of(name)
    network = nn.Sequential(ConvBlock(3, 8, 1, given), ResidualBlock(8, given), Downsampler(8, 8, 2, 16, given))
    found = [type(module) for module in network.modules() if isinstance(module, _NORMS)]
    assert found == [norm] * 6


def test_a_residual_block_adds_its_body_to_what_it_got() -> None:
    torch.manual_seed(0)
    block, x = ResidualBlock(3), photos(2, 16)[0]
    difference = block(x) - x
    assert 0.02 < difference.abs().mean() / x.abs().mean() < 0.5  # a small part at first
    torch.testing.assert_close(difference, block.body(x), atol=1e-5, rtol=0)
    nn.init.zeros_(block.body[-1].gain)
    nn.init.zeros_(block.body[-1].bias)
    assert torch.equal(block(x), x)
