"""How well scores tell compatible outfits from others (the two tasks of Han et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from outfitgan.errors import InputError
from outfitgan.evaluation.metrics.arrays import Scores, check_scores


def auc(compatible: NDArray[Any], incompatible: NDArray[Any]) -> float:
    """Return the chance that one of `compatible` (n,) scores above one of `incompatible` (m,), ties counting half.

    The area under the ROC curve, as Mann and Whitney's U over n m. Raises InputError for an empty list or a NaN.
    """
    check_scores(compatible, incompatible)
    n, m = len(compatible), len(incompatible)
    ranks = rankdata(np.concatenate([compatible, incompatible]))  # (n + m,) from 1, ties averaged
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


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
