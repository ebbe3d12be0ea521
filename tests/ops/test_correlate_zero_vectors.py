"""Vectors of zeros take no part in the correlation: torch implementations against the definition in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from correlation_cases import (
    DTYPES,
    IMPLEMENTATIONS,
    ZERO_CASES,
    attention,
    error,
    features,
    opposites,
    tolerance,
    unit,
    wide,
    zero_cases,
)
from numpy.typing import NDArray
from torch import Tensor

from outfitgan.ops.correlate.dispatch import Implementation, best_match, correlate


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.01])
@pytest.mark.parametrize("which", ZERO_CASES)
def test_zero_vectors_take_no_part(impl: Implementation, dtype: torch.dtype, temperature: float, which: str) -> None:
    target, source, values = zero_cases(*features(4, value_channels=9, dtype=dtype))[which]
    warped = correlate(target, source, values, temperature, impl)
    assert error(warped, target, source, values, temperature) < tolerance(impl, dtype, temperature)
    assert torch.equal(warped.any(dim=1), torch.from_numpy(matched(target, source)))
    wild = torch.where(source.any(dim=1, keepdim=True), values, 6e4)  # a weight of 0 takes any value
    assert torch.equal(correlate(target, source, wild, temperature, impl), warped)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_even_opposites_outweigh_zero_vectors(impl: Implementation, dtype: torch.dtype) -> None:
    for temperature in (1.0, 0.01):
        assert (correlate(*opposites(dtype), temperature, impl) == 0.5).all()


def matched(target: Tensor, source: Tensor) -> NDArray[np.bool_]:
    """Which target positions take part in images whose source has any that does: (B, H, W)."""
    some = unit(wide(source)).any(axis=(1, 2), keepdims=True)  # (B, 1, 1)
    found: NDArray[np.bool_] = unit(wide(target)).any(axis=-1).reshape(len(target), *target.shape[2:]) & some
    return found


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_vectors_up_to_a_millionth_long_are_zero(impl: Implementation) -> None:
    target, source, values = features(6)
    expected = correlate(target, source, values, 0.05, impl)
    target, source = (x / x.norm(dim=1, keepdim=True) for x in (target, source))
    for longer in ((target * 1.1e-6, source), (target, source * 1.1e-6)):
        torch.testing.assert_close(correlate(*longer, values, 0.05, impl), expected, atol=1e-5, rtol=0)
    for shorter in ((target * 0.9e-6, source), (target, source * 0.9e-6)):
        assert not correlate(*shorter, values, 0.05, impl).any()


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_what_is_not_a_number_is_seen(impl: Implementation) -> None:
    """In a source it reaches its image, in a target its own position: it is no vector of zeros."""
    target, source, values = features(9, 3)
    source[1, 3, 1, 1] = torch.nan
    target[0, 3, 1, 2] = torch.nan
    expected = torch.zeros(3, 1, 6, 5, dtype=torch.bool)
    expected[0, :, 1, 2] = expected[1] = True
    assert torch.equal(correlate(target, source, values, 0.05, impl).isnan(), expected.expand(-1, 16, -1, -1))
    assert torch.equal(best_match(target, source, 0.05)[1].isnan(), expected[:, 0])


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("which", ZERO_CASES)
def test_zero_vectors_have_no_gradient(impl: Implementation, which: str) -> None:
    leaves = [leaf.clone().requires_grad_() for leaf in zero_cases(*features(10))[which]]
    correlate(leaves[0], leaves[1], leaves[2], 0.05, impl).square().sum().backward()  # type: ignore[no-untyped-call]
    zero = [leaf.detach().norm(dim=1, keepdim=True) == 0 for leaf in leaves[:2]]
    for leaf, without in zip(leaves, [*zero, zero[1]], strict=True):
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()
        assert not (leaf.grad * without).any()
    assert leaves[2].grad is not None
    assert bool(leaves[2].grad.any()) == matched(leaves[0], leaves[1]).any()


@pytest.mark.parametrize("which", ZERO_CASES)
def test_best_match_of_zero_vectors_is_none(which: str) -> None:
    target, source, _ = zero_cases(*features(4))[which]
    index, weight = best_match(target, source, 0.01)
    weights = attention(wide(target), wide(source), 0.01)
    assert (index.flatten(1).numpy() == weights.argmax(-1)).all()
    np.testing.assert_allclose(weight.flatten(1).numpy(), weights.max(-1), atol=1e-4)
    unmatched = ~matched(target, source)
    assert not index[unmatched].any()
    assert not weight[unmatched].any()
