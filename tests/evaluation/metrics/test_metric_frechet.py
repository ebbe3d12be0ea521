"""FID against torchmetrics, a matrix square root, and what is known of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from scipy.stats import ortho_group
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from outfitgan.errors import InputError
from outfitgan.evaluation.metrics.frechet import frechet_distance, resampled_frechet_distances

Rows = NDArray[np.float64]


class AsTheyAre(nn.Module):
    """Hands the metric features instead of images."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, rows: Tensor) -> Tensor:
        return rows


def sets(n: int, m: int, d: int, seed: int = 0) -> tuple[Rows, Rows]:
    draw = np.random.default_rng(seed)
    mix = draw.normal(size=(d, d))
    return draw.normal(size=(n, d)) @ mix + 3, np.abs(draw.normal(size=(m, d)))


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 8), (40, 60, 20)])
def test_it_is_torchmetrics_and_the_root_of_scipy(n: int, m: int, d: int) -> None:
    real, fake = sets(n, m, d)
    metric = FrechetInceptionDistance(feature=AsTheyAre(d)).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    found = frechet_distance(real, fake)
    assert found == pytest.approx(metric.compute().item(), rel=1e-6)
    s, t = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    root = np.trace(sqrtm(s @ t)).real
    shift = np.square(real.mean(0) - fake.mean(0)).sum()
    assert found == pytest.approx(shift + np.trace(s) + np.trace(t) - 2 * root, rel=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), [(5, 9, 40), (2, 2, 7), (9, 30, 12)])
def test_fewer_images_than_features_are_exact(n: int, m: int, d: int) -> None:
    """The same rows written in their own span, where the covariance has full rank."""
    real, fake = sets(n, m, d)
    s, t = (np.cov(rows, rowvar=False) for rows in (real, fake))
    eigenvalues, vectors = np.linalg.eigh(s)
    root = (vectors * np.sqrt(np.maximum(eigenvalues, 0))) @ vectors.T
    overlap = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ t @ root), 0)).sum()
    expected = np.square(real.mean(0) - fake.mean(0)).sum() + np.trace(s) + np.trace(t) - 2 * overlap
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(2, 20), d=st.integers(2, 12), offset=st.floats(-50, 50))
def test_it_knows_shifts_and_neither_order_nor_axes(seed: int, n: int, d: int, offset: float) -> None:
    draw = np.random.default_rng(seed)
    real, fake = draw.normal(size=(n, d)), draw.normal(size=(n + 1, d)) * 2
    turn = ortho_group.rvs(d, random_state=seed)
    found = frechet_distance(real, fake)
    assert found >= 0
    assert frechet_distance(fake, real) == pytest.approx(found, rel=1e-9, abs=1e-9)
    assert frechet_distance(real[::-1], draw.permutation(fake)) == pytest.approx(found, rel=1e-9, abs=1e-9)
    assert frechet_distance((real + offset) @ turn, (fake + offset) @ turn) == pytest.approx(found, rel=1e-6, abs=1e-8)
    assert frechet_distance(real, real + offset) == pytest.approx(d * offset**2, rel=1e-9, abs=1e-9)


def test_equal_and_constant_sets_give_no_nan() -> None:
    real, _ = sets(6, 6, 30)
    flat = np.full((4, 30), 2.0)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(flat, flat) == 0
    assert frechet_distance(flat, flat + 1) == pytest.approx(30)
    spread = np.trace(np.cov(real, rowvar=False)) + np.square(real.mean(0) - 2).sum()
    assert frechet_distance(real, flat) == pytest.approx(spread)


def test_features_of_half_precision_are_summed_in_double() -> None:
    real, fake = sets(50, 40, 6)
    narrow = real.astype(np.float16), fake.astype(np.float16)
    assert frechet_distance(*narrow) == pytest.approx(frechet_distance(*(part.astype(np.float64) for part in narrow)))


@pytest.mark.parametrize(("n", "d"), [(12, 5), (9, 40)])
def test_a_draw_is_the_fid_of_its_copies(n: int, d: int) -> None:
    real, fake = sets(n, n, d)
    counts = np.random.default_rng(1).multinomial(n, np.full(n, 1 / n), size=8)
    counts[0] = 1
    counts[1] = [n] + [0] * (n - 1)  # one image, over and over
    expected = [frechet_distance(real.repeat(draw, axis=0), fake.repeat(draw, axis=0)) for draw in counts]
    np.testing.assert_allclose(resampled_frechet_distances(real, fake, counts), expected, rtol=1e-6)


def test_sets_without_a_spread_are_refused_in_a_sentence() -> None:
    real, fake = sets(5, 5, 3)
    with pytest.raises(InputError, match=r"A set has 1 image\(s\): a spread needs at least 2"):
        frechet_distance(real, fake[:1])
    with pytest.raises(InputError, match="of one width"):
        frechet_distance(real, fake[:, :2])
    with pytest.raises(InputError, match="of one width"):
        frechet_distance(real[0], fake[0])
    fake[0, 0] = np.inf
    with pytest.raises(InputError, match="not finite"):
        frechet_distance(real, fake)
