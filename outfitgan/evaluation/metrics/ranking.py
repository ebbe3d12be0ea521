"""How well scores tell compatible outfits from others (the two tasks of Han et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from outfitgan.errors import InputError
from outfitgan.evaluation.metrics.arrays import Scores, check_scores, slices
from outfitgan.evaluation.metrics.bootstrap import Resamples

_CELLS = 1 << 21  # draws times rows at a time


def auc(compatible: NDArray[Any], incompatible: NDArray[Any]) -> float:
    """Return the chance that one of `compatible` (n,) scores above one of `incompatible` (m,), ties counting half.

    The area under the ROC curve, as Mann and Whitney's U over n m. Raises InputError for an empty list or a NaN.
    """
    check_scores(compatible, incompatible)
    n, m = len(compatible), len(incompatible)
    ranks = rankdata(np.concatenate([compatible, incompatible]))  # (n + m,) from 1, ties averaged
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def resampled_auc(compatible: NDArray[Any], incompatible: NDArray[Any], resamples: Resamples) -> Scores:
    """Return each draw's AUC (B,) of scores (n,) and (n,), whose rows i are of one outfit.

    A pair of two outfits counts once for each pair of their copies; a pair inside one outfit once a copy. By counts in
    order of the scores, in n log n: there is no matrix of pairs.
    """
    rows, counts = resamples.rows, resamples.counts
    order = np.argsort(incompatible, kind="stable")
    ranked = incompatible[order]
    below, upto = (np.searchsorted(ranked, compatible, side) for side in ("left", "right"))  # (n,)
    wins = np.empty(len(counts))
    for part in slices(len(counts), max(_CELLS // len(rows), 1)):
        copies = counts[part][:, rows].astype(np.float64)  # (b, n)
        beaten = np.pad(copies[:, order].cumsum(axis=1), ((0, 0), (1, 0)))  # (b, n + 1) copies below each place
        wins[part] = (copies * (beaten[:, below] + beaten[:, upto])).sum(axis=1) / 2
    sizes = np.bincount(rows, minlength=resamples.units)  # (U,)
    own = np.empty(resamples.units)  # wins inside an outfit
    for unit, members in enumerate(np.split(np.argsort(rows, kind="stable"), sizes.cumsum()[:-1])):
        higher, lower = compatible[members, None], incompatible[members]
        own[unit] = (higher > lower).sum() + 0.5 * (higher == lower).sum()
    twice = counts - counts**2  # (B, U): an outfit's copies meet themselves alone
    pairs = (counts @ sizes) ** 2 + twice @ sizes**2
    replicates: Scores = (wins + twice @ own) / pairs
    return replicates


def fill_in_the_blank(scores: NDArray[Any]) -> Scores:
    """Return each question's credit (q,), whose mean is the accuracy, of scores (q, choices), the right one first.

    1 where the right choice scores best, 0 where another does; of k that tie for the best, the right one among them
    earns 1 / k. Raises InputError for fewer than two choices or a NaN.
    """
    if scores.ndim != 2 or not len(scores) or scores.shape[1] < 2:
        raise InputError(f"Scores are {scores.shape}: give (questions, choices) with at least 2 choices.")
    check_scores(scores.reshape(-1))
    best = scores == scores.max(axis=1, keepdims=True)  # (q, choices)
    credit: Scores = best[:, 0] / best.sum(axis=1)
    return credit


def fill_in_the_blank_accuracy(scores: NDArray[Any]) -> float:
    """Return the mean credit of `fill_in_the_blank`."""
    return float(fill_in_the_blank(scores).mean())
