"""The generator of one target kind: encoder, SAM, decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outfitgan.config import ModelConfig
from outfitgan.networks.alignment import SemanticAlignment
from outfitgan.networks.blocks import ConvBlock, Downsampler, ResidualBlock, initialise, upsample


class Generator(nn.Module):
    """G(source, mask) = decode(encode([source, mask]), SAM(source, mask)).

    Ours: every level of the decoder sees the mask at its own resolution, which keeps the silhouette sharp.
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
        self.ups = nn.ModuleList(ConvBlock(widths[k + 1] + 1, widths[k]) for k in reversed(range(config.downsamples)))
        self.head = nn.Conv2d(config.width + 1, 3, 3, padding=1)
        self.apply(initialise)
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
        for level, up in zip(reversed(range(len(self.ups))), self.ups, strict=True):
            silhouette = F.avg_pool2d(mask, 1 << level) if level else mask  # (B, 1, 2s, 2s)
            x = up(torch.cat([upsample(x), silhouette], dim=1))
            x = self._fuse(x, warped, level)
        return torch.tanh(self.head(torch.cat([x, mask], dim=1)))

    def _fuse(self, x: Tensor, warped: Tensor, level: int) -> Tensor:
        return self.fuse(torch.cat([x, warped], dim=1)) if level == self.fuse_level else x
