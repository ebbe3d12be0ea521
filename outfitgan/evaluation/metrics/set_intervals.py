"""Bootstrap intervals of what a whole set has and one image has not: FID, KID, texture collapse, AUC.

Features are computed once; a draw only weighs them. Row i of every array belongs to the outfit that the resamples'
row i names, so real and generated items of an outfit are drawn together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from outfitgan.errors import InputError
from outfitgan.evaluation.metrics.arrays import Features, Scores
from outfitgan.evaluation.metrics.bootstrap import Interval, Resamples
from outfitgan.evaluation.metrics.frechet import frechet_distance, resampled_frechet_distances
from outfitgan.evaluation.metrics.kernel_distance import cubic_kernel, kernel_distance
from outfitgan.evaluation.metrics.ranking import auc, resampled_auc
from outfitgan.evaluation.metrics.signs import texture_collapse, texture_distances

_FRECHET_DRAWS = 200  # each costs the eigenvalues of a matrix of the set's size


def frechet_interval(real: Features, generated: Features, resamples: Resamples) -> Interval:
    """Return the interval of the FID of features (n, d) and (n, d), by the first 200 draws.

    A draw holds about 63 % of the outfits, and fewer different images give a larger FID: draws are biased upward, the
    more the fewer outfits there are. Ours: their mean excess over the value is taken off, since the value would often
    lie below its own interval; what is left is cautious, about half again as wide as FID's spread over fresh samples.
    The value has a bias of that kind too, so compare at one number of outfits only; `kernel_interval` has neither.
    """
    _check_rows(resamples, real, generated)
    value = frechet_distance(real, generated)
    draws = resampled_frechet_distances(real, generated, resamples.counts[:_FRECHET_DRAWS, resamples.rows])
    return resamples.interval(value, np.maximum(draws - (draws.mean() - value), 0))


def kernel_interval(real: Features, generated: Features, resamples: Resamples) -> Interval:
    """Return the interval of the KID of features (n, d) and (n, d); copies of an outfit never meet each other."""
    _check_rows(resamples, real, generated)
    among_real = _mean_of_pairs(cubic_kernel(real, real), _others(len(real)), resamples)
    among_generated = _mean_of_pairs(cubic_kernel(generated, generated), _others(len(real)), resamples)
    between = _mean_of_pairs(cubic_kernel(real, generated), np.ones((len(real), len(real))), resamples)
    return resamples.interval(kernel_distance(real, generated), among_real + among_generated - 2 * between)


def texture_collapse_interval(generated: Features, real: Features, resamples: Resamples) -> Interval:
    """Return the interval of `texture_collapse` of texture features (n, 12) and (n, 12)."""
    _check_rows(resamples, generated, real)
    means = (_mean_of_pairs(far, _others(len(far)), resamples) for far in texture_distances(generated, real))
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw of twins has no diversity
        replicates: Scores = next(means) / next(means)
    return resamples.interval(texture_collapse(generated, real), replicates)


def auc_interval(compatible: NDArray[Any], incompatible: NDArray[Any], resamples: Resamples) -> Interval:
    """Return the interval of the AUC of scores (n,) and (n,): each outfit's and that of its incompatible variant.

    Where outfits have several variants, repeat the outfit's score and name beside each.
    """
    _check_rows(resamples, compatible, incompatible)
    return resamples.interval(auc(compatible, incompatible), resampled_auc(compatible, incompatible, resamples))


def _mean_of_pairs(values: NDArray[np.float64], among: NDArray[np.float64], resamples: Resamples) -> Scores:
    """Return each draw's mean (B,) of values (n, n) over the pairs of rows that `among` (n, n) marks with 1.

    A pair of two outfits counts once for each pair of their copies; a pair inside one outfit once a copy, so that a
    copy never meets another of itself: it would be more alike than any two outfits are.
    """
    rows = resamples.rows
    member = csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))), shape=(resamples.units, len(rows)))
    sums, sizes = (member @ (member @ part).T for part in (values * among, among))  # (U, U), transposed
    counts = resamples.counts.astype(np.float64)  # (B, U)

    def total(pairs: NDArray[np.float64]) -> Scores:
        inside = np.diag(pairs)  # (U,)
        across: Scores = ((counts @ (pairs - np.diag(inside))) * counts).sum(axis=1)
        return across + counts @ inside

    with np.errstate(invalid="ignore"):  # a draw of one outfit alone has no pair
        mean: Scores = total(sums) / total(sizes)
    return mean


def _others(size: int) -> NDArray[np.float64]:
    return 1 - np.eye(size)


def _check_rows(resamples: Resamples, *arrays: NDArray[Any]) -> None:
    for array in arrays:
        if len(array) != len(resamples.rows):
            raise InputError(f"There are {len(array)} rows and the outfits of {len(resamples.rows)}: name one a row.")
