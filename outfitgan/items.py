"""Item kinds, the collocation order and the outfit record that every data source yields."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from outfitgan.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ItemKind(StrEnum):
    """The four kinds of the paper's experiments, declared in collocation order."""

    UPPER = "upper"
    BAG = "bag"
    LOWER = "lower"
    SHOES = "shoes"

    @classmethod
    def parse(cls, text: str) -> ItemKind:
        """Return the kind called `text`; raise InputError, which lists the kinds, if there is none."""
        try:
            return cls(text.strip().lower())
        except ValueError:
            known = ", ".join(COLLOCATION_ORDER)
            raise InputError(f"'{text}' is not an item kind; choose from {known}.") from None


COLLOCATION_ORDER: tuple[ItemKind, ...] = tuple(ItemKind)
"""The order in which the CCM reads an outfit (the paper's fixed sequence)."""


def targets_of(source: ItemKind) -> tuple[ItemKind, ...]:
    """Return the kinds to generate from `source`, in collocation order."""
    return tuple(kind for kind in COLLOCATION_ORDER if kind != source)


@dataclass(frozen=True)
class Item:
    """One garment on a white ground and its silhouette."""

    kind: ItemKind
    image: NDArray[np.uint8]  # (H, W, 3) RGB
    mask: NDArray[np.uint8]  # (H, W) 0 or 255


@dataclass(frozen=True)
class Outfit:
    """Items worn together; `name` is unique in its data set, `group` is what a split must not divide."""

    name: str
    group: str
    items: dict[ItemKind, Item]
