"""KID: the squared maximum mean discrepancy of two sets of features under a cubic kernel (Bińkowski et al. 2018)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from outfitgan.evaluation.metrics.arrays import Features, check_features, mean_of_others


def kernel_distance(real: Features, generated: Features) -> float:
    """Return the KID of features (n, d) and (m, d); its name must say which network they come from.

    The unbiased estimate over the whole sets, which equal sets may take below 0. Ours: the original averages it over
    random subsets, for speed; our sets are small. Raises InputError for a set of one image.
    """
    check_features(real, generated)
    within = mean_of_others(cubic_kernel(real, real)) + mean_of_others(cubic_kernel(generated, generated))
    return within - 2 * float(cubic_kernel(real, generated).mean())


def cubic_kernel(first: Features, second: Features) -> NDArray[np.float64]:
    """Return (x'y / d + 1)^3 of every pair: (n, m) of (n, d) and (m, d)."""
    products = first.astype(np.float64) @ second.astype(np.float64).T  # (n, m)
    cubes: NDArray[np.float64] = (products / first.shape[1] + 1) ** 3
    return cubes
