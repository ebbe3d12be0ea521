"""The few layers that the networks are made of."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """Scale each position's feature vector to unit root mean square, in FP32.

    Ours: instance normalisation, usual in pix2pixHD, divides a flat garment's colour out of its features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W), normalised over C."""
        wide = x.float()  # an FP16 sum of squares overflows at |x| = 16
        scale = torch.rsqrt(wide.square().mean(dim=1, keepdim=True) + 1e-6)  # (B, 1, H, W)
        return (wide * scale).to(x.dtype) * self.gain


class ConvBlock(nn.Sequential):
    """3x3 convolution, normalisation, leaky ReLU; `stride` 2 halves the grid."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1),
            ChannelNorm(outputs),
            nn.LeakyReLU(0.2),
        )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvBlock(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1),
            ChannelNorm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x + body(x), (B, C, H, W)."""
        y: Tensor = self.body(x)
        return x + y


class Downsampler(nn.Sequential):
    """A full-resolution convolution, then `steps` halvings that double the width up to `limit`."""

    def __init__(self, inputs: int, width: int, steps: int, limit: int) -> None:
        widths = [min(width << step, limit) for step in range(steps + 1)]
        halvings = [ConvBlock(a, b, stride=2) for a, b in pairwise(widths)]
        super().__init__(ConvBlock(inputs, widths[0]), *halvings)
        self.outputs = widths[-1]


def upsample(x: Tensor) -> Tensor:
    """Double the grid by nearest neighbour (B, C, H, W) -> (B, C, 2H, 2W): no checkerboard."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def initialise(module: nn.Module) -> None:
    """Draw convolution and linear weights as He et al. do for leaky ReLU; biases start at zero."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, a=0.2)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
