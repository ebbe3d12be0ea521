"""Convolutions whose outputs keep their scale, each by a norm of its own; `convolution_of` takes a config's word.

Weight normalisation norms the weights, so that at inference nothing is left of it; the others norm what comes out.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outfitgan.config import Norm

LEAKY_GAIN = math.sqrt(2 / (1 + 0.2**2))
"""What a leaky ReLU of slope 0.2 takes from the root mean square (He et al. 2015)."""


class Convolution(Protocol):
    """Makes a convolution with its norm."""

    def __call__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, gain: float = 1.0) -> nn.Module:
        """Return one of `inputs` to `outputs` channels whose outputs begin at a root mean square of about `gain`."""


class WeightNormConv2d(nn.Conv2d):
    """A convolution by weights of norm 1, each output channel's, times a learned gain (Salimans and Kingma 2016).

    Ours: not the activations are normed, so flat white has small features and small gradients, where norms magnify
    both. The weights' mean stays: without it, as in weight standardisation, a grey garment's brightness is lost.
    """

    def __init__(
        self,
        inputs: int,  # channels
        outputs: int,  # channels
        kernel: int = 3,  # side
        stride: int = 1,  # 2 halves the grid
        gain: float = 1.0,  # of the root mean square, for inputs of 1 after a leaky ReLU
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=(kernel - 1) // 2)
        self.gain = nn.Parameter(torch.full((outputs, 1, 1, 1), gain * LEAKY_GAIN))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H, W) of x (B, inputs, H, W)."""
        return F.conv2d(x, self.normed(), self.bias, self.stride, self.padding)

    def normed(self) -> Tensor:
        """Return the weights as they multiply, (outputs, inputs, kernel, kernel)."""
        wide = self.weight.float()  # their squares are small numbers in FP16
        norm: Tensor = torch.linalg.vector_norm(wide, dim=(1, 2, 3), keepdim=True)  # (outputs, 1, 1, 1)
        return (wide / norm.clamp_min(1e-12)).to(self.gain.dtype) * self.gain


class ChannelNorm(nn.Module):
    """Scale each position's feature vector to unit root mean square, in FP32.

    Ours: instance normalisation, usual in pix2pixHD, divides a flat garment's colour out of its features.
    """

    def __init__(
        self,
        channels: int,  # of its input
        gain: float = 1.0,  # before any training
    ) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((channels, 1, 1), gain))

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W), normalised over C."""
        wide = x.float()  # an FP16 sum of squares overflows at |x| = 16
        scale = torch.rsqrt(wide.square().mean(dim=1, keepdim=True) + 1e-6)  # (B, 1, H, W)
        return (wide * scale).to(x.dtype) * self.gain


class InstanceNorm(nn.Module):
    """Standardise each channel over its positions, in FP32 (Ulyanov et al. 2016), with a learned gain and shift."""

    def __init__(
        self,
        channels: int,  # of its input
        gain: float = 1.0,  # before any training
    ) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((channels, 1, 1), gain))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W), normalised over H and W."""
        wide = x.float()
        centred = wide - wide.mean(dim=(2, 3), keepdim=True)  # (B, C, H, W)
        scale = torch.rsqrt(centred.square().mean(dim=(2, 3), keepdim=True) + 1e-5)  # (B, C, 1, 1)
        return (centred * scale).to(x.dtype) * self.gain + self.shift


def _normed(norm: type[ChannelNorm | InstanceNorm]) -> Convolution:
    def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, gain: float = 1.0) -> nn.Module:
        plain = nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - 1) // 2)
        return nn.Sequential(plain, norm(outputs, gain))

    return convolution


_CONVOLUTIONS: dict[Norm, Convolution] = {
    "weight": WeightNormConv2d,
    "channel": _normed(ChannelNorm),
    "instance": _normed(InstanceNorm),
}


def convolution_of(name: Norm) -> Convolution:
    """Return the convolution with the norm that a config names."""
    return _CONVOLUTIONS[name]
