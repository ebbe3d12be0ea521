"""KID against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from outfitgan.errors import InputError
from outfitgan.evaluation.metrics.kernel_distance import kernel_distance


class AsTheyAre(nn.Module):
    """Hands the metric features instead of images."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save")
@pytest.mark.parametrize(("n", "d"), [(30, 4), (12, 50), (2, 3)])
def test_it_is_torchmetrics_over_the_whole_set(n: int, d: int) -> None:
    draw = np.random.default_rng(n)
    real, fake = draw.normal(size=(n, d)), draw.normal(size=(n, d)) + 0.5
    metric = KernelInceptionDistance(feature=AsTheyAre(), subsets=1, subset_size=n)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    assert kernel_distance(real, fake) == pytest.approx(metric.compute()[0].item(), rel=1e-9)


def test_sets_of_two_sizes_are_each_averaged() -> None:
    draw = np.random.default_rng(0)
    real, fake = draw.normal(size=(3, 2)), draw.normal(size=(5, 2))

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 2 + 1) ** 3)

    def within(rows: np.ndarray) -> float:
        return float(np.mean([kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]))

    between = np.mean([kernel(x, y) for x in real for y in fake])
    assert kernel_distance(real, fake) == pytest.approx(within(real) + within(fake) - 2 * between)


def test_it_is_unbiased() -> None:
    """Two samples of one source: about 0 on average, on both sides of it."""
    draw = np.random.default_rng(3)
    found = [kernel_distance(*draw.normal(size=(2, 10, 8))) for _ in range(400)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 20
    assert 0.3 < np.mean(np.array(found) < 0) < 0.8


def test_a_single_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"1 image\(s\)"):
        kernel_distance(np.ones((1, 3)), np.ones((4, 3)))
