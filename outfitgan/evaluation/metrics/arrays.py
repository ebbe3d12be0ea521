"""What the metrics take, and the sentences that refuse the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from outfitgan.errors import InputError

Scores = NDArray[np.float64]  # (n,) one number an image, a question or an outfit
Features = NDArray[np.floating[Any]]  # (n, d) one row an image


def slices(total: int, step: int) -> Iterator[slice]:
    """Yield the slices of a list of `total` that hold up to `step` each."""
    for start in range(0, total, step):
        yield slice(start, start + step)


def check_pictures(*batches: Tensor) -> None:
    """Raise InputError unless all batches are (N, 3, S, S) with the same N and S, N at least 1, and finite."""
    shape = tuple(batches[0].shape)
    for batch in batches:
        if batch.ndim != 4 or batch.shape[0] < 1 or batch.shape[1] != 3 or batch.shape[2] != batch.shape[3]:
            raise InputError(f"Pictures are {tuple(batch.shape)}: give a batch of (N, 3, S, S).")
        if tuple(batch.shape) != shape:
            raise InputError(f"Pictures are {shape} and {tuple(batch.shape)}: give two batches of one shape.")
        if not bool(batch.isfinite().all()):
            raise InputError("Pictures hold a number that is not finite: look for the training step where it began.")


def check_masks(pictures: Tensor, masks: Tensor) -> None:
    """Raise InputError unless `masks` is (N, 1, S, S) beside pictures of (N, 3, S, S)."""
    wanted = (pictures.shape[0], 1, *pictures.shape[2:])
    if tuple(masks.shape) != wanted:
        raise InputError(f"Masks are {tuple(masks.shape)}: give {wanted}, one a picture.")


def check_features(*sets: Features) -> None:
    """Raise InputError unless all sets are (n, d) with the same d, n at least 2 each, and finite."""
    width = sets[0].shape[-1]
    for rows in sets:
        if rows.ndim != 2 or rows.shape[1] != width or not width:
            raise InputError(f"Features are {[part.shape for part in sets]}: give (n, d) of one width d.")
        if rows.shape[0] < 2:
            raise InputError(f"A set has {rows.shape[0]} image(s): a spread needs at least 2.")
        if not np.isfinite(rows).all():
            raise InputError("Features hold a number that is not finite: look at the pictures they come from.")


def check_scores(*sets: NDArray[Any]) -> None:
    """Raise InputError unless all sets are (n,), n at least 1, and hold no NaN."""
    for scores in sets:
        if scores.ndim != 1 or not scores.size:
            raise InputError(f"Scores are {scores.shape}: give a list of at least one.")
        if np.isnan(scores).any():
            raise InputError("Scores hold a NaN: look at the network they come from.")


def mean_of_others(matrix: NDArray[np.float64]) -> float:
    """Return the mean of a square matrix (n, n) off its diagonal; n is at least 2."""
    size = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (size * (size - 1)))
