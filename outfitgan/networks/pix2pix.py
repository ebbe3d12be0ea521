"""pix2pix's U-Net (Isola et al. 2017): the mask generator, and a baseline without a SAM."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from outfitgan.config import GeneratorConfig, MaskGeneratorConfig
from outfitgan.networks.blocks import ConvBlock, upsample
from outfitgan.networks.initialisation import initialiser_of, normal
from outfitgan.networks.norms import Convolution, convolution_of

_WIDEST = 3  # pix2pix: the width doubles three times, 64 to 512


class UNet(nn.Module):
    """Halvings to a bottleneck and back, each level's features joined to the way up.

    Ours: nearest-neighbour upsampling with a convolution where pix2pix transposes one, and no dropout: the same request
    gives the same answer.
    """

    def __init__(
        self,
        inputs: int,  # channels
        outputs: int,  # channels
        width: int,  # channels after the first halving
        depth: int,  # halvings
        convolution: Convolution,  # and its norm
    ) -> None:
        super().__init__()
        widths = [width << min(level, _WIDEST) for level in range(depth)]
        self.downs = nn.ModuleList()
        for level, (a, b) in enumerate(zip([inputs, *widths], widths, strict=False)):
            last = level == depth - 1  # the bottleneck may be one position wide, where a norm leaves nothing
            plain = level == 0 or last
            half = nn.Conv2d(a, b, 4, 2, padding=1) if plain else convolution(a, b, 4, 2)
            self.downs.append(nn.Sequential(half, nn.LeakyReLU(0.2)))
        self.ups = nn.ModuleList()
        for level in reversed(range(depth)):
            a = widths[level] * (1 if level == depth - 1 else 2)  # the skip doubles it
            b = widths[level - 1] if level else outputs
            self.ups.append(ConvBlock(a, b, 1, convolution) if level else nn.Conv2d(a, b, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, S, S) of x (B, inputs, S, S); S is a multiple of 2 to the depth."""
        skips = []
        for down in self.downs:
            x = down(x)  # (B, C, S / 2, S / 2), then on
            skips.append(x)
        skips.pop()
        for up in self.ups:
            x = up(upsample(x))  # twice the side
            if skips:
                x = torch.cat([x, skips.pop()], dim=1)
        return x


class Pix2PixGenerator(nn.Module):
    """The baseline: a U-Net over source and mask, concatenated."""

    def __init__(
        self,
        config: GeneratorConfig,  # width, norm and initialisation
        image_size: int,  # side in pixels, which bounds the depth
    ) -> None:
        super().__init__()
        depth = min(8, image_size.bit_length() - 2)  # pix2pix: 8 halvings at 256x256; here down to 2x2 at the least
        while image_size % (1 << depth):
            depth -= 1
        self.network = UNet(4, 3, config.width, depth, convolution_of(config.norm))
        self.apply(initialiser_of(config.initialisation))

    def forward(self, source: Tensor, mask: Tensor) -> Tensor:
        """Return (B, 3, S, S) in [-1, 1] of source (B, 3, S, S) in [-1, 1] and mask (B, 1, S, S) of 0 and 1."""
        return torch.tanh(self.network(torch.cat([source - 1, mask], dim=1)))


class MaskGenerator(nn.Module):
    """The paper's pix2pix strategy for reference masks: a source item to the silhouette of one target kind."""

    def __init__(
        self,
        config: MaskGeneratorConfig,  # width and depth
        convolution: Convolution,  # and its norm
    ) -> None:
        super().__init__()
        self.network = UNet(3, 1, config.width, config.depth, convolution)
        self.apply(normal)

    def forward(self, source: Tensor) -> Tensor:
        """Return the silhouette's logit (B, 1, S, S) of source (B, 3, S, S) in [-1, 1]."""
        logits: Tensor = self.network(source - 1)
        return logits
