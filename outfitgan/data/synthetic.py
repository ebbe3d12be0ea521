"""Procedural outfits: garments drawn in silhouettes of our own, with a compatibility that can be learned."""

from __future__ import annotations

from outfitgan.data.drawing.fabric import paint
from outfitgan.data.drawing.rule import RuleOutfits
from outfitgan.data.drawing.silhouettes import draw
from outfitgan.data.drawing.style import Style, fabric_of
from outfitgan.data.outfit_source import fingerprint_of
from outfitgan.items import Item, ItemKind

_VERSION = 1  # of the drawing; raise it when pixels change


class SyntheticOutfits(RuleOutfits):
    """`count` procedural outfits of `split` at (size, size); raises ConfigError for a split that is unknown."""

    label = "synthetic"

    def fingerprint(self) -> str:
        """Return a digest of everything that the pixels depend on."""
        return fingerprint_of("synthetic", _VERSION, self._count, self._size, self._seed, self._split)

    def _item(self, index: int, kind: ItemKind, style: Style) -> Item:
        rng = self._rng(index, kind)
        return paint(kind, draw(kind, rng), fabric_of(style, kind), self._size, rng)
