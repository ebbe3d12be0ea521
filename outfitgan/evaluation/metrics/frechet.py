"""FID: the Fréchet distance of two sets of features, each taken as a Gaussian (Heusel et al. 2017)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from outfitgan.evaluation.metrics.arrays import Features, Scores, check_features


def frechet_distance(real: Features, generated: Features) -> float:
    """Return the FID of features (n, d) and (m, d); its name must say which network they come from.

    |mu - nu|^2 + tr S + tr T - 2 tr (S T)^(1/2) with unbiased covariances. With S = A'A and T = B'B, where A and B hold
    centred features, the last trace is the sum of the singular values of A B': exact, no d x d root, any n and d.
    Few images make it large, so compare it at one n only. Raises InputError for a set of one image.
    """
    check_features(real, generated)
    mu, a = _moments(real)
    nu, b = _moments(generated)
    shift = np.square(mu - nu).sum()
    spread = np.square(a).sum() + np.square(b).sum()
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(float(shift + spread - 2 * overlap), 0.0)  # rounding can leave -1e-12 of equal sets


def resampled_frechet_distances(real: Features, generated: Features, counts: NDArray[np.int64]) -> Scores:
    """Return each draw's FID (B,) of features (n, d) and (n, d) if row i of both stood there `counts[draw, i]` times.

    All that a draw needs of the features is products of two rows, so a draw costs n^3, not n^2 d.
    """
    check_features(real, generated)
    middle = real.mean(axis=0, dtype=np.float64)  # near both means, so that little cancels below
    a, b = real - middle, generated - middle  # (n, d)
    products = a @ b.T  # (n, n)
    weights = counts / counts.sum(axis=1, keepdims=True)  # (B, n)
    mu, nu = weights @ a, weights @ b  # (B, d)
    shift = np.square(mu - nu).sum(axis=1)  # (B,)
    squares = weights @ (np.square(a).sum(axis=1) + np.square(b).sum(axis=1))  # (B,)
    spread = squares - np.square(mu).sum(axis=1) - np.square(nu).sum(axis=1)
    overlap = np.array([_overlap(products, draw) for draw in weights])
    totals = counts.sum(axis=1)
    distances: Scores = np.maximum(shift + (spread - 2 * overlap) * totals / (totals - 1), 0)
    return distances


def _moments(features: Features) -> tuple[Scores, NDArray[np.float64]]:
    """Return the mean (d,) and a factor A (r, d), r the smaller of n and d, of the covariance A'A."""
    rows = features.astype(np.float64)
    mean = rows.mean(axis=0)
    factor = (rows - mean) / np.sqrt(len(rows) - 1)  # (n, d)
    return mean, np.asarray(np.linalg.qr(factor, mode="r")) if len(factor) > factor.shape[1] else factor


def _overlap(products: NDArray[np.float64], weights: Scores) -> float:
    """Return the sum of the singular values of A B', biased covariances', from the products of uncentred rows."""
    drawn = weights > 0
    w, inner = weights[drawn], products[np.ix_(drawn, drawn)]  # (k,), (k, k)
    left, right = inner @ w, w @ inner  # products with the other set's mean
    centred = inner - left[:, None] - right + w @ left
    scaled = centred * np.sqrt(np.outer(w, w))
    return float(np.sqrt(np.maximum(np.linalg.eigvalsh(scaled @ scaled.T), 0)).sum())  # to 1e-8, three times as fast
