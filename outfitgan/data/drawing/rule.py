"""Outfits that go together by rule (style.py): a pure function of (seed, split, index), whatever draws the items."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod

import numpy as np

from outfitgan.data.drawing.style import Style, incompatible_styles, random_style
from outfitgan.data.outfit_source import check_index, check_split
from outfitgan.errors import ConfigError
from outfitgan.items import COLLOCATION_ORDER, Item, ItemKind, Outfit


class RuleOutfits(ABC):
    """`count` outfits of `split` at (size, size); raises ConfigError for a split that is unknown.

    A subclass says how an item in a style looks. What clashes is known by the rule, so hard negatives are drawn.
    """

    label: str  # of the source, as outfits' names begin
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        count: int,  # outfits of this split
        size: int,  # side in pixels
        seed: int,  # other seeds give other outfits
        split: str,  # train or test
    ) -> None:
        check_split(split)
        if count < 1 or size < 16:
            raise ConfigError(f"Cannot draw {count} outfits at {size}x{size}: ask for at least 1 at 16x16 or more.")
        self._count, self._size, self._seed, self._split = count, size, seed, split

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Outfit:
        """Return outfit `index`; raise IndexError outside 0 to len - 1."""
        style, name = self.style(index), self._name(index)
        return Outfit(name, name, {kind: self._item(index, kind, style) for kind in COLLOCATION_ORDER})

    def incompatible(self, index: int, seed: int) -> Outfit:
        """Return outfit `index` in the same cuts, with one or two items in a style that breaks the rule."""
        outfit = self[index]
        return Outfit(f"{outfit.name}-incompatible-{seed}", outfit.group, outfit.items | self.replacements(index, seed))

    def replacements(self, index: int, seed: int) -> dict[ItemKind, Item]:
        """Return the items alone that make outfit `index` incompatible, by the kind that each replaces."""
        styles = incompatible_styles(self.style(index), self._rng(index, "incompatible", seed))
        return {kind: self._item(index, kind, style) for kind, style in styles.items()}

    def style(self, index: int) -> Style:
        """Return what the items of outfit `index` share."""
        check_index(index, self._count)
        return random_style(self._rng(index, "style"))

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a digest of everything that the pixels depend on."""

    @abstractmethod
    def _item(self, index: int, kind: ItemKind, style: Style) -> Item:
        """Return the item of outfit `index`, cut as ever and dressed in `style`."""

    def _name(self, index: int) -> str:
        return f"{self.label}-{self._split}-{self._seed}-{index:06d}"

    def _rng(self, *parts: object) -> np.random.Generator:
        text = "/".join(map(str, (self._seed, self._split, *parts)))
        return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))
