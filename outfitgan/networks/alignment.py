"""The Semantic Alignment Module (SAM): where on the source each part of the target is taken from."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outfitgan.config import AlignmentConfig, GeneratorConfig
from outfitgan.networks.blocks import Downsampler, ResidualBlock
from outfitgan.networks.cues import CUES, around, presence_of, with_cues, within
from outfitgan.networks.initialisation import initialiser_of
from outfitgan.networks.norms import Convolution, convolution_of
from outfitgan.ops.correlate.dispatch import best_match, correlate, match_weights

_HEADROOM = 0.95  # keeps atanh finite at pure white and black
WHITE = math.atanh(_HEADROOM)
_CUE_GAIN = 10.0  # how much the cues outweigh the features before any training


class Source(NamedTuple):
    """What the correlation needs of a source item, the same for every target."""

    keys: Tensor  # (B, C, g, g)
    values: Tensor  # (B, Cv, g, g), the last three being colours


class CentredProjection(nn.Module):
    """A 1x1 convolution whose outputs have zero mean over channels, by its weights alone."""

    def __init__(
        self,
        inputs: int,  # channels
        outputs: int,  # channels
    ) -> None:
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

    Also ours: ground takes no part. Its cells, of the source and of the target, are vectors of zeros, which `correlate`
    leaves out.

    Also ours: the source's colours, as logits of the generator's tanh, are warped beside its features, as CoCosNet
    warps pixels. Normalised features hold little of a flat garment's brightness, and L1 on a warped colour teaches the
    correlation directly.
    """

    def __init__(
        self,
        config: GeneratorConfig,  # of the generator that it is part of
        planes: int = 1,  # channels of the target's description, the mask first
    ) -> None:
        super().__init__()
        alignment, convolution = config.alignment, convolution_of(config.norm)
        self.temperature = alignment.temperature
        self.cell = 1 << alignment.downsamples
        features = branch_width(alignment)
        self.source_branch = feature_branch(3, alignment, convolution)
        self.mask_branch = feature_branch(planes, alignment, convolution)
        self.value_projection = nn.Conv2d(features, alignment.value_channels - 3, 1)
        self.apply(initialiser_of(config.initialisation))
        self.source_projection = CentredProjection(features + CUES, alignment.match_channels)
        self.target_projection = CentredProjection(features + CUES, alignment.match_channels)
        with torch.no_grad():
            self.source_projection.weight[:, features:] *= _CUE_GAIN
            self.target_projection.weight[:, features:] = self.source_projection.weight[:, features:]

    def forward(self, source: Tensor, mask: Tensor) -> Tensor:
        """Warp source (B, 3, S, S) onto mask (B, planes, S, S); return features (B, Cv, g, g)."""
        return self.warp(self.project_target(self.mask_branch(mask), mask), self.read(source))

    def match(self, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the warped features and, per grid cell, the best source cell (B, g, g) and its weight."""
        queries, item = self.project_target(self.mask_branch(mask), mask), self.read(source)
        index, weight = best_match(queries, item.keys, self.temperature)
        return self.warp(queries, item), index, weight

    def look(self, source: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Return the weights (B, P, g, g) over the source grid of positions (B, P) of the target grid, adding to 1."""
        queries = self.project_target(self.mask_branch(mask), mask)
        return match_weights(queries, self.read(source).keys, self.temperature, positions)

    def read(self, source: Tensor) -> Source:
        """Describe a source item (B, 3, S, S) in [-1, 1]."""
        features = self.source_branch(source - 1)  # (B, F, g, g); white ground is 0, as padding is
        learned = self.value_projection(features)  # (B, Cv - 3, g, g)
        # Under autocast a convolution's dtype is not its input's.
        colours = colour_logits(source, self.cell).to(learned.dtype)  # (B, 3, g, g)
        values = torch.cat([learned, colours], dim=1)  # (B, Cv, g, g)
        presence = presence_of(source, self.cell)  # (B, 1, g, g)
        keys: Tensor = self.source_projection(with_cues(features, presence))  # (B, C, g, g)
        return Source(keys * within(presence).to(keys.dtype), values)

    def project_target(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return queries (B, C, g, g) of `mask_branch`'s features (B, F, g, g) of mask (B, planes, S, S)."""
        presence = F.avg_pool2d(mask[:, :1], self.cell)  # (B, 1, g, g)
        queries: Tensor = self.target_projection(with_cues(features, presence))
        return queries * around(presence).to(queries.dtype)

    def warp(self, queries: Tensor, item: Source) -> Tensor:
        """Carry the item's values (B, Cv, g, g) to the queries' positions (B, C, H, W): (B, Cv, H, W)."""
        return correlate(queries, item.keys, item.values, self.temperature)


class SimpleConcatenation(nn.Module):
    """The SAM's ablation: the same branches and values, concatenated where they lie; nothing is warped."""

    def __init__(
        self,
        config: GeneratorConfig,  # of the generator that it is part of
    ) -> None:
        super().__init__()
        alignment, convolution = config.alignment, convolution_of(config.norm)
        self.cell = 1 << alignment.downsamples
        features = branch_width(alignment)
        self.source_branch = feature_branch(3, alignment, convolution)
        self.mask_branch = feature_branch(1, alignment, convolution)
        self.value_projection = nn.Conv2d(2 * features, alignment.value_channels - 3, 1)
        self.apply(initialiser_of(config.initialisation))

    def forward(self, source: Tensor, mask: Tensor) -> Tensor:
        """Return features (B, Cv, g, g) of source (B, 3, S, S) and mask (B, 1, S, S), each in its own place."""
        both = torch.cat([self.source_branch(source - 1), self.mask_branch(mask)], dim=1)  # (B, 2F, g, g)
        return torch.cat([self.value_projection(both), colour_logits(source, self.cell)], dim=1)


Alignment = SemanticAlignment | SimpleConcatenation


def alignment_of(config: GeneratorConfig) -> Alignment:
    """Return the alignment that a config names."""
    return SemanticAlignment(config) if config.alignment.kind == "semantic" else SimpleConcatenation(config)


def branch_width(config: AlignmentConfig) -> int:
    """Return F, the channels of a feature branch."""
    return min(config.width << config.downsamples, config.match_channels)


def feature_branch(inputs: int, config: AlignmentConfig, convolution: Convolution) -> nn.Sequential:
    """Return the convolutions from (B, inputs, S, S) to features (B, F, g, g)."""
    down = Downsampler(inputs, config.width, config.downsamples, config.match_channels, convolution)
    return nn.Sequential(down, ResidualBlock(branch_width(config), convolution))


def colour_logits(image: Tensor, cell: int) -> Tensor:
    """Return each cell's mean colour of image (B, 3, S, S) in [-1, 1] before a tanh, from WHITE on: (B, 3, g, g)."""
    return torch.atanh(F.avg_pool2d(image, cell) * _HEADROOM) - WHITE  # ground is 0, as padding is


def cells(index: Tensor, width: int) -> Tensor:
    """Turn flat source positions (B, H, W) into (row, column) int32 (B, H, W, 2)."""
    rows = torch.div(index, width, rounding_mode="floor")
    return torch.stack([rows, index - rows * width], dim=-1).to(torch.int32)
