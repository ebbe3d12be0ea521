"""The generator of one target kind: encoder, SAM, decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outfitgan.config import ModelConfig
from outfitgan.networks.alignment import WHITE, SemanticAlignment
from outfitgan.networks.blocks import ConvBlock, Downsampler, ResidualBlock, initialise, upsample


class Generator(nn.Module):
    """G(source, mask) = decode(encode([source, mask]), SAM(source, mask)).

    Ours: every level of the decoder sees the mask at its own resolution, which keeps the silhouette sharp; and the
    decoder paints over a sketch: the warped colours of the source inside the mask, a white ground outside.
    """

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        config = model.generator
        widths = [config.width << step for step in range(config.downsamples + 1)]
        self.encoder = Downsampler(4, config.width, config.downsamples, limit=widths[-1])
        self.trunk = nn.Sequential(*(ResidualBlock(widths[-1]) for _ in range(config.residual_blocks)))
        self.fuse_level = config.alignment.downsamples
        fused = widths[self.fuse_level]
        self.fuse = ConvBlock(fused + config.alignment.value_channels, fused)
        levels = list(reversed(range(config.downsamples)))
        self.ups = nn.ModuleList(ConvBlock(widths[level + 1], widths[level]) for level in levels)
        self.silhouettes = nn.ModuleList(nn.Conv2d(1, widths[level], 3, padding=1) for level in levels)
        self.head = nn.Conv2d(config.width, 3, 3, padding=1)
        self.apply(initialise)
        with torch.no_grad():
            self.head.weight *= 0.1  # begin near the sketch
        self.alignment = SemanticAlignment(config.alignment)

    def forward(self, source: Tensor, mask: Tensor) -> Tensor:
        """Generate the target item.

        Args:
            source: (B, 3, S, S) source item in [-1, 1], on a white ground (1).
            mask: (B, 1, S, S) reference mask of the target, 0 or 1.

        Returns:
            (B, 3, S, S) in [-1, 1].

        """
        warped = self.alignment(source, mask)  # (B, Cv, g, g)
        x = self.encoder(torch.cat([source - 1, mask], dim=1))  # (B, C, s, s); white ground is 0, as padding is
        x = self._fuse(self.trunk(x), warped, len(self.ups))
        for level, up, silhouette in zip(reversed(range(len(self.ups))), self.ups, self.silhouettes, strict=True):
            x = up(upsample(x)) + silhouette(F.avg_pool2d(mask, 1 << level))  # (B, C/2, 2s, 2s)
            x = self._fuse(x, warped, level)
        logits: Tensor = self.head(x)  # (B, 3, S, S)
        return torch.tanh(logits + self._sketch(warped, mask))

    def _sketch(self, warped: Tensor, mask: Tensor) -> Tensor:
        scale = float(1 << self.fuse_level)
        colours = F.interpolate(warped[:, -3:], scale_factor=scale, mode="bilinear")  # (B, 3, S, S) before the tanh
        return colours * mask + WHITE * (1 - mask)

    def _fuse(self, x: Tensor, warped: Tensor, level: int) -> Tensor:
        return self.fuse(torch.cat([x, warped], dim=1)) if level == self.fuse_level else x
