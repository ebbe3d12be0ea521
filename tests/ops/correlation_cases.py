"""The correlation written out in numpy at double precision, and features to try it on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from outfitgan.ops.correlate.dispatch import Implementation

Array = NDArray[np.float64]
HALVES = (torch.float16, torch.bfloat16)
DTYPES = (torch.float64, torch.float32, *HALVES)
IMPLEMENTATIONS: tuple[Implementation, ...] = ("reference", "sdpa")


def unit(features: Array) -> Array:
    """(B, C, H, W) -> (B, N, C), each row of length 1, or of zeros where it is no longer than 1e-6."""
    rows = features.reshape(*features.shape[:2], -1).transpose(0, 2, 1)
    lengths = np.sqrt((rows**2).sum(-1, keepdims=True))
    units: Array = np.where(lengths <= 1e-6, 0, rows / np.maximum(lengths, 1e-6))
    return units


def attention(target: Array, source: Array, temperature: float) -> Array:
    """(B, N, M), rows that sum to 1, or are 0 where the target is zero or the whole source; 0 for a zero source."""
    queries, keys = unit(target), unit(source)
    logits = np.where(keys.any(-1)[:, None, :], np.einsum("bnc,bmc->bnm", queries, keys) / temperature, -np.inf)
    top = logits.max(-1, keepdims=True)
    odds = np.exp(logits - np.where(np.isfinite(top), top, 0)) * queries.any(-1, keepdims=True)
    weights: Array = odds / np.maximum(odds.sum(-1, keepdims=True), 1)  # the best's odds are 1
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


def with_ground(
    target: Tensor, source: Tensor, values: Tensor, share: float, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return copies with about `share` of each image's target and source positions zero."""
    draw = np.random.default_rng(seed)
    kept = [torch.from_numpy(draw.random((len(x), 1, *x.shape[2:])) >= share) for x in (target, source)]
    return target * kept[0], source * kept[1], values


def zero_cases(target: Tensor, source: Tensor, values: Tensor) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Return what vectors of zeros there are, of tensors of two images without any."""
    first, rest = (torch.zeros_like(source[:, :1]) for _ in range(2))
    first[:, :, 0, 0], rest[:, :, -1, -1] = 1, 1
    one = torch.tensor([0.0, 1.0]).to(source.dtype).reshape(2, 1, 1, 1)
    position, other = torch.ones_like(target), torch.ones_like(source)
    position[0, :, 2, 3], other[1, :, 0, 0] = 0, 0
    return {
        "one position": (target * position, source * other, values),
        "most": with_ground(target, source, values, 0.8),
        "target": (target * 0, source, values),
        "one target": (target * one, source, values),
        "source": (target, source * 0, values),
        "one source": (target, source * one, values),
        "both": (target * 0, source * 0, values),
        "all but the first source": (target, source * first, values),
        "all but the last source": (target, source * rest, values),
    }


def opposites(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return a source of one position of value 0.5, opposite to all of the target, beside zero vectors of 6e4."""
    target, source, values = torch.zeros(1, 16, 2, 2), torch.zeros(1, 16, 3, 3), torch.full((1, 16, 3, 3), 6e4)
    target[:, 0], source[:, 0, 1, 1], values[..., 1, 1] = 1, -1, 0.5
    return target.to(dtype), source.to(dtype), values.to(dtype)


ZERO_CASES = tuple(zero_cases(*features(0)))


def tolerance(impl: Implementation, dtype: torch.dtype, temperature: float, channels: int = 16) -> float:
    """How far from the definition an answer may be, for values in [-1, 1].

    With u the dtype's unit roundoff: storing the result costs u at most. What a cosine is wrong by, the softmax passes
    on divided by the temperature: a few u where the arithmetic is the dtype's own; nothing of u in a half-precision
    reference, which computes in FP32; and where sdpa rounds unit vectors to a half, u over the root of their length.
    """
    u = torch.finfo(dtype).eps / 2
    if dtype not in HALVES:
        return u * (1 + 4 / temperature)
    return 1.1 * u + (1.4 * u / temperature / channels**0.5 if impl != "reference" else 0)
