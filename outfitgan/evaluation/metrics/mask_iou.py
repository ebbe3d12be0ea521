"""Does a generated item fill its reference mask? The silhouette is read off the picture's white ground."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes
from torch import Tensor

from outfitgan.evaluation.metrics.arrays import Scores, check_masks, check_pictures
from outfitgan.white_ground import ITEM_BELOW, signed


def coloured(images: Tensor) -> NDArray[np.bool_]:
    """Return where images (N, 3, S, S) in [-1, 1] are not near white: (N, S, S)."""
    found: NDArray[np.bool_] = (images.amin(dim=1) < signed(ITEM_BELOW)).cpu().numpy()
    return found


def silhouette(images: Tensor) -> NDArray[np.bool_]:
    """Return the silhouettes (N, S, S) of items on white (N, 3, S, S): what is not near white, holes filled."""
    check_pictures(images)
    return _filled(coloured(images))


def mask_iou(generated: Tensor, masks: Tensor) -> Scores:
    """Return each image's intersection over union (N,) of its silhouette and its reference mask; no feature network.

    Images (N, 3, S, S) in [-1, 1], masks (N, 1, S, S) of 0 and 1. Ours: the mask's holes are filled as well, so that
    white parts of an item cost nothing and a bag's handle does not either; a white item on white has no silhouette, so
    compare with the same figure of the real items. Two empty shapes agree: 1.
    """
    check_masks(generated, masks)
    found, wanted = silhouette(generated), _filled((masks[:, 0] > 0.5).cpu().numpy())  # (N, S, S)
    common, either = (found & wanted).sum(axis=(1, 2)), (found | wanted).sum(axis=(1, 2))
    return np.where(either > 0, common / np.maximum(either, 1), 1.0)


def _filled(shapes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.stack([binary_fill_holes(shape) for shape in shapes])
