"""The failure signs that a summary of the paper names, as numbers; each definition is ours.

Border spots where the ground should be white, blur where the L1 loss drowns the others, and one texture for every
outfit where the source is ignored. They need the reference masks and the real items, but no feature network.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from torch import Tensor

from outfitgan.errors import InputError
from outfitgan.evaluation.metrics.arrays import (
    Features,
    Scores,
    check_features,
    check_masks,
    check_pictures,
    mean_of_others,
    slices,
)
from outfitgan.evaluation.metrics.mask_iou import coloured

_CHUNK = 32  # pictures at a time: several copies of each in 64 bits are held
_BAND = 8  # the border band is S / 8 wide
_CLEARANCE = 32  # S / 32 around an outline belongs to neither side: edges fade there
_ROUNDING = 20 / 12 / 127.5**2  # variance that rounding to 8 bits gives a Laplacian, whose squared weights sum to 20
_STEPS = (1, 2, 4)  # pixels between the two that a detail compares
_LEAST_DEVIATION = 1e-3  # an eighth of a level of 8 bits: what varies less among real items is not told apart


def border_spots(generated: Tensor, masks: Tensor) -> Scores:
    """Return each image's share of spots (N,), 0 to 1, on its empty border.

    The empty border: pixels within S / 8 of the image's edge and more than S / 32 (at least 1) from the reference mask,
    along rows and columns. A spot: one of them that is not near white (a channel below `ITEM_BELOW`). Images
    (N, 3, S, S) in [-1, 1], masks (N, 1, S, S) of 0 and 1; 0 where a mask leaves no empty border.
    """
    check_pictures(generated)
    check_masks(generated, masks)
    size = generated.shape[-1]
    band = np.ones((size, size), bool)
    width = max(size // _BAND, 1)
    band[width : size - width, width : size - width] = False
    ground = band & (_grown(masks)[:, 0] < 0.5).cpu().numpy()  # (N, S, S)
    spots = (coloured(generated) & ground).sum(axis=(1, 2))
    share: Scores = spots / np.maximum(ground.sum(axis=(1, 2)), 1)
    return share


def sharpness_ratio(generated: Tensor, real: Tensor, masks: Tensor) -> Scores:
    """Return each image's sharpness over the real item's (N,): below 1 is blurred, above 1 noisy.

    Sharpness: the variance of the Laplacian (four neighbours) of the mean of the channels, over the pixels inside the
    reference mask and more than S / 32 (at least 1) from its outline, plus what rounding to 8 bits gives, so that two
    plain items compare as 1. Images (N, 3, S, S) in [-1, 1], masks (N, 1, S, S); 1 where a mask has no such pixel.
    Ratios average by their logarithms: see `bootstrap.geometric_mean_interval`.
    """
    check_pictures(generated, real)
    check_masks(real, masks)
    ratios = []
    for part in slices(len(real), _CHUNK):
        inside = _inside(masks[part])
        ratios.append(_sharpness(generated[part], inside) / _sharpness(real[part], inside))
    return np.concatenate(ratios)


def texture_collapse(generated: Features, real: Features) -> float:
    """Return how diverse generated textures are over how diverse real ones are: 1 as diverse, near 0 all alike.

    Of whole sets, rows (n, 12) and (m, 12) of `texture_features`. Diversity: the mean distance of two different images'
    rows, each column in standard deviations of the real ones'. Raises InputError for a set of one image, or real items
    that are all the same.
    """
    among_generated, among_real = texture_distances(generated, real)
    return mean_of_others(among_generated) / mean_of_others(among_real)


def texture_distances(generated: Features, real: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distances of every two generated images (n, n) and of every two real ones (m, m), as above."""
    check_features(generated, real)
    deviation = np.maximum(real.astype(np.float64).std(axis=0), _LEAST_DEVIATION)  # (12,)
    among_real = squareform(pdist(real / deviation))
    if not among_real.any():
        raise InputError("The real items all have the same texture: give different ones.")
    return squareform(pdist(generated / deviation)), among_real


def texture_features(images: Tensor, masks: Tensor) -> Features:
    """Return what fills each item (N, 12), whatever its outline: colour (3), contrast (3), and detail (6).

    Over the pixels inside the mask (as for `sharpness_ratio`): each channel's mean and standard deviation, and the root
    mean square difference of the mean of the channels between pixels 1, 2 and 4 rows, then columns, apart. Images
    (N, 3, S, S) in [-1, 1], masks (N, 1, S, S). Ours: a network's embeddings follow the outline, which the mask gives,
    and stay four fifths as diverse when one fabric fills every mask.
    """
    check_pictures(images)
    check_masks(images, masks)
    return np.concatenate([_texture(images[part], masks[part]) for part in slices(len(images), _CHUNK)])


def _texture(images: Tensor, masks: Tensor) -> Features:
    inside, pixels = _inside(masks), images.double()  # (N, 1, S, S), (N, 3, S, S)
    colour = _mean(pixels, inside)  # (N, 3)
    contrast = _mean((pixels - colour[..., None, None]).square(), inside).sqrt()
    grey = pixels.mean(dim=1, keepdim=True)  # (N, 1, S, S)
    details = []
    for step in _STEPS:
        for axis in (2, 3):
            (near, far), (near_inside, far_inside) = _apart(grey, axis, step), _apart(inside, axis, step)
            details.append(_mean((near - far).square(), near_inside * far_inside).sqrt())  # (N, 1)
    return torch.cat([colour, contrast, *details], dim=1).cpu().numpy()


def _grown(masks: Tensor) -> Tensor:
    """Return masks (N, 1, S, S) grown by the clearance."""
    reach = max(masks.shape[-1] // _CLEARANCE, 1)
    return F.max_pool2d(masks.float(), 2 * reach + 1, stride=1, padding=reach)


def _inside(masks: Tensor) -> Tensor:
    """Return where masks (N, 1, S, S) are farther than the clearance from their outline, as 0 and 1."""
    return (_grown(1 - masks) < 0.5).double()


def _sharpness(images: Tensor, inside: Tensor) -> Scores:
    grey = F.pad(images.double().mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")  # (N, 1, S + 2, S + 2)
    around = grey[..., :-2, 1:-1] + grey[..., 2:, 1:-1] + grey[..., 1:-1, :-2] + grey[..., 1:-1, 2:]
    laplacian = around - 4 * grey[..., 1:-1, 1:-1]  # (N, 1, S, S)
    mean = _mean(laplacian, inside)[..., None, None]
    variance = _mean((laplacian - mean).square(), inside).squeeze(1)  # (N,)
    return variance.cpu().numpy() + _ROUNDING


def _mean(values: Tensor, inside: Tensor) -> Tensor:
    """Return the mean (N, C) of values (N, C, H, W) where `inside` (N, 1, H, W) is 1; 0 where it is nowhere 1."""
    return (values * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3)).clamp(min=1)


def _apart(pixels: Tensor, axis: int, step: int) -> tuple[Tensor, Tensor]:
    """Return the pixels that have another `step` further along `axis`, and those others."""
    length = pixels.shape[axis] - step
    return pixels.narrow(axis, 0, length), pixels.narrow(axis, step, length)
