"""The correlation by its definition, in plain torch: the specification of every other form.

For each target position: cosine with every source position, divided by a temperature, softmax over the source
positions, weighted sum of the source's values. The inputs arrive centred (see `CentredProjection`).

B batch, C matching channels, Cv value channels, N = H*W target positions, M = Hs*Ws source positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

MIN_NORM = 1e-6
"""Norms are clamped here, so that a zero vector correlates with nothing instead of giving NaN."""

_ROWS = 1024  # target positions whose correlations `reference_best_match` holds at a time


def reference(target: Tensor, source: Tensor, values: Tensor, temperature: float) -> Tensor:
    """Compute `correlate` by its definition, in FP32 or better, with the (N, M) matrix in memory."""
    logits = logits_of(positions_of(target), positions_of(source), temperature)  # (B, N, M)
    wide = positions_of(values).to(logits.dtype)  # (B, M, Cv)
    warped = logits.softmax(dim=-1) @ wide  # (B, N, Cv)
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
    shape = (target.shape[0], *target.shape[2:])
    return torch.cat(indices, dim=1).reshape(shape), torch.cat(weights, dim=1).reshape(shape).float()


def reference_match_weights(target: Tensor, source: Tensor, temperature: float, positions: Tensor) -> Tensor:
    """Compute `match_weights` by its definition: (B, P, Hs, Ws) of positions (B, P)."""
    queries = positions_of(target)  # (B, N, C)
    rows = queries.gather(1, positions.unsqueeze(2).expand(-1, -1, queries.shape[2]))  # (B, P, C)
    weights = logits_of(rows, positions_of(source), temperature).softmax(dim=-1)  # (B, P, M)
    return weights.reshape(*positions.shape, *source.shape[2:]).float()


def logits_of(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Return cosines over temperature (B, N, M): raw products first, so that nothing is rounded before them."""
    wide = torch.promote_types(queries.dtype, torch.float32)
    queries, keys = queries.to(wide), keys.to(wide)
    products = queries @ keys.transpose(1, 2)  # (B, N, M)
    return products / norms_of(queries) / norms_of(keys).transpose(1, 2) / temperature


def norms_of(positions: Tensor) -> Tensor:
    """Return the norms (B, N, 1) of positions (B, N, C), at least MIN_NORM."""
    norms: Tensor = torch.linalg.vector_norm(positions, dim=-1, keepdim=True)  # (B, N, 1)
    return norms.clamp_min(MIN_NORM)


def positions_of(features: Tensor) -> Tensor:
    """Return the positions (B, N, C) of features (B, C, H, W)."""
    return features.flatten(2).transpose(1, 2)


def grid_of(positions: Tensor, like: Tensor) -> Tensor:
    """Return positions (B, N, Cv) on the grid of `like` (B, C, H, W): (B, Cv, H, W)."""
    return positions.transpose(1, 2).reshape(positions.shape[0], positions.shape[2], *like.shape[2:])
