"""The Semantic Alignment Module (SAM): where on the source each part of the target is taken from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outfitgan.config import AlignmentConfig
from outfitgan.networks.blocks import Downsampler, ResidualBlock, initialise, with_coordinates
from outfitgan.ops.correlate import best_match, correlate


class CentredProjection(nn.Module):
    """A 1x1 convolution whose outputs have zero mean over channels, by its weights alone."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H, W), centred."""
        return F.conv2d(x, self.weight - self.weight.mean(0), self.bias - self.bias.mean())


class SemanticAlignment(nn.Module):
    """Two feature branches, their cosine correlation, and a warp of the source's features.

    Ours: both branches also see the coordinates of their pixels; a binary mask alone is flat inside, and flat
    regions all match the same place.
    """

    def __init__(self, config: AlignmentConfig) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.source_branch = self._branch(3, config)
        self.mask_branch = self._branch(1, config)
        features = self._features(config)
        self.source_projection = CentredProjection(features, config.match_channels)
        self.target_projection = CentredProjection(features, config.match_channels)
        self.value_projection = nn.Conv2d(features, config.value_channels, 1)
        self.apply(initialise)

    def forward(self, source: Tensor, mask: Tensor) -> Tensor:
        """Warp source (B, 3, S, S) onto mask (B, 1, S, S); return features (B, Cv, g, g)."""
        target, keys, values = self._project(source, mask)
        return correlate(target, keys, values, self.temperature)

    def match(self, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the warped features and, per grid cell, the best source cell (B, g, g) and its weight."""
        target, keys, values = self._project(source, mask)
        warped = correlate(target, keys, values, self.temperature)
        index, weight = best_match(target, keys, self.temperature)
        return warped, index, weight

    def _project(self, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        item = self.source_branch(with_coordinates(source - 1))  # (B, F, g, g); white ground is 0, as padding is
        silhouette = self.mask_branch(with_coordinates(mask))  # (B, F, g, g)
        target = self.target_projection(silhouette)  # (B, C, g, g)
        return target, self.source_projection(item), self.value_projection(item)

    @staticmethod
    def _features(config: AlignmentConfig) -> int:
        return min(config.width << config.downsamples, config.match_channels)

    @classmethod
    def _branch(cls, inputs: int, config: AlignmentConfig) -> nn.Sequential:
        down = Downsampler(inputs + 2, config.width, config.downsamples, config.match_channels)
        return nn.Sequential(down, ResidualBlock(cls._features(config)))


def cells(index: Tensor, width: int) -> Tensor:
    """Turn flat source positions (B, H, W) into (row, column) int32 (B, H, W, 2)."""
    rows = torch.div(index, width, rounding_mode="floor")
    return torch.stack([rows, index - rows * width], dim=-1).to(torch.int32)
