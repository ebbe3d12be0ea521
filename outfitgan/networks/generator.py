"""The generator of one target kind: encoder, SAM, decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outfitgan.config import GeneratorConfig
from outfitgan.networks.alignment import WHITE, alignment_of
from outfitgan.networks.blocks import ConvBlock, Downsampler, ResidualBlock, upsample
from outfitgan.networks.initialisation import initialiser_of
from outfitgan.networks.norms import convolution_of


class Decoder(nn.Module):
    """From the bottom of the encoder to full resolution, with the SAM's features fused in on the way.

    Ours: every level sees the mask at its own resolution, which keeps the silhouette sharp.
    """

    def __init__(
        self,
        config: GeneratorConfig,  # of the generator that it is part of
    ) -> None:
        super().__init__()
        convolution = convolution_of(config.norm)
        widths = [config.width << step for step in range(config.downsamples + 1)]
        self.fuse_level = config.alignment.downsamples
        fused = widths[self.fuse_level]
        self.fuse = ConvBlock(fused + config.alignment.value_channels, fused, convolution=convolution)
        levels = list(reversed(range(config.downsamples)))
        self.ups = nn.ModuleList(
            ConvBlock(widths[level + 1], widths[level], convolution=convolution) for level in levels
        )
        self.silhouettes = nn.ModuleList(nn.Conv2d(1, widths[level], 3, padding=1) for level in levels)

    def forward(self, x: Tensor, warped: Tensor, mask: Tensor) -> Tensor:
        """Return (B, width, S, S) of bottom features (B, C, s, s), warped (B, Cv, g, g) and mask (B, 1, S, S)."""
        x = self._fuse(x, warped, len(self.ups))
        for level, up, silhouette in zip(reversed(range(len(self.ups))), self.ups, self.silhouettes, strict=True):
            x = up(upsample(x)) + silhouette(F.avg_pool2d(mask, 1 << level))  # (B, C/2, 2s, 2s)
            x = self._fuse(x, warped, level)
        return x

    def _fuse(self, x: Tensor, warped: Tensor, level: int) -> Tensor:
        return self.fuse(torch.cat([x, warped], dim=1)) if level == self.fuse_level else x


class Generator(nn.Module):
    """G(source, mask) = decode(encode([source, mask]), SAM(source, mask)).

    Ours: the decoder paints over a sketch: the warped colours of the source inside the mask, a white ground outside.
    """

    def __init__(
        self,
        config: GeneratorConfig,  # widths, depth and alignment
    ) -> None:
        super().__init__()
        convolution = convolution_of(config.norm)
        bottom = config.width << config.downsamples
        self.encoder = Downsampler(4, config.width, config.downsamples, bottom, convolution)
        self.trunk = nn.Sequential(*(ResidualBlock(bottom, convolution) for _ in range(config.residual_blocks)))
        self.decoder = Decoder(config)
        self.head = nn.Conv2d(config.width, 3, 3, padding=1)
        self.apply(initialiser_of(config.initialisation))
        with torch.no_grad():
            self.head.weight *= 0.1  # begin near the sketch
        self.alignment = alignment_of(config)

    def forward(self, source: Tensor, mask: Tensor) -> Tensor:
        """Generate the target item.

        Args:
            source: (B, 3, S, S) source item in [-1, 1], on a white ground (1).
            mask: (B, 1, S, S) reference mask of the target, 0 or 1.

        Returns:
            (B, 3, S, S) in [-1, 1].

        """
        features, colours = self.paint(source, mask)  # (B, width, S, S), (B, 3, S, S)
        logits: Tensor = self.head(features)  # (B, 3, S, S)
        return torch.tanh(logits + colours)

    def paint(self, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the decoder's features (B, width, S, S) and the sketch (B, 3, S, S) that they are painted over."""
        warped = self.alignment(source, mask)  # (B, Cv, g, g)
        x = self.encoder(torch.cat([source - 1, mask], dim=1))  # (B, C, s, s); white ground is 0, as padding is
        return self.decoder(self.trunk(x), warped, mask), sketch(warped, mask)


def sketch(warped: Tensor, mask: Tensor) -> Tensor:
    """Return colours before the tanh (B, 3, S, S): of warped (B, Cv, g, g) inside mask (B, 1, S, S), white outside."""
    scale = float(mask.shape[-1] // warped.shape[-1])
    colours = F.interpolate(warped[:, -3:], scale_factor=scale, mode="bilinear")  # (B, 3, S, S), from white on
    return colours * mask + WHITE
