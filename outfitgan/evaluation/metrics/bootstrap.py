"""How far a result could be chance: percentile bootstrap intervals (Efron 1979) over whole outfits.

An outfit's items stand or fall together, so outfits are drawn, not images. Two runs that are measured on the same
outfits with the same seed see the same draws. The interval covers the choice of test outfits, not another training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outfitgan.errors import InputError
from outfitgan.evaluation.metrics.arrays import Scores, check_scores


@dataclass(frozen=True)
class Interval:
    """A result, the bounds that 95 % (or another share) of the resamples keep to, and over how many outfits."""

    value: float
    low: float
    high: float
    n: int

    def overlaps(self, other: Interval) -> bool:
        """Return whether the two have a number in common; if not, they differ by more than chance.

        Overlapping ones may still differ: for one set of outfits, `difference_interval` is the sharper question.
        """
        return self.low <= other.high and other.low <= self.high

    def __str__(self) -> str:
        """Return "0.712 [0.690, 0.734]": three digits of the largest of the three numbers."""
        largest = max(map(abs, (self.value, self.low, self.high)))
        places = max(2 - math.floor(math.log10(largest)), 0) if 1e-8 < largest < math.inf else 2
        return f"{self.value:.{places}f} [{self.low:.{places}f}, {self.high:.{places}f}]"


@dataclass(frozen=True)
class Resamples:
    """B draws of as many outfits as there are, with replacement."""

    rows: NDArray[np.int64]  # (n,) the outfit of each row of what is measured
    counts: NDArray[np.int64]  # (B, U) how often each draw has each outfit
    confidence: float

    @property
    def units(self) -> int:
        """How many outfits there are."""
        return self.counts.shape[1]

    def interval(self, value: float, replicates: Scores) -> Interval:
        """Return the interval of `value` by the replicates (B,); those that are not finite had nothing to measure."""
        outside = (1 - self.confidence) / 2
        low, high = np.quantile(replicates[np.isfinite(replicates)], [outside, 1 - outside])
        return Interval(float(value), float(low), float(high), self.units)


def resample(
    units: Sequence[str] | Sequence[int] | NDArray[np.int64],
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Resamples:
    """Draw outfits; `units` (n,) names the outfit of each row that is to be measured.

    Raises InputError for fewer than two outfits, of which there is no other draw.
    """
    names, rows = np.unique(np.asarray(units), return_inverse=True)
    if len(names) < 2:
        raise InputError(f"A bootstrap over {len(names)} outfit(s) says nothing: measure at least 2.")
    counts = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=replicates)
    return Resamples(rows.astype(np.int64), counts, confidence)


def mean_interval(values: Scores, resamples: Resamples) -> Interval:
    """Return the interval of the mean of values (n,), one a row."""
    check_scores(values)
    if len(values) != len(resamples.rows):
        raise InputError(f"There are {len(values)} values and {len(resamples.rows)} rows: give one value a row.")
    sums = np.bincount(resamples.rows, values, resamples.units)  # (U,)
    sizes = np.bincount(resamples.rows, minlength=resamples.units)
    return resamples.interval(values.mean(), (resamples.counts @ sums) / (resamples.counts @ sizes))


def geometric_mean_interval(values: Scores, resamples: Resamples) -> Interval:
    """Return the interval of the geometric mean of positive values (n,): for ratios, where 2 and 1/2 average to 1."""
    if not (values > 0).all():
        raise InputError("A geometric mean takes numbers above 0: give ratios.")
    logs = mean_interval(np.log(values), resamples)
    return Interval(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high), logs.n)


def difference_interval(first: Scores, second: Scores, resamples: Resamples) -> Interval:
    """Return the interval of mean(first) - mean(second), both (n,) measured on the same rows.

    Paired: what makes one outfit easier than another cancels. Beyond chance if the interval leaves out 0.
    """
    if first.shape != second.shape:
        raise InputError(f"Scores are {first.shape} and {second.shape}: give both runs' on the same rows.")
    return mean_interval(first - second, resamples)
