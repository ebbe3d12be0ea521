"""The correlation written out in numpy at double precision, and features to try it on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def unit(features: Array) -> Array:
    """(B, C, H, W) -> (B, N, C), each row of length 1, or shorter where its norm is below 1e-6."""
    rows = features.reshape(*features.shape[:2], -1).transpose(0, 2, 1)
    units: Array = rows / np.maximum(np.sqrt((rows**2).sum(-1, keepdims=True)), 1e-6)
    return units


def attention(target: Array, source: Array, temperature: float) -> Array:
    """(B, N, M), rows that sum to 1."""
    logits = np.einsum("bnc,bmc->bnm", unit(target), unit(source)) / temperature
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    weights: Array = odds / odds.sum(-1, keepdims=True)
    return weights


def by_definition(target: Array, source: Array, values: Array, temperature: float) -> Array:
    flat = values.reshape(*values.shape[:2], -1)  # (B, Cv, M)
    warped: Array = np.einsum("bnm,bvm->bvn", attention(target, source, temperature), flat)
    return warped.reshape(*values.shape[:2], *target.shape[2:])


def wide(tensor: Tensor) -> Array:
    array: Array = tensor.detach().double().numpy()
    return array


def error(warped: Tensor, target: Tensor, source: Tensor, values: Tensor, temperature: float) -> float:
    """Worst distance from the definition on the very numbers that the operator was given."""
    expected = by_definition(wide(target), wide(source), wide(values), temperature)
    assert warped.shape == expected.shape
    assert warped.dtype == values.dtype
    return float(np.abs(wide(warped) - expected).max())


def features(
    seed: int,
    batch: int = 2,
    channels: int = 16,
    value_channels: int = 16,
    target_grid: tuple[int, int] = (6, 5),
    source_grid: tuple[int, int] = (6, 5),
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    draw = np.random.default_rng(seed)
    target = draw.normal(size=(batch, channels, *target_grid))
    source = draw.normal(size=(batch, channels, *source_grid))
    values = draw.uniform(-1, 1, size=(batch, value_channels, *source_grid))
    tensors = (torch.from_numpy(array).to(dtype) for array in (target, source, values))
    return next(tensors), next(tensors), next(tensors)
