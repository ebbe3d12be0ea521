"""What a generation gives, in this process or served."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outfitgan.items import ItemKind


@dataclass(frozen=True)
class GeneratedOutfit:
    """The items made from one source item."""

    images: dict[ItemKind, NDArray[np.uint8]]  # (S, S, 3) each
    compatibility: float | None  # None unless every target was asked for


@dataclass(frozen=True)
class OutfitFromSource(GeneratedOutfit):
    """The items made from one source item alone, and the masks that were made for them."""

    masks: dict[ItemKind, NDArray[np.uint8]]  # (S, S, 1) of 0 and 255 each


@dataclass(frozen=True)
class GeneratedBatch:
    """The items made from a batch of source items."""

    images: dict[ItemKind, NDArray[np.uint8]]  # (B, S, S, 3) each
    compatibility: NDArray[np.float32] | None  # (B,)
