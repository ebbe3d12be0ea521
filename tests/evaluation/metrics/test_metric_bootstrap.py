"""Intervals over outfits: against scipy's bootstrap, by their coverage, and draw by draw against copies written out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from outfitgan.errors import InputError
from outfitgan.evaluation.metrics import ranking
from outfitgan.evaluation.metrics.bootstrap import (
    Interval,
    Resamples,
    difference_interval,
    geometric_mean_interval,
    mean_interval,
    resample,
)
from outfitgan.evaluation.metrics.frechet import frechet_distance
from outfitgan.evaluation.metrics.kernel_distance import kernel_distance
from outfitgan.evaluation.metrics.ranking import auc
from outfitgan.evaluation.metrics.set_intervals import (
    auc_interval,
    frechet_interval,
    kernel_interval,
    texture_collapse_interval,
)
from outfitgan.evaluation.metrics.signs import texture_collapse

Rows = NDArray[np.float64]


def single_draw(rows: list[int], counts: list[int]) -> Resamples:
    """Return one draw, whose interval is that draw's figure twice."""
    return Resamples(np.array(rows), np.array([counts]), 0.95)


def test_an_interval_reads_as_three_digits_and_knows_its_neighbours() -> None:
    assert str(Interval(0.7123, 0.69, 0.7339, 40)) == "0.712 [0.690, 0.734]"
    assert str(Interval(0.003124, 0.0021, 0.0041, 40)) == "0.00312 [0.00210, 0.00410]"
    assert str(Interval(85.31, 80, 91.26, 40)) == "85.3 [80.0, 91.3]"
    assert str(Interval(1234.5, 1200, 1300.2, 40)) == "1234 [1200, 1300]"
    assert str(Interval(0, 0, 1e-13, 40)) == "0.00 [0.00, 0.00]"
    middle = Interval(2, 1, 3, 9)
    assert middle.overlaps(Interval(4, 3, 5, 9))
    assert middle.overlaps(Interval(2, 1.9, 2.1, 9))
    assert not middle.overlaps(Interval(4, 3.1, 5, 9))
    assert not middle.overlaps(Interval(0, -1, 0.9, 9))


def test_draws_are_as_many_outfits_and_repeatable() -> None:
    first, again = (resample(["b", "a", "b", "c"], replicates=50, seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.rows, [1, 0, 1, 2])
    np.testing.assert_array_equal(first.counts, again.counts)
    assert first.units == 3
    assert first.counts.shape == (50, 3)
    assert (first.counts.sum(axis=1) == 3).all()
    assert (first.counts != resample(["b", "a", "b", "c"], replicates=50, seed=5).counts).any()
    with pytest.raises(InputError, match=r"A bootstrap over 1 outfit\(s\) says nothing"):
        resample(["a", "a"])


def test_the_mean_has_the_percentile_interval_of_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=60)
    found = mean_interval(values, resample(np.arange(60), replicates=20000, confidence=0.9))
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20000, confidence_level=0.9, method="percentile", random_state=1
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert found.n == 60
    spread = expected.high - expected.low
    assert abs(found.low - expected.low) < 0.03 * spread
    assert abs(found.high - expected.high) < 0.03 * spread


def test_ninety_five_in_a_hundred_intervals_hold_the_truth() -> None:
    draw = np.random.default_rng(1)
    intervals = [mean_interval(draw.normal(2, 1, 50), resample(np.arange(50), 400, seed=i)) for i in range(300)]
    assert 0.89 < np.mean([each.low <= 2 <= each.high for each in intervals]) < 0.98


def test_images_of_one_outfit_are_not_independent_evidence() -> None:
    values = np.random.default_rng(2).normal(size=30)
    outfits = np.arange(30)
    alone = mean_interval(values, resample(outfits))
    tripled = mean_interval(values.repeat(3), resample(outfits.repeat(3)))
    assert tripled == Interval(pytest.approx(alone.value), pytest.approx(alone.low), pytest.approx(alone.high), 30)
    mistaken = mean_interval(values.repeat(3), resample(np.arange(90)))
    assert mistaken.high - mistaken.low < 0.75 * (alone.high - alone.low)


