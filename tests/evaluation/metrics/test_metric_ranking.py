"""AUC and fill-in-the-blank against a plain count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outfitgan.errors import InputError
from outfitgan.evaluation.metrics.ranking import auc, fill_in_the_blank, fill_in_the_blank_accuracy

levels = st.lists(st.integers(-3, 3) | st.floats(allow_nan=False, width=32), min_size=1, max_size=25)


@settings(max_examples=150, deadline=None)
@given(good=levels, bad=levels)
def test_auc_is_the_share_of_pairs_in_order(good: list[float], bad: list[float]) -> None:
    wins = sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
    found = auc(np.array(good, float), np.array(bad, float))
    assert found == pytest.approx(wins / (len(good) * len(bad)), abs=1e-12)
    assert auc(np.array(bad, float), np.array(good, float)) == pytest.approx(1 - found, abs=1e-12)


def test_auc_knows_its_extremes() -> None:
    low, high = np.array([0.1, 0.2]), np.array([0.3, 0.4, 0.9])
    assert (auc(high, low), auc(low, high), auc(low, low)) == (1, 0, 0.5)
    assert auc(np.zeros(4, np.float32), np.zeros(2, np.float32)) == 0.5


def test_auc_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="give a list of at least one"):
        auc(np.array([]), np.array([1.0]))
    with pytest.raises(InputError, match="hold a NaN"):
        auc(np.array([1.0]), np.array([np.nan]))


def test_credit_is_shared_by_those_that_tie_for_the_best() -> None:
    scores = np.array([[3, 1, 2, 0], [1, 3, 2, 0], [2, 2, 1, 0], [1, 1, 1, 1], [1, 2, 2, 0]])
    np.testing.assert_allclose(fill_in_the_blank(scores), [1, 0, 1 / 2, 1 / 4, 0])
    assert fill_in_the_blank_accuracy(scores) == pytest.approx(1.75 / 5)


def test_guessing_earns_one_in_four() -> None:
    scores = np.random.default_rng(0).integers(0, 3, (4000, 4))  # many ties
    assert abs(fill_in_the_blank_accuracy(scores) - 0.25) < 0.02


@pytest.mark.parametrize("shape", [(4,), (0, 4), (4, 1)])
def test_what_is_no_question_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"give \(questions, choices\)"):
        fill_in_the_blank(np.zeros(shape))
    with pytest.raises(InputError, match="hold a NaN"):
        fill_in_the_blank(np.full((2, 2), np.nan))
