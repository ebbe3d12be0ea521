"""A contact sheet to judge a data set by: outfits side by side, each item with its mask drawn around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from outfitgan.items import COLLOCATION_ORDER, Item, Outfit
from outfitgan.masks import THRESHOLD, levels_of
from outfitgan.pictures import FAINT, TEXT

_EDGE, _OUTLINE = (228, 230, 233), (226, 0, 116)
_TILE, _GAP, _LINE = 144, 10, 24  # pixels: an item's side, between items, a line of text
_BLOCK = len(COLLOCATION_ORDER) * (_TILE + _GAP) + 3 * _GAP  # an outfit's width, with the space to the next
_ROW = _TILE + _LINE + _GAP
_TOP = 96


def outlined_sheet(outfits: Sequence[Outfit], title: str, caption: str) -> Image.Image:
    """Draw outfits with their masks' outlines, in one column, or in two if there are more than four."""
    columns = 2 if len(outfits) > 4 else 1
    rows = -(-len(outfits) // columns)
    sheet = Image.new("RGB", (4 * _GAP + columns * _BLOCK, _TOP + rows * _ROW + _GAP), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    draw.text((3 * _GAP, 14), title, fill=TEXT, font=ImageFont.load_default(24))
    draw.text((3 * _GAP, 46), caption, fill=FAINT, font=ImageFont.load_default(14))
    for column in range(columns):
        for number, kind in enumerate(COLLOCATION_ORDER):
            x = 3 * _GAP + column * _BLOCK + number * (_TILE + _GAP)
            draw.text((x, _TOP - _LINE), kind.value, fill=FAINT, font=ImageFont.load_default(15))
    for number, outfit in enumerate(outfits):
        row, column = divmod(number, columns)
        _place(sheet, outfit, 3 * _GAP + column * _BLOCK, _TOP + row * _ROW)
    return sheet


def _place(sheet: Image.Image, outfit: Outfit, left: int, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    for number, kind in enumerate(COLLOCATION_ORDER):
        x = left + number * (_TILE + _GAP)
        sheet.paste(_tile(outfit.items[kind]), (x, top))
        draw.rectangle((x, top, x + _TILE - 1, top + _TILE - 1), outline=_EDGE)
    font, name = ImageFont.load_default(12), outfit.name
    while len(name) > 1 and draw.textlength(name, font) > _BLOCK - 4 * _GAP:
        name = f"{name[:-2]}…"
    draw.text((left, top + _TILE + 3), name, fill=FAINT, font=font)


def _tile(item: Item) -> Image.Image:
    """Return the item at the tile's size with a line of two pixels just outside its mask."""
    image = Image.fromarray(item.image).resize((_TILE, _TILE), Image.Resampling.LANCZOS)
    mask = Image.fromarray(item.mask).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
    inside = Image.fromarray(levels_of(np.asarray(mask) >= THRESHOLD))
    wider: NDArray[np.uint8] = np.asarray(inside.filter(ImageFilter.MaxFilter(5)))
    line = Image.fromarray(wider - np.asarray(inside))
    image.paste(_OUTLINE, mask=line)
    return image
