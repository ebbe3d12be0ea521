"""The correlation by its definition, in plain torch: the specification of every other form.

For each target position: cosine with every source position, divided by a temperature, softmax over the source
positions, weighted sum of the source's values. The inputs arrive centred (see `CentredProjection`).

Vectors of zeros take no part: a source position that is zero is matched by nothing, a target position that is zero gets
zeros. So ground needs no mask of its own, and an engine may leave it out.

B batch, C matching channels, Cv value channels, N = H*W target positions, M = Hs*Ws source positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

MIN_NORM = 1e-6
"""Vectors that are no longer than this are zero, and take no part."""

EXCLUDED = -1e30
"""The logit of a source position that takes no part: finite, so that a softmax over nothing else is no NaN."""

_ROWS = 1024  # target positions whose correlations `reference_best_match` holds at a time


def reference(target: Tensor, source: Tensor, values: Tensor, temperature: float) -> Tensor:
    """Compute `correlate` by its definition, in FP32 or better, with the (N, M) matrix in memory."""
    logits = logits_of(positions_of(target), positions_of(source), temperature)  # (B, N, M)
    wide = positions_of(values).to(logits.dtype)  # (B, M, Cv)
    warped = logits.softmax(dim=-1) @ wide  # (B, N, Cv)
    warped = warped * has_match(positions_of(target), positions_of(source))
    return grid_of(warped, target).to(values.dtype)  # (B, Cv, H, W)


def reference_best_match(target: Tensor, source: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Compute `best_match` by its definition, some rows at a time: index (B, H, W) and weight (B, H, W)."""
    queries, keys = positions_of(target), positions_of(source)  # (B, N, C), (B, M, C)
    indices, weights = [], []
    for rows in torch.split(queries, _ROWS, dim=1):  # (B, R, C)
        logits = logits_of(rows, keys, temperature)  # (B, R, M)
        top, index = logits.max(dim=-1)  # (B, R)
        indices.append(index)
        # No logsumexp: TensorRT reads ONNX's ReduceLogSumExp without the maximum taken off, which overflows when cold.
        weights.append(1 / (logits - top.unsqueeze(-1)).exp().sum(dim=-1))
    matched = has_match(queries, keys).squeeze(-1)  # (B, N)
    index, weight = torch.cat(indices, dim=1) * matched, torch.cat(weights, dim=1) * matched
    shape = (target.shape[0], *target.shape[2:])
    return index.reshape(shape), weight.reshape(shape).float()


def reference_match_weights(target: Tensor, source: Tensor, temperature: float, positions: Tensor) -> Tensor:
    """Compute `match_weights` by its definition: (B, P, Hs, Ws) of positions (B, P)."""
    queries = positions_of(target)  # (B, N, C)
    rows = queries.gather(1, positions.unsqueeze(2).expand(-1, -1, queries.shape[2]))  # (B, P, C)
    keys = positions_of(source)  # (B, M, C)
    weights = logits_of(rows, keys, temperature).softmax(dim=-1) * has_match(rows, keys)  # (B, P, M)
    return weights.reshape(*positions.shape, *source.shape[2:]).float()


def logits_of(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Return cosines over temperature (B, N, M), EXCLUDED for zero keys.

    Raw products first, so that nothing is rounded before them.
    """
    wide = torch.promote_types(queries.dtype, torch.float32)
    queries, keys = queries.to(wide), keys.to(wide)
    products = queries @ keys.transpose(1, 2)  # (B, N, M)
    logits = products / norms_of(queries) / norms_of(keys).transpose(1, 2) / temperature
    return logits.masked_fill(is_zero(keys).transpose(1, 2), EXCLUDED)


def has_match(queries: Tensor, keys: Tensor) -> Tensor:
    """Return which queries (B, N, C) take part, where any key (B, M, C) does: (B, N, 1) bool."""
    longest = norms_of(keys).amax(dim=1, keepdim=True)  # (B, 1, 1)
    return ~(is_zero(queries) | (longest <= MIN_NORM))


def is_zero(positions: Tensor) -> Tensor:
    """Return which positions (B, N, C) are zero vectors: (B, N, 1) bool; what is not a number is none."""
    return norms_of(positions) <= MIN_NORM


def norms_of(positions: Tensor) -> Tensor:
    """Return the norms (B, N, 1) of positions (B, N, C) in FP32 or better, at least MIN_NORM."""
    wide = positions.to(torch.promote_types(positions.dtype, torch.float32))
    norms: Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)  # (B, N, 1)
    return norms.clamp_min(MIN_NORM)


def positions_of(features: Tensor) -> Tensor:
    """Return the positions (B, N, C) of features (B, C, H, W)."""
    return features.flatten(2).transpose(1, 2)


def grid_of(positions: Tensor, like: Tensor) -> Tensor:
    """Return positions (B, N, Cv) on the grid of `like` (B, C, H, W): (B, Cv, H, W)."""
    return positions.transpose(1, 2).reshape(positions.shape[0], positions.shape[2], *like.shape[2:])
