"""Normalisations, each a small class over (B, C, H, W); `norm_of` turns a config's word into one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from outfitgan.config import Norm

NormFactory = Callable[[int], nn.Module]
"""Makes the normalisation of so many channels."""


class ChannelNorm(nn.Module):
    """Scale each position's feature vector to unit root mean square, in FP32.

    Ours: instance normalisation, usual in pix2pixHD, divides a flat garment's colour out of its features.
    """

    def __init__(
        self,
        channels: int,  # of its input
    ) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))

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
    ) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W), normalised over H and W."""
        wide = x.float()
        centred = wide - wide.mean(dim=(2, 3), keepdim=True)  # (B, C, H, W)
        scale = torch.rsqrt(centred.square().mean(dim=(2, 3), keepdim=True) + 1e-5)  # (B, C, 1, 1)
        return (centred * scale).to(x.dtype) * self.gain + self.shift


_NORMS: dict[Norm, NormFactory] = {"channel": ChannelNorm, "instance": InstanceNorm}


def norm_of(name: Norm) -> NormFactory:
    """Return the normalisation that a config names."""
    return _NORMS[name]
