"""A baseline after pix2pixHD's global generator (Wang et al. 2018), without a SAM."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from outfitgan.config import GeneratorConfig
from outfitgan.networks.blocks import ConvBlock, ResidualBlock
from outfitgan.networks.initialisation import initialiser_of
from outfitgan.networks.norms import Convolution, convolution_of


class Pix2PixHdGenerator(nn.Module):
    """7x7 convolutions at both ends, halvings, residual blocks, and the way up.

    Ours: nearest-neighbour upsampling with a convolution where pix2pixHD transposes one.
    """

    def __init__(
        self,
        config: GeneratorConfig,  # width, depth, norm and initialisation
    ) -> None:
        super().__init__()
        convolution: Convolution = convolution_of(config.norm)
        widths = [config.width << step for step in range(config.downsamples + 1)]
        first = [convolution(4, widths[0], 7), nn.LeakyReLU(0.2)]
        downs = [ConvBlock(a, b, stride=2, convolution=convolution) for a, b in pairwise(widths)]
        blocks = [ResidualBlock(widths[-1], convolution) for _ in range(config.residual_blocks)]
        ups: list[nn.Module] = []
        for level in reversed(range(config.downsamples)):
            ups += [nn.Upsample(scale_factor=2.0), ConvBlock(widths[level + 1], widths[level], convolution=convolution)]
        self.network = nn.Sequential(*first, *downs, *blocks, *ups, nn.Conv2d(widths[0], 3, 7, padding=3))
        self.apply(initialiser_of(config.initialisation))

    def forward(self, source: Tensor, mask: Tensor) -> Tensor:
        """Return (B, 3, S, S) in [-1, 1] of source (B, 3, S, S) in [-1, 1] and mask (B, 1, S, S) of 0 and 1."""
        return torch.tanh(self.network(torch.cat([source - 1, mask], dim=1)))
