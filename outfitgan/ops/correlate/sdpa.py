"""The correlation as torch's attention of normalised positions: differentiable, and without the matrix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from outfitgan.ops.correlate.reference import grid_of, has_match, is_zero, norms_of, positions_of


def sdpa_correlate(target: Tensor, source: Tensor, values: Tensor, temperature: float) -> Tensor:
    """Compute `correlate` of checked arguments by torch's scaled dot product attention."""
    # Contiguous channels: with any other layout torch takes the path that holds the matrix.
    queries, keys = positions_of(target).contiguous(), positions_of(source).contiguous()  # (B, N, C), (B, M, C)
    # One more channel, 1 in every query, takes more off a zero key's logit than cosines make up for.
    zero = is_zero(keys)  # (B, M, 1)
    penalty = torch.zeros_like(zero, dtype=values.dtype).masked_fill(zero, -penalty_of(temperature))
    unit_queries, unit_keys = (_unit(positions).to(values.dtype) for positions in (queries, keys))
    query = torch.cat([unit_queries, torch.ones_like(unit_queries[..., :1])], dim=-1)  # (B, N, C + 1)
    key = torch.cat([unit_keys, penalty], dim=-1)  # (B, M, C + 1)
    value = positions_of(values).contiguous()  # (B, M, Cv)
    # Of unequal widths, or on a GPU of no multiple of 8, torch takes that path too; zeros change neither the logits nor
    # the first Cv channels.
    width = -(-max(query.shape[-1], value.shape[-1]) // 8) * 8
    query, key, value = (_widen(x, width).unsqueeze(1) for x in (query, key, value))
    warped = F.scaled_dot_product_attention(query, key, value, scale=1 / temperature)  # (B, 1, N, W)
    warped = warped.squeeze(1)[..., : values.shape[1]] * has_match(queries, keys)  # (B, N, Cv)
    return grid_of(warped, target)  # (B, Cv, H, W)


def penalty_of(temperature: float) -> float:
    """Return what, taken off a cosine of 0, leaves a weight of 0 in FP32 beside one of -1."""
    return 2 + 110 * temperature


def _widen(x: Tensor, width: int) -> Tensor:
    return F.pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x


def _unit(positions: Tensor) -> Tensor:
    return positions / norms_of(positions)
