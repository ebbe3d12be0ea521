"""Product photos read from files: an item with the silhouette that lies beside it, or that its white ground shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outfitgan.data.ground import silhouette
from outfitgan.errors import DataError, InputError
from outfitgan.images import load_image, load_mask, read_bytes
from outfitgan.items import Item, ItemKind
from outfitgan.masks import levels_of

_FRAME = 0.98  # of its bounding box: a silhouette that fills more is the photo's own rectangle, not a garment


def read_item(kind: ItemKind, photo: Path, mask: Path | None, size: int) -> Item:
    """Return the item of `photo` at (size, size), padded with white, and its silhouette from `mask` or the ground.

    Raises:
        DataError: if a file cannot be used, or if there is no mask and the ground is not near-white or all there is.

    """
    try:
        image = load_image(read_bytes(photo), str(photo), size).pixels
        if mask is not None:
            return Item(kind, image, load_mask(read_bytes(mask), str(mask), size).pixels[..., 0])
    except InputError as error:
        raise DataError(str(error)) from error
    region = silhouette(image)
    if not region.any():
        raise DataError(f"{photo} shows nothing but near-white: give it a mask, or leave its outfit out.")
    if region.sum() >= _FRAME * _box_area(region):
        raise DataError(f"{photo} is not on a near-white ground: give it a mask, or leave its outfit out.")
    return Item(kind, image, levels_of(region))


def _box_area(region: NDArray[np.bool_]) -> int:
    """Return the pixels of the box that bounds `region` (H, W)."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return int((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1))