def test_outfits_of_several_sizes_weigh_by_their_images() -> None:
    values = np.array([1.0, 2, 3, 10])
    found = mean_interval(values, single_draw([0, 0, 0, 1], [1, 2]))
    assert found.low == found.high == pytest.approx((6 + 2 * 10) / 5)
    assert found.value == 4


def test_pairs_cancel_what_an_outfit_brings() -> None:
    draw = np.random.default_rng(3)
    hardness, resamples = draw.normal(size=80), resample(np.arange(80))
    first, second = hardness + 0.05 + 0.05 * draw.normal(size=80), hardness
    paired = difference_interval(first, second, resamples)
    assert 0 < paired.low < paired.value < paired.high < 0.1
    assert mean_interval(first, resamples).overlaps(mean_interval(second, resamples))
    with pytest.raises(InputError, match="on the same rows"):
        difference_interval(first, second[:-1], resamples)


def test_ratios_average_by_their_logarithms() -> None:
    found = geometric_mean_interval(np.array([2.0, 0.5, 4, 0.25]), resample(np.arange(4)))
    assert found.value == pytest.approx(1)
    assert found.low == pytest.approx(1 / found.high, rel=0.5)
    with pytest.raises(InputError, match="numbers above 0"):
        geometric_mean_interval(np.array([1.0, 0]), resample(np.arange(2)))


def test_values_that_are_not_one_a_row_are_refused() -> None:
    with pytest.raises(InputError, match="give one value a row"):
        mean_interval(np.ones(3), resample(np.arange(4)))
    with pytest.raises(InputError, match="NaN"):
        mean_interval(np.array([1, np.nan]), resample(np.arange(2)))
    with pytest.raises(InputError, match="name one a row"):
        kernel_interval(np.ones((3, 2)), np.ones((3, 2)), resample(np.arange(4)))


ROWS, COUNTS = [0, 0, 1, 2, 2, 3, 4], [2, 1, 0, 3, 1]  # seven items of five outfits, and how often a draw has each


def mean_over_copies(measure: Callable[[int, int], float], *, within: bool) -> float:
    """Average `measure(row, row)` over a draw written out copy by copy; copies of one outfit do not meet."""
    drawn = [(row, copy) for row, unit in enumerate(ROWS) for copy in range(COUNTS[unit])]
    return float(
        np.mean(
            [
                measure(i, j)
                for i, c in drawn
                for j, d in drawn
                if (ROWS[i] != ROWS[j] or c == d) and not (within and i == j)
            ]
        )
    )


def features(seed: int = 0) -> tuple[Rows, Rows]:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(7, 3)), draw.normal(size=(7, 3)) + 0.4


def test_a_draw_of_kid_counts_pairs_of_copies_but_of_one_outfit() -> None:
    real, fake = features()

    def kernel(x: Rows, y: Rows) -> Callable[[int, int], float]:
        return lambda i, j: (x[i] @ y[j] / 3 + 1) ** 3

    expected = (
        mean_over_copies(kernel(real, real), within=True)
        + mean_over_copies(kernel(fake, fake), within=True)
        - 2 * mean_over_copies(kernel(real, fake), within=False)
    )
    found = kernel_interval(real, fake, single_draw(ROWS, COUNTS))
    assert found.low == found.high == pytest.approx(expected)
    assert found.value == pytest.approx(kernel_distance(real, fake))
    whole = kernel_interval(real, fake, single_draw(ROWS, [1] * 5))
    assert whole.low == pytest.approx(whole.value)


def test_a_draw_of_texture_collapse_does_the_same() -> None:
    real, fake = features(1)

    def distance(rows: Rows) -> Callable[[int, int], float]:
        return lambda i, j: float(np.linalg.norm((rows[i] - rows[j]) / real.std(0)))

    expected = mean_over_copies(distance(fake), within=True) / mean_over_copies(distance(real), within=True)
    found = texture_collapse_interval(fake, real, single_draw(ROWS, COUNTS))
    assert found.low == found.high == pytest.approx(expected)
    assert found.value == pytest.approx(texture_collapse(fake, real))


