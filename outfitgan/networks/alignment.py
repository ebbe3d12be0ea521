"""The Semantic Alignment Module (SAM): where on the source each part of the target is taken from."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outfitgan.config import AlignmentConfig
from outfitgan.networks.blocks import Downsampler, ResidualBlock, initialise
from outfitgan.ops.correlate import best_match, correlate

_OCTAVES = (1, 2, 4, 8)
CUES = 4 * len(_OCTAVES) + 1
_INK = 5.0  # a fifth of the way from white to a saturated or dark colour counts as garment
_HEADROOM = 0.95  # keeps atanh finite at pure white and black
WHITE = math.atanh(_HEADROOM)
_CUE_GAIN = 10.0  # how much the cues outweigh the features before any training


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
    """Two feature branches, their cosine correlation, and a warp of the source's features and colours.

    Ours: the correlation also sees where each cell lies and whether it is garment, and starts out matching a garment's
    cells to their own place; a binary mask is flat inside, and flat regions would all match one place.

    Also ours: the source's colours, as logits of the generator's tanh, are warped beside its features, as CoCosNet
    warps pixels. Normalised features hold little of a flat garment's brightness, and L1 on a warped colour teaches the
    correlation directly.
    """

    def __init__(self, config: AlignmentConfig) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.cell = 1 << config.downsamples
        features = min(config.width << config.downsamples, config.match_channels)
        self.source_branch = self._branch(3, config, features)
        self.mask_branch = self._branch(1, config, features)
        self.value_projection = nn.Conv2d(features, config.value_channels - 3, 1)
        self.apply(initialise)
        self.source_projection = CentredProjection(features + CUES, config.match_channels)
        self.target_projection = CentredProjection(features + CUES, config.match_channels)
        with torch.no_grad():
            self.source_projection.weight[:, features:] *= _CUE_GAIN
            self.target_projection.weight[:, features:] = self.source_projection.weight[:, features:]

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
        item = self.source_branch(source - 1)  # (B, F, g, g); white ground is 0, as padding is
        silhouette = self.mask_branch(mask)  # (B, F, g, g)
        ink = (1 - source.amin(dim=1, keepdim=True)) * _INK  # (B, 1, S, S) 0 on the white ground
        presence = F.avg_pool2d(ink.clamp(max=1), self.cell), F.avg_pool2d(mask, self.cell)  # (B, 1, g, g) each
        colours = torch.atanh(F.avg_pool2d(source, self.cell) * _HEADROOM)  # (B, 3, g, g)
        values = torch.cat([self.value_projection(item), colours], dim=1)  # (B, Cv, g, g)
        keys = self.source_projection(with_cues(item, presence[0]))  # (B, C, g, g)
        return self.target_projection(with_cues(silhouette, presence[1])), keys, values

    @staticmethod
    def _branch(inputs: int, config: AlignmentConfig, features: int) -> nn.Sequential:
        down = Downsampler(inputs, config.width, config.downsamples, config.match_channels)
        return nn.Sequential(down, ResidualBlock(features))


def with_cues(x: Tensor, presence: Tensor) -> Tensor:
    """Append presence and the sines and cosines of each cell's row and column: (B, C, H, W) -> (B, C + CUES, H, W)."""
    height, width = x.shape[2:]
    rows, columns = (torch.linspace(-1, 1, n, device=x.device, dtype=x.dtype) for n in (height, width))
    axes = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))  # (2, H, W)
    waves = [wave(axes * (torch.pi / 2 * octave)) for octave in _OCTAVES for wave in (torch.sin, torch.cos)]
    places = torch.cat(waves).expand(x.shape[0], -1, -1, -1)  # (B, CUES - 1, H, W)
    return torch.cat([x, places, 2 * presence - 1], dim=1)


def cells(index: Tensor, width: int) -> Tensor:
    """Turn flat source positions (B, H, W) into (row, column) int32 (B, H, W, 2)."""
    rows = torch.div(index, width, rounding_mode="floor")
    return torch.stack([rows, index - rows * width], dim=-1).to(torch.int32)
