"""Which network makes an outfit's target items; every architecture is used in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from outfitgan.config import ModelConfig
from outfitgan.items import ItemKind
from outfitgan.networks.alignment import SemanticAlignment
from outfitgan.networks.generator import Generator
from outfitgan.networks.high_resolution import HighResolutionGenerator
from outfitgan.networks.pix2pix import Pix2PixGenerator
from outfitgan.networks.pix2pixhd import Pix2PixHdGenerator
from outfitgan.networks.shared import SharedGenerator


class SeparateGenerators(nn.Module):
    """One generator per target kind, the paper's N-1; each maps a source and a mask to its item."""

    def __init__(
        self,
        targets: tuple[ItemKind, ...],  # kinds to generate
        make: Callable[[], nn.Module],  # returns a new generator of one kind
    ) -> None:
        super().__init__()
        self.targets = targets
        self.items = nn.ModuleDict({kind: make() for kind in targets})

    def forward(self, source: Tensor, masks: Tensor) -> Tensor:
        """Return (B, T, 3, S, S) in [-1, 1] of source (B, 3, S, S) and masks (B, T, 1, S, S)."""
        made = [self.items[kind](source, masks[:, index]) for index, kind in enumerate(self.targets)]
        return torch.stack(made, dim=1)


OutfitGenerator = SeparateGenerators | SharedGenerator
"""Maps source (B, 3, S, S) and masks (B, T, 1, S, S) to items (B, T, 3, S, S)."""


def build_generator(model: ModelConfig) -> OutfitGenerator:
    """Return the architecture that a config names, with its first weights."""
    config = model.generator
    match config.architecture:
        case "shared":
            return SharedGenerator(model)
        case "outfitgan":
            return SeparateGenerators(model.targets, lambda: Generator(config))
        case "hires":
            return SeparateGenerators(model.targets, lambda: HighResolutionGenerator(config))
        case "pix2pix":
            return SeparateGenerators(model.targets, lambda: Pix2PixGenerator(config, model.image_size))
        case "pix2pixhd":
            return SeparateGenerators(model.targets, lambda: Pix2PixHdGenerator(config))


def alignments_of(generator: OutfitGenerator) -> dict[ItemKind, nn.Module]:
    """Return the SAM of each kind, with its `match`; empty where an architecture has none."""
    if isinstance(generator, SharedGenerator):
        return {kind: generator.alignment_of(kind) for kind in generator.targets}
    found = {kind: getattr(generator.items[kind], "alignment", None) for kind in generator.targets}
    return {kind: cast(nn.Module, module) for kind, module in found.items() if _correlates(module)}


def _correlates(module: nn.Module | None) -> bool:
    core = getattr(module, "alignment", module)  # behind a halving
    return isinstance(core, SemanticAlignment)
