"""A generator of twice the resolution: the generator at half size and one more stage. Ours, beyond the paper."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outfitgan.config import GeneratorConfig
from outfitgan.networks.alignment import Alignment, SemanticAlignment
from outfitgan.networks.blocks import ConvBlock, ResidualBlock, upsample
from outfitgan.networks.generator import Generator
from outfitgan.networks.initialisation import initialiser_of
from outfitgan.networks.norms import convolution_of

_BLOCKS = 2


class HighResolutionGenerator(nn.Module):
    """pix2pixHD's local enhancer around OutfitGAN's generator: 512x512 through 256x256.

    The enhancer's features at half size are added to the generator's own; what it paints is added to the sketch.
    """

    def __init__(
        self,
        config: GeneratorConfig,  # of the generator inside, and of the stage around it
    ) -> None:
        super().__init__()
        convolution, width = convolution_of(config.norm), config.width
        self.front = ConvBlock(4, max(width // 2, 4), convolution=convolution)
        self.down = ConvBlock(max(width // 2, 4), width, stride=2, convolution=convolution)
        self.blocks = nn.Sequential(*(ResidualBlock(width, convolution) for _ in range(_BLOCKS)))
        self.up = ConvBlock(width, max(width // 2, 4), convolution=convolution)
        self.silhouette = nn.Conv2d(1, max(width // 2, 4), 3, padding=1)
        self.head = nn.Conv2d(max(width // 2, 4), 3, 3, padding=1)
        self.apply(initialiser_of(config.initialisation))
        with torch.no_grad():
            self.head.weight *= 0.1  # begin near the sketch
        self.base = Generator(config)

    def forward(self, source: Tensor, mask: Tensor) -> Tensor:
        """Return (B, 3, S, S) in [-1, 1] of source (B, 3, S, S) in [-1, 1] and mask (B, 1, S, S) of 0 and 1."""
        features, colours = self.base.paint(*halved(source, mask))  # (B, width, S/2, S/2), (B, 3, S/2, S/2)
        coarse = self.base.head(features) + colours  # (B, 3, S/2, S/2) before the tanh
        x = self.down(self.front(torch.cat([source - 1, mask], dim=1))) + features  # (B, width, S/2, S/2)
        x = self.up(upsample(self.blocks(x))) + self.silhouette(mask)  # (B, width/2, S, S)
        return torch.tanh(self.head(x) + F.interpolate(coarse, scale_factor=2.0, mode="bilinear"))

    @property
    def alignment(self) -> HalvedAlignment:
        """The SAM, which sees source and mask at half size."""
        return HalvedAlignment(self.base.alignment)


class HalvedAlignment(nn.Module):
    """A SAM behind the halving of its inputs."""

    def __init__(
        self,
        alignment: Alignment,  # at half the size
    ) -> None:
        super().__init__()
        self.alignment = alignment

    def forward(self, source: Tensor, mask: Tensor) -> Tensor:
        """Return what the SAM makes of source (B, 3, S, S) and mask (B, 1, S, S) at half size."""
        warped: Tensor = self.alignment(*halved(source, mask))
        return warped

    def match(self, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return warped (B, Cv, g, g), and per grid cell the best source cell (B, g, g) and its weight."""
        return cast(SemanticAlignment, self.alignment).match(*halved(source, mask))

    def look(self, source: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Return where on the source grid each of positions (B, P) of the target grid looks: (B, P, g, g)."""
        return cast(SemanticAlignment, self.alignment).look(*halved(source, mask), positions)


def halved(source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return both at half their side; a mask's cell of two or more of its four pixels is garment."""
    return F.avg_pool2d(source, 2), (F.avg_pool2d(mask, 2) >= 0.5).to(mask.dtype)
