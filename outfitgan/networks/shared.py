"""One generator for all target kinds: the source is read once, every kind in one batched pass.

Ours, beyond the paper, which names the cost of one generator per target kind as a limitation.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from outfitgan.config import ModelConfig
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.networks.alignment import SemanticAlignment, branch_width
from outfitgan.networks.blocks import ConvBlock, ResidualBlock
from outfitgan.networks.generator import Decoder, sketch
from outfitgan.networks.initialisation import initialiser_of
from outfitgan.networks.norms import convolution_of


class SharedGenerator(nn.Module):
    """G(source, masks) = decode(SAM([mask, kind] per target, source)).

    A target's own features come from its mask and kind alone; the source reaches it through the SAM and as the mean of
    its features. So the source's branch runs once an outfit, and there is no encoder per target.
    """

    def __init__(
        self,
        model: ModelConfig,  # its targets and its generator's config
    ) -> None:
        super().__init__()
        config = model.generator
        convolution = convolution_of(config.norm)
        self.targets = model.targets
        grid, bottom = config.alignment.downsamples, config.width << config.downsamples
        features = branch_width(config.alignment)
        self.style = nn.Conv2d(config.alignment.value_channels, bottom, 1)
        widths = [features, *(config.width << level for level in range(grid + 1, config.downsamples + 1))]
        self.down = nn.Sequential(*(ConvBlock(a, b, 2, convolution) for a, b in pairwise(widths)))
        self.enter = ConvBlock(widths[-1], bottom, convolution=convolution)
        self.trunk = nn.Sequential(*(ResidualBlock(bottom, convolution) for _ in range(config.residual_blocks)))
        self.decoder = Decoder(config)
        self.head = nn.Conv2d(config.width, 3, 3, padding=1)
        self.apply(initialiser_of(config.initialisation))
        with torch.no_grad():
            self.head.weight *= 0.1  # begin near the sketch
        self.alignment = SemanticAlignment(config, planes=1 + len(COLLOCATION_ORDER))

    def forward(self, source: Tensor, masks: Tensor) -> Tensor:
        """Generate every target item.

        Args:
            source: (B, 3, S, S) source item in [-1, 1], on a white ground (1).
            masks: (B, T, 1, S, S) reference masks of the targets, 0 or 1.

        Returns:
            (B, T, 3, S, S) in [-1, 1].

        """
        batch, count = masks.shape[:2]
        mask = masks.flatten(0, 1)  # (BT, 1, S, S)
        with_kinds = [with_kind(masks[:, i], kind_planes(kind)) for i, kind in enumerate(self.targets)]
        planes = torch.cat(with_kinds, dim=1)  # (B, 5T, S, S)
        described = planes.reshape(batch * count, -1, *planes.shape[2:])  # (BT, 5, S, S)
        features = self.alignment.mask_branch(described)  # (BT, F, g, g)
        item = self.alignment.read(source)  # once an outfit
        queries = self.alignment.project_target(features, described)  # (BT, C, g, g)
        warped = unstacked(self.alignment.warp(stacked(queries, batch), item), count)  # (BT, Cv, g, g)
        style = self.style(item.values.mean(dim=(2, 3), keepdim=True)).repeat_interleave(count, dim=0)  # (BT, C, 1, 1)
        x = self.trunk(self.enter(self.down(features)) + style)  # (BT, C, s, s)
        logits = self.head(self.decoder(x, warped, mask))  # (BT, 3, S, S)
        images = torch.tanh(logits + sketch(warped, mask))  # (BT, 3, S, S)
        return images.reshape(batch, count, *images.shape[1:])

    def alignment_of(self, kind: ItemKind) -> KindAlignment:
        """Return the SAM as it serves one kind."""
        return KindAlignment(self.alignment, kind)


class KindAlignment(nn.Module):
    """A shared SAM with its kind in a buffer: the kinds differ in their weights alone, so one trace exports all."""

    planes: Tensor

    def __init__(
        self,
        alignment: SemanticAlignment,  # that all kinds share
        kind: ItemKind,  # this one
    ) -> None:
        super().__init__()
        self.alignment = alignment
        self.register_buffer("planes", kind_planes(kind))

    def forward(self, source: Tensor, mask: Tensor) -> Tensor:
        """Return what the SAM makes of source (B, 3, S, S) and mask (B, 1, S, S) of this kind: (B, Cv, g, g)."""
        warped: Tensor = self.alignment(source, with_kind(mask, self.planes))
        return warped

    def match(self, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return warped (B, Cv, g, g), and per grid cell the best source cell (B, g, g) and its weight."""
        return self.alignment.match(source, with_kind(mask, self.planes))

    def look(self, source: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Return where on the source grid each of positions (B, P) of the target grid looks: (B, P, g, g)."""
        return self.alignment.look(source, with_kind(mask, self.planes), positions)


def kind_planes(kind: ItemKind) -> Tensor:
    """Return one plane a kind (1, 4, 1, 1): 1 for `kind`, 0 for the others."""
    return torch.tensor([float(other == kind) for other in COLLOCATION_ORDER]).reshape(1, -1, 1, 1)


def with_kind(mask: Tensor, planes: Tensor) -> Tensor:
    """Append planes (1, 4, 1, 1) that say a mask's kind: (B, 1, S, S) -> (B, 5, S, S)."""
    expanded = planes.to(mask).expand(mask.shape[0], -1, *mask.shape[2:])  # (B, 4, S, S)
    return torch.cat([mask, expanded], dim=1)


def stacked(queries: Tensor, batch: int) -> Tensor:
    """Put an outfit's targets under each other: (BT, C, g, g) -> (B, C, Tg, g), for one correlation a source."""
    _, channels, height, width = queries.shape
    return queries.reshape(batch, -1, channels, height, width).transpose(1, 2).flatten(2, 3)


def unstacked(warped: Tensor, count: int) -> Tensor:
    """Separate the targets again: (B, Cv, Tg, g) -> (BT, Cv, g, g)."""
    batch, channels, rows, width = warped.shape
    return warped.reshape(batch, channels, count, rows // count, width).transpose(1, 2).flatten(0, 1)