def test_a_draw_of_auc_does_the_same() -> None:
    good, bad = np.array([3.0, 1, 4, 1, 5, 2, 2]), np.array([2.0, 1, 0, 5, 3, 2, 1])

    def wins(i: int, j: int) -> float:
        return (good[i] > bad[j]) + 0.5 * (good[i] == bad[j])

    found = auc_interval(good, bad, single_draw(ROWS, COUNTS))
    assert found.low == found.high == pytest.approx(mean_over_copies(wins, within=False))
    assert found.value == pytest.approx(auc(good, bad))


@pytest.mark.parametrize("levels", [3, 1000])  # with many ties, and with few
def test_draws_of_auc_are_means_over_the_matrix_of_all_pairs(monkeypatch: pytest.MonkeyPatch, levels: int) -> None:
    """However few draws are counted at a time; rows of one outfit lie apart and are not equally many."""
    draw = np.random.default_rng(levels)
    names = draw.integers(0, 6, 25)
    good, bad = draw.integers(0, levels, 25).astype(float), draw.integers(0, levels, 25).astype(float)
    resamples = resample(names, replicates=40)
    same = resamples.rows[:, None] == resamples.rows  # (n, n)
    wins = (good[:, None] > bad) + 0.5 * (good[:, None] == bad)
    expected = []
    for counts in resamples.counts:
        copies = counts[resamples.rows]
        weights = np.where(same, copies[:, None], np.outer(copies, copies))
        expected.append((weights * wins).sum() / weights.sum())
    for cells in (1, 60, 1 << 21):
        monkeypatch.setattr(ranking, "_CELLS", cells)
        np.testing.assert_allclose(ranking.resampled_auc(good, bad, resamples), expected, rtol=1e-12)


def test_draws_of_kid_are_not_biased_by_duplicates() -> None:
    draw = np.random.default_rng(5)
    real, fake = draw.normal(size=(40, 30)), draw.normal(size=(40, 30)) + 0.3
    resamples = resample(np.arange(40), 4000)
    found = kernel_interval(real, fake, resamples)
    narrow = Resamples(resamples.rows, resamples.counts, 0.02)  # about the median
    middle = kernel_interval(real, fake, narrow)
    assert abs((middle.low + middle.high) / 2 - found.value) < 0.1 * (found.high - found.low)


def test_a_draw_without_a_pair_is_left_out() -> None:
    real, fake = features()
    two = np.array([0, 1])
    resamples = Resamples(two, np.array([[2, 0], [1, 1], [0, 2]]), 0.95)
    found = kernel_interval(real[:2], fake[:2], resamples)
    assert found.low == found.high == pytest.approx(found.value)
    collapse = texture_collapse_interval(fake[:2], real[:2], resamples)
    assert collapse.low == collapse.high == pytest.approx(collapse.value)


def test_fid_lies_in_its_interval_which_narrows_with_more_outfits() -> None:
    draw = np.random.default_rng(6)
    real, fake = draw.normal(size=(160, 50)), draw.normal(size=(160, 50)) * 1.2
    few = frechet_interval(real[:20], fake[:20], resample(np.arange(20)))
    many = frechet_interval(real, fake, resample(np.arange(160)))
    for found, n in ((few, 20), (many, 160)):
        assert found.value == pytest.approx(frechet_distance(real[:n], fake[:n]))
        assert 0 <= found.low < found.value < found.high
    assert many.high - many.low < 0.6 * (few.high - few.low)
    tripled = frechet_interval(real[:20].repeat(3, 0), fake[:20].repeat(3, 0), resample(np.arange(20).repeat(3)))
    assert tripled.high - tripled.low == pytest.approx(few.high - few.low, rel=0.15)
    same = frechet_interval(real, real, resample(np.arange(160)))
    assert same.high == pytest.approx(0, abs=1e-4)
