"""From a grey garment of a few pixels to an item: its own silhouette and shading, in the fabric of an outfit.

Ours throughout. The outline is smoothed and drawn sharp at the item's size; the grey becomes light and shade on the
cloth; the pattern is drawn on top at full resolution; the trim is the piece's lower edge: hems, cuffs, soles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_closing, binary_erosion, distance_transform_edt, gaussian_filter, maximum_filter

from outfitgan.data.drawing.fabric import Fabric, Field, pattern_coverage
from outfitgan.data.ground import silhouette
from outfitgan.items import Item, ItemKind
from outfitgan.masks import levels_of

Piece = NDArray[np.uint8]  # (h, w): 0 is the ground, 255 black cloth

_MARGIN = 0.07  # of the item's side, at each edge
_BORDER = 4  # pixels of ground around a piece before it is enlarged, so that its edge may fade
_TRIM = 0.055  # height of the trim, of the item's side
_CONTRAST = 0.8  # of the light, per unit of the grey's distance from the piece's median


def dress(kind: ItemKind, piece: Piece, fabric: Fabric, size: int) -> Item:
    """Return `piece` cut from `fabric` on white at (size, size)."""
    shape = shape_of(piece)
    alpha = _outline(piece, shape, size)  # (S, S)
    light = _light(piece, shape, size)
    trim = _trim(alpha)
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.broadcast_to(line, (size, size)), np.broadcast_to(line[:, None], (size, size))
    woven = pattern_coverage(fabric, x, y, _emblem(shape), size) * (1 - trim)
    weights = np.stack([1 - woven - trim, woven, trim]) * (light * alpha)  # (3, S, S)
    colours = np.stack([fabric.body, fabric.pattern_colour, fabric.trim], axis=1)  # (RGB, 3)
    painted = (colours @ weights.reshape(3, -1)).T.reshape(size, size, 3) + (1 - alpha)[..., None]
    image = np.clip(255 * painted + 0.5, 0, 255).astype(np.uint8)
    return Item(kind, image, levels_of(alpha >= 0.5))


def shape_of(piece: Piece) -> NDArray[np.bool_]:
    """Return where the cloth of `piece` is, (h, w)."""
    shape = silhouette(np.repeat(255 - piece[..., None], 3, axis=2))
    # A white sole is as white as the ground: gaps of two pixels are closed, but never sideways, which would join legs.
    return np.asarray(binary_closing(shape, np.ones((3, 1)))) | shape


def _outline(piece: Piece, shape: NDArray[np.bool_], size: int) -> Field:
    """Return how much of each pixel the cloth covers, (S, S)."""
    inner = binary_erosion(shape)
    faded = piece / np.maximum(maximum_filter(piece, 3), 1)  # a pixel on the edge is paler the less it is covered
    cover = np.where(inner, 1, np.where(shape, np.clip(faded, 0.6, 1), 0))
    smooth = gaussian_filter(np.pad(cover, _BORDER), 0.5)
    enlarged = _enlarged(smooth, piece.shape[0], size)
    steepness = max(1.0, size / piece.shape[0] / 2)
    return np.asarray(np.clip((enlarged - 0.5) * steepness + 0.5, 0, 1), np.float32)


def _light(piece: Piece, shape: NDArray[np.bool_], size: int) -> Field:
    """Return the brightness of each pixel, (S, S), about 1 where the piece is as grey as most of it."""
    # On its edge a piece fades into the ground, so the edge takes the darkest of its neighbours, the ground the edge's.
    grey = np.where(binary_erosion(shape), piece, maximum_filter(piece, 3))
    nearest = distance_transform_edt(~shape, return_distances=False, return_indices=True)
    spread = np.pad(grey[tuple(nearest)], _BORDER, mode="edge") / 255
    bright = 1 - _enlarged(spread, piece.shape[0], size)
    usual = 1 - np.median(piece[shape]) / 255
    return np.asarray(np.clip(0.95 + _CONTRAST * (bright - usual), 0.5, 1.15), np.float32)


def _trim(alpha: Field) -> Field:
    """Return how much of each pixel is trim, (S, S): what has ground a little below it."""
    height = max(1, round(alpha.shape[0] * _TRIM))
    below = np.pad(alpha, ((0, height), (0, 0)))[height:]
    return np.minimum(1 - below, alpha)


def _emblem(shape: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the place of a logo, x and y in 0 to 1: where the cloth is widest."""
    depth = distance_transform_edt(np.pad(shape, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), shape.shape)
    spots = [_MARGIN + (1 - 2 * _MARGIN) * (int(at) + 0.5) / shape.shape[0] for at in (column, row)]
    return spots[0], spots[1]


def _enlarged(field: NDArray[np.float64], side: int, size: int) -> Field:
    """Return a bordered field of a piece `side` pixels wide at (size, size), the piece within the margin."""
    scale = (1 - 2 * _MARGIN) * size / side
    reach = size / 2 / scale  # of the item's square, in pixels of the piece
    middle = field.shape[0] / 2
    box = (middle - reach, middle - reach, middle + reach, middle + reach)
    image = Image.fromarray(field.astype(np.float32))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box), np.float32)
