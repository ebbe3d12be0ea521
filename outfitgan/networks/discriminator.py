"""Multi-scale patch discriminator of one target kind (after pix2pixHD), conditional on the reference mask."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outfitgan.config import DiscriminatorConfig, ModelConfig
from outfitgan.networks.blocks import ConvBlock
from outfitgan.networks.initialisation import he


class PatchDiscriminator(nn.Sequential):
    """Strided convolutions to one score per patch."""

    def __init__(
        self,
        config: DiscriminatorConfig,  # width and depth
    ) -> None:
        widths = [config.width << min(layer, 3) for layer in range(config.layers)]
        layers = [ConvBlock(a, b, stride=2) for a, b in pairwise(widths)]
        first = nn.Sequential(nn.Conv2d(4, widths[0], 4, 2, padding=1), nn.LeakyReLU(0.2))
        super().__init__(first, *layers, ConvBlock(widths[-1], widths[-1]), nn.Conv2d(widths[-1], 1, 3, padding=1))


class MultiScaleDiscriminator(nn.Module):
    """One patch discriminator per scale; each scale halves the image."""

    def __init__(
        self,
        config: DiscriminatorConfig,  # and how many scales
    ) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(config) for _ in range(config.scales))
        self.apply(he)

    def forward(self, image: Tensor, mask: Tensor) -> list[Tensor]:
        """Score image (B, 3, S, S) under mask (B, 1, S, S); return one (B, 1, h, w) map per scale."""
        x = torch.cat([image - 1, mask], dim=1)  # (B, 4, S, S)
        scores = []
        for scale in self.scales:
            scores.append(scale(x))
            x = F.avg_pool2d(x, 2)
        return scores


class OutfitDiscriminator(nn.Module):
    """One multi-scale discriminator per target kind."""

    def __init__(
        self,
        model: ModelConfig,  # its targets and its discriminators' config
    ) -> None:
        super().__init__()
        self.targets = model.targets
        self.items = nn.ModuleDict({kind: MultiScaleDiscriminator(model.discriminator) for kind in model.targets})

    def forward(self, images: Tensor, masks: Tensor) -> list[list[Tensor]]:
        """Score images (B, T, 3, S, S) under masks (B, T, 1, S, S); per target, one (B, 1, h, w) map per scale."""
        return [self.items[kind](images[:, i], masks[:, i]) for i, kind in enumerate(self.targets)]
