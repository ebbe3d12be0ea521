"""Silhouettes of product photos: what is not the near-white ground, without holes in pale cloth and without specks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, label

from outfitgan.white_ground import PHOTO_GROUND

_CLEAN = 254  # of a hole: what a fifth of its pixels reach where the ground shows through, as in a handle
_SPECK = 0.02  # of the silhouette's pixels: a smaller patch is dropped
_PINHOLE = 0.005  # of the same: a smaller hole is filled, however clean


def silhouette(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where `image` (H, W, 3) shows an item on near-white ground, as (H, W); all False on a blank image.

    Ours, for the paper does not say where its masks come from. A hole is filled if it is small or not quite as white
    as the ground, as a white shirt's front is; the clean and large one inside a bag's handle stays open.
    """
    darkest = image.min(axis=2)  # (H, W)
    region = without_specks(darkest < PHOTO_GROUND, _SPECK)
    holes, count = label(np.asarray(binary_fill_holes(region)) & ~region)
    smallest = _PINHOLE * region.sum()
    for number in range(1, count + 1):
        hole = holes == number
        if hole.sum() < smallest or np.percentile(darkest[hole], 80) < _CLEAN:
            region |= hole
    return region


def without_specks(region: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Return `region` (H, W) less its patches of fewer than `share` of its pixels; the largest stays in any case."""
    patches, _ = label(region)
    areas = np.bincount(patches.ravel())
    areas[0] = 0
    return np.asarray((areas >= min(share * areas.sum(), areas.max()))[patches] & region)
