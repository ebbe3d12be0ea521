"""The terms of the objective against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outfitgan.networks.vgg import Vgg16
from outfitgan.training.losses import compatibility, lsgan, perceptual


@pytest.mark.parametrize("goal", [0.0, 1.0])
def test_lsgan_is_the_mean_over_scales_of_the_mean_square(goal: float) -> None:
    draw = np.random.default_rng(0)
    maps = [draw.normal(size=(2, 1, side, side)) for side in (8, 4)]
    expected = np.mean([np.mean((scores - goal) ** 2) for scores in maps])
    assert lsgan([torch.from_numpy(scores) for scores in maps], goal).item() == pytest.approx(expected, rel=1e-12)
    assert lsgan([torch.full((1, 1, 2, 2), goal)], goal).item() == 0


@settings(max_examples=50, deadline=None)
@given(logits=st.lists(st.floats(-500, 500), min_size=1, max_size=8), label=st.sampled_from([0.0, 1.0]))
def test_compatibility_is_the_cross_entropy(logits: list[float], label: float) -> None:
    x = np.array(logits)
    expected = np.mean(np.logaddexp(0, -x if label else x))  # log(1 + exp(-x)), which does not overflow
    found = compatibility(torch.tensor(logits, dtype=torch.float64), label).item()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_perceptual_is_the_weighted_l1_of_the_five_taps() -> None:
    torch.manual_seed(0)
    network = Vgg16()
    fake, real = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 3, 32, 32) * 2 - 1
    taps = zip((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0), network(fake), network(real), strict=True)
    expected = sum(weight * np.abs(a.double().numpy() - b.double().numpy()).mean() for weight, a, b in taps)
    assert perceptual(network, fake, real).item() == pytest.approx(expected, rel=1e-5)
    assert perceptual(network, real, real).item() == 0
    fake.requires_grad_()
    perceptual(network, fake, real).backward()  # type: ignore[no-untyped-call]
    assert fake.grad is not None
    assert fake.grad.any()
