"""The few layers that the networks are made of."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from outfitgan.networks.norms import Convolution, WeightNormConv2d

_BRANCH = 0.2
"""What a residual block's branch begins with, beside an identity of 1."""


class ConvBlock(nn.Sequential):
    """3x3 convolution with its norm, leaky ReLU; `stride` 2 halves the grid."""

    def __init__(
        self,
        inputs: int,  # channels
        outputs: int,  # channels
        stride: int = 1,  # 2 halves the grid
        convolution: Convolution = WeightNormConv2d,  # and its norm
    ) -> None:
        super().__init__(convolution(inputs, outputs, stride=stride), nn.LeakyReLU(0.2))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity, whose part is small at first (as Brock et al. 2021 do)."""

    def __init__(
        self,
        channels: int,  # in and out
        convolution: Convolution = WeightNormConv2d,  # and its norm
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvBlock(channels, channels, convolution=convolution),
            convolution(channels, channels, gain=_BRANCH),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x + body(x), (B, C, H, W)."""
        y: Tensor = self.body(x)
        return x + y


class Downsampler(nn.Sequential):
    """A full-resolution convolution, then `steps` halvings that double the width up to `limit`."""

    def __init__(
        self,
        inputs: int,  # channels
        width: int,  # channels at full resolution
        steps: int,  # halvings of the grid
        limit: int,  # most channels
        convolution: Convolution = WeightNormConv2d,  # and its norm
    ) -> None:
        widths = [min(width << step, limit) for step in range(steps + 1)]
        halvings = [ConvBlock(a, b, 2, convolution) for a, b in pairwise(widths)]
        super().__init__(ConvBlock(inputs, widths[0], 1, convolution), *halvings)
        self.outputs = widths[-1]


def upsample(x: Tensor) -> Tensor:
    """Double the grid by nearest neighbour (B, C, H, W) -> (B, C, 2H, 2W): no checkerboard."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
