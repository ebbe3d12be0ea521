"""Outfits as tensors; the batch of a step depends on the seed and the step alone, so a resumed run sees the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from outfitgan.data.outfits import OutfitSource
from outfitgan.items import COLLOCATION_ORDER, ItemKind, Outfit

_CACHE_BYTES = 512 << 20
_NEGATIVES = 4  # different hard negatives an outfit


@dataclass(frozen=True)
class Batch:
    """B outfits."""

    images: Tensor  # (B, 4, 3, S, S) in [-1, 1], collocation order
    masks: Tensor  # (B, 4, 1, S, S) 0 or 1

    def image(self, kind: ItemKind) -> Tensor:
        """Return the items of one kind, (B, 3, S, S)."""
        return self.images[:, COLLOCATION_ORDER.index(kind)]

    def mask(self, kind: ItemKind) -> Tensor:
        """Return the masks of one kind, (B, 1, S, S)."""
        return self.masks[:, COLLOCATION_ORDER.index(kind)]


class Batches:
    """Draws batches from a source and keeps what it has decoded, up to 512 MiB."""

    def __init__(self, outfits: OutfitSource, size: int, seed: int) -> None:
        self.outfits, self.seed = outfits, seed
        self._kept: dict[tuple[int, int], Outfit] = {}  # by index and variant; variant 0 is the outfit itself
        self._room = _CACHE_BYTES // (len(COLLOCATION_ORDER) * size * size * 4)

    def real(self, step: int, batch: int) -> Batch:
        """Return `batch` outfits for `step`."""
        return as_batch([self._outfit(index, 0) for index in self._draw(step, batch)])

    def incompatible(self, step: int, batch: int) -> Batch:
        """Return hard negatives of the outfits that `real` draws for `step`."""
        variant = 1 + step % _NEGATIVES
        return as_batch([self._outfit(index, variant) for index in self._draw(step, batch)])

    def _draw(self, step: int, batch: int) -> list[int]:
        generator = np.random.default_rng([self.seed, step])
        return [int(index) for index in generator.integers(len(self.outfits), size=batch)]

    def _outfit(self, index: int, variant: int) -> Outfit:
        if (index, variant) in self._kept:
            return self._kept[index, variant]
        outfit = self.outfits.incompatible(index, self.seed + variant) if variant else self.outfits[index]
        if len(self._kept) < self._room:
            self._kept[index, variant] = outfit
        return outfit


def as_batch(outfits: Sequence[Outfit]) -> Batch:
    """Stack outfits into one batch."""
    images = np.stack([[outfit.items[kind].image for kind in COLLOCATION_ORDER] for outfit in outfits])
    masks = np.stack([[outfit.items[kind].mask for kind in COLLOCATION_ORDER] for outfit in outfits])
    pixels = torch.from_numpy(images).permute(0, 1, 4, 2, 3).float()  # (B, 4, 3, S, S)
    return Batch(pixels / 127.5 - 1, torch.from_numpy(masks >= 128).unsqueeze(2).float())
