"""What the items of an outfit share, how each kind wears it, and what clashes with it: a compatibility by rule.

The rule. An outfit has one palette and one pattern. The palette is a base colour (one of twelve hue families, at one
of three depths) and an accent that stands to it in one of five relations: analogous, complementary, split, triadic or
neutral. Each kind wears them in its own fixed way, so any item of an outfit foretells the other three:

  kind    body         pattern on it           trim
  upper   base         the pattern, accent     accent
  bag     accent       the pattern, base       base
  lower   deep base    the pattern, accent,    accent
                       at 0.7 of the repeats
  shoes   accent       none                    base

What clashes has another palette, both of whose hues lie at least 90 degrees away, or an unmistakably different
pattern. Shoes bear no pattern, so theirs is always the palette.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from outfitgan.data.drawing.fabric import Colour, Fabric, Pattern, oklch
from outfitgan.items import COLLOCATION_ORDER, ItemKind

_FAMILIES = 12
_DEPTHS = ((0.40, 0.075), (0.56, 0.095), (0.74, 0.075))  # OKLCH lightness and chroma of the base
_RELATIONS = (35.0, 180.0, 150.0, 120.0)  # degrees from base to accent
_NEUTRAL_CHROMA = 0.012
_BOLD = (Pattern.HORIZONTAL, Pattern.VERTICAL, Pattern.DIAGONAL, Pattern.CHECKS, Pattern.DOTS)
_FAR = 90.0


@dataclass(frozen=True)
class Style:
    """What an outfit's items share."""

    hue: float  # of the base, OKLCH degrees
    depth: int  # which of the depths
    relation: float | None  # degrees to the accent; None is a neutral accent
    pattern: Pattern
    repeats: float

    @property
    def base(self) -> Colour:
        """The base colour."""
        return oklch(*_DEPTHS[self.depth], self.hue)

    @property
    def deep_base(self) -> Colour:
        """The base, darker: what the lower garment wears."""
        lightness, chroma = _DEPTHS[self.depth]
        return oklch(lightness * 0.8, chroma * 0.9, self.hue)

    @property
    def accent_hue(self) -> float | None:
        """The accent's hue in degrees, None if it has none."""
        return None if self.relation is None else (self.hue + self.relation) % 360

    @property
    def accent(self) -> Colour:
        """The accent colour: light on a dark base, dark on a light one."""
        lightness = 0.42 if self.depth == len(_DEPTHS) - 1 else 0.81
        if self.accent_hue is None:
            return oklch(lightness, _NEUTRAL_CHROMA, self.hue)
        return oklch(lightness, 0.075, self.accent_hue)


def random_style(rng: np.random.Generator) -> Style:
    """Return a style drawn from `rng`."""
    hue = (float(rng.integers(_FAMILIES)) * 360 / _FAMILIES + rng.uniform(-6, 6)) % 360
    relation = None if rng.random() < 0.2 else float(rng.choice(_RELATIONS))
    pattern = tuple(Pattern)[int(rng.integers(len(Pattern)))]
    return Style(hue, int(rng.integers(len(_DEPTHS))), relation, pattern, float(rng.uniform(9, 14)))


def incompatible_styles(style: Style, rng: np.random.Generator) -> dict[ItemKind, Style]:
    """Return, for one or two kinds, a style that the kind cannot wear with the rest of an outfit in `style`."""
    chosen = rng.choice(len(COLLOCATION_ORDER), size=int(rng.integers(1, 3)), replace=False)
    kinds = [COLLOCATION_ORDER[int(number)] for number in chosen]
    return {kind: _clashing(style, kind, rng) for kind in kinds}


def fabric_of(style: Style, kind: ItemKind) -> Fabric:
    """Return how `kind` wears `style`: the table in this module's docstring."""
    base, accent = style.base, style.accent
    match kind:
        case ItemKind.UPPER:
            return Fabric(base, accent, accent, style.pattern, style.repeats)
        case ItemKind.BAG:
            return Fabric(accent, base, base, style.pattern, style.repeats)
        case ItemKind.LOWER:
            return Fabric(style.deep_base, accent, accent, style.pattern, style.repeats * 0.7)
        case ItemKind.SHOES:
            return Fabric(accent, base, base, Pattern.SOLID, style.repeats)


def hue_distance(one: float, other: float) -> float:
    """Return the angle between two hues, 0 to 180 degrees."""
    return abs((one - other + 180) % 360 - 180)


def _clashing(style: Style, kind: ItemKind, rng: np.random.Generator) -> Style:
    if kind != ItemKind.SHOES and rng.random() < 0.4:
        return replace(style, pattern=_other_pattern(style.pattern, rng))
    return _other_palette(style, rng)


def _other_pattern(pattern: Pattern, rng: np.random.Generator) -> Pattern:
    # A logo is too small to tell from a solid, so these two never stand for each other.
    others = [other for other in _BOLD if other != pattern]
    return others[int(rng.integers(len(others)))]


def _other_palette(style: Style, rng: np.random.Generator) -> Style:
    while True:
        hue = (style.hue + rng.uniform(_FAR, 360 - _FAR)) % 360
        other = replace(style, hue=hue, relation=float(rng.choice(_RELATIONS)))
        before, after = style.accent_hue, other.accent_hue
        if before is None or after is None or hue_distance(before, after) >= _FAR:
            return other
