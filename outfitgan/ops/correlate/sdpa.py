"""The correlation as torch's attention of normalised positions: differentiable, and without the matrix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from outfitgan.ops.correlate.reference import grid_of, norms_of, positions_of


def sdpa_correlate(target: Tensor, source: Tensor, values: Tensor, temperature: float) -> Tensor:
    """Compute `correlate` of checked arguments by torch's scaled dot product attention."""
    # Contiguous channels: with any other layout torch takes the path that holds the matrix.
    query = _unit(positions_of(target).contiguous()).to(values.dtype).unsqueeze(1)  # (B, 1, N, C)
    key = _unit(positions_of(source).contiguous()).to(values.dtype).unsqueeze(1)  # (B, 1, M, C)
    value = positions_of(values).contiguous().unsqueeze(1)  # (B, 1, M, Cv)
    # Of unequal widths torch takes that path too; zeros change neither the cosines nor the first Cv channels.
    query, key, value = (_widen(x, max(key.shape[-1], value.shape[-1])) for x in (query, key, value))
    warped = F.scaled_dot_product_attention(query, key, value, scale=1 / temperature)  # (B, 1, N, max(C, Cv))
    return grid_of(warped.squeeze(1)[..., : values.shape[1]], target)  # (B, Cv, H, W)


def _widen(x: Tensor, width: int) -> Tensor:
    return F.pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x


def _unit(positions: Tensor) -> Tensor:
    wide = positions.to(torch.promote_types(positions.dtype, torch.float32))
    return wide / norms_of(wide)
