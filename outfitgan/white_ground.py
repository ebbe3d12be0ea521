"""The white ground that items lie on: from which level on a pixel counts as ground, for every reader of pictures.

Levels are of a pixel's darkest channel, 0 to 255. There is more than one because pictures differ: photographs have
JPEG's noise on their ground, and generated items do not.
"""

from __future__ import annotations

PHOTO_GROUND = 240
"""A photograph's pixel may be ground from this level on."""

ITEM_BELOW = 245
"""A pixel of a picture on clean white, as generated ones are, belongs to the item below this level."""

BLANK_FROM = 254.5
"""A picture without a pixel below this, half a level under white, shows no item: this is how a missing one is given."""

PRESENCE_GAIN = 5.0
"""Of the ramp that says how much garment a pixel is: its darkness, 0 to 2 in [-1, 1], times this, at most 1.

A fifth of the way from white to a saturated or dark colour is garment in full.
"""


def signed(level: float) -> float:
    """Return a level as networks see it: 0 to 255 as -1 to 1."""
    return level / 127.5 - 1
