"""Pictures of outfits: one outfit with its masks and correspondences, or several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.masks import THRESHOLD
from outfitgan.white_ground import ITEM_BELOW

Pixels = NDArray[np.uint8]  # (H, W, 3)

TEXT, FAINT, GROUND = (32, 33, 36), (110, 114, 120), (255, 255, 255)
_TILE, _GAP = 256, 20


@dataclass(frozen=True)
class Correspondence:
    """Where on the source each part of a target was taken from, on the SAM's grid."""

    match: NDArray[np.int32]  # (g, g, 2) row, column
    weight: NDArray[np.float32]  # (g, g)


def outfit_sheet(
    source: Pixels,
    source_kind: ItemKind,
    masks: dict[ItemKind, Pixels],
    items: dict[ItemKind, Pixels],
    compatibility: float | None,
    correspondences: dict[ItemKind, Correspondence] | None = None,
) -> Image.Image:
    """Draw one outfit: reference masks, the outfit in collocation order, and where each part came from."""
    kinds = [kind for kind in COLLOCATION_ORDER if kind == source_kind or kind in items]
    sections = ["reference masks", "outfit"] + (["taken from"] if correspondences else [])
    left, top, pitch = 180, 84, _TILE + _GAP
    sheet = Image.new("RGB", (left + len(kinds) * pitch, top + len(sections) * pitch + 8), GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 18), "OutfitGAN", fill=TEXT, font=font(26))
    if compatibility is not None:
        draw.text((left, 22), f"compatibility {compatibility:.2f}", fill=TEXT, font=font(20))
    for column, kind in enumerate(kinds):
        title = f"{kind} (source)" if kind == source_kind else kind.value
        draw.text((left + column * pitch, 54), title, fill=FAINT, font=font(18))
    for row, section in enumerate(sections):
        draw.text((_GAP, top + row * pitch + _TILE // 2), section, fill=FAINT, font=font(16))
        for column, kind in enumerate(kinds):
            tile = _tile(section, kind, source, source_kind, masks, items, correspondences or {})
            if tile is not None:
                _paste(sheet, tile, left + column * pitch, top + row * pitch)
    return sheet


def correspondence_colours(grid: int) -> Pixels:
    """Return a colour per source cell (grid, grid, 3): hue turns with the angle, saturation grows outwards."""
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, grid),) * 2, indexing="ij")
    hue = (np.arctan2(rows, columns) / (2 * np.pi) % 1 * 255).astype(np.uint8)
    saturation = (np.clip(np.hypot(rows, columns), 0, 1) * 200 + 55).astype(np.uint8)
    value = np.full_like(hue, 235)
    return np.asarray(Image.fromarray(np.stack([hue, saturation, value], axis=-1), "HSV").convert("RGB"))


def _tile(
    section: str,
    kind: ItemKind,
    source: Pixels,
    source_kind: ItemKind,
    masks: dict[ItemKind, Pixels],
    items: dict[ItemKind, Pixels],
    correspondences: dict[ItemKind, Correspondence],
) -> Pixels | None:
    if section == "outfit":
        return source if kind == source_kind else items[kind]
    if section == "reference masks":
        return None if kind == source_kind else np.repeat(masks[kind], 3, axis=2)
    if kind == source_kind:
        grid = next(iter(correspondences.values())).weight.shape[0]
        return _tint(source, correspondence_colours(grid), garment=_not_white(source))
    if kind not in correspondences:
        return None
    found = correspondences[kind]
    colours = correspondence_colours(found.weight.shape[0])[found.match[..., 0], found.match[..., 1]]  # (g, g, 3)
    return _tint(np.full_like(source, 255), colours, garment=masks[kind][..., 0] >= THRESHOLD)


def _tint(picture: Pixels, colours: Pixels, garment: NDArray[np.bool_]) -> Pixels:
    size = picture.shape[0]
    large = np.asarray(Image.fromarray(colours).resize((size, size), Image.Resampling.NEAREST))
    grey = picture.mean(axis=2, keepdims=True)
    mixed = np.where(garment[..., None], 0.35 * grey + 0.65 * large, picture)
    return mixed.clip(0, 255).astype(np.uint8)


def _not_white(picture: Pixels) -> NDArray[np.bool_]:
    dark: NDArray[np.bool_] = picture.min(axis=2) < ITEM_BELOW
    return dark


def _paste(sheet: Image.Image, tile: Pixels, x: int, y: int) -> None:
    scaled = Image.fromarray(tile).resize((_TILE, _TILE), Image.Resampling.LANCZOS)
    sheet.paste(scaled, (x, y))
    ImageDraw.Draw(sheet).rectangle((x, y, x + _TILE - 1, y + _TILE - 1), outline=(222, 224, 228))


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font at a size in pixels."""
    return ImageFont.load_default(size)


def contact_sheet(rows: Sequence[Sequence[Pixels]]) -> Image.Image:
    """Return pictures of one size side by side, one row an outfit."""
    return Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0))
