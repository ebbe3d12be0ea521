"""Cosine correlation, softmax and warp: the operator at the heart of the SAM.

For each target position: cosine with every source position, divided by a temperature, softmax over the source
positions, weighted sum of the source's values. The inputs arrive centred (see `CentredProjection`).

B batch, C matching channels, Cv value channels, N = H*W target positions, M = Hs*Ws source positions.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from outfitgan.errors import InputError
from outfitgan.ops.correlate_fused import fused_best_match, fused_correlate, needs_gradient, obstacle

Implementation = Literal["auto", "reference", "sdpa", "fused"]
MatchImplementation = Literal["auto", "reference", "fused"]

MIN_NORM = 1e-6
"""Norms are clamped here, so that a zero vector correlates with nothing instead of giving NaN."""

_ROWS = 1024  # target positions whose correlations `best_match` holds at a time


def correlate(
    target: Tensor, source: Tensor, values: Tensor, temperature: float, impl: Implementation = "auto"
) -> Tensor:
    """Warp `values` onto the target's positions.

    Args:
        target: (B, C, H, W) features of the reference mask.
        source: (B, C, Hs, Ws) features of the source item.
        values: (B, Cv, Hs, Ws) what is carried over.
        temperature: of the softmax, above 0; the smaller, the closer to a hard match.
        impl: `reference` is the specification and holds the whole matrix; `sdpa` does not and is differentiable;
            `fused` does neither, in one kernel on CUDA. `auto` takes `fused` in inference on CUDA (and warns of what
            keeps it from it), `sdpa` elsewhere, and in an ONNX export the one node `outfitgan::Correlate`.

    Returns:
        (B, Cv, H, W) in the dtype of `values`.

    Raises:
        InputError: on shapes, dtypes or a temperature that do not fit, and on what `fused` cannot take.

    """
    _check(target, source, temperature, values)
    if impl not in ("auto", "reference", "sdpa", "fused"):
        raise InputError(f"There is no correlate implementation '{impl}'; choose auto, reference, sdpa or fused.")
    if impl == "auto" and torch.onnx.is_in_onnx_export():
        return _node(target, source, values, temperature)
    if impl == "reference":
        return reference(target, source, values, temperature)
    if impl != "sdpa" and _takes_fused(impl, target, source, values):
        warped: Tensor = fused_correlate(target, source, values, temperature)
        return warped
    return _sdpa(target, source, values, temperature)


def reference(target: Tensor, source: Tensor, values: Tensor, temperature: float) -> Tensor:
    """Compute `correlate` by its definition, in FP32 or better, with the (N, M) matrix in memory."""
    logits = _logits(_positions(target), _positions(source), temperature)  # (B, N, M)
    wide = _positions(values).to(logits.dtype)  # (B, M, Cv)
    warped = logits.softmax(dim=-1) @ wide  # (B, N, Cv)
    return _grid(warped, target).to(values.dtype)  # (B, Cv, H, W)


def best_match(
    target: Tensor, source: Tensor, temperature: float, impl: MatchImplementation = "auto"
) -> tuple[Tensor, Tensor]:
    """Return each target position's best source position and its softmax weight, without the whole matrix.

    Args:
        target: (B, C, H, W) features of the reference mask.
        source: (B, C, Hs, Ws) features of the source item.
        temperature: of the softmax, above 0.
        impl: `reference` goes by the definition, some rows at a time; `fused` is one kernel on CUDA; `auto` chooses as
            `correlate` does.

    Returns:
        index (B, H, W) int64, row * Ws + column in the source, and weight (B, H, W) float32 in [0, 1].

    Raises:
        InputError: on shapes, dtypes or a temperature that do not fit, and on what `fused` cannot take.

    """
    _check(target, source, temperature)
    if impl not in ("auto", "reference", "fused"):
        raise InputError(f"There is no best_match implementation '{impl}'; choose auto, reference or fused.")
    exported = impl == "auto" and torch.onnx.is_in_onnx_export()
    if not exported and impl != "reference" and _takes_fused(impl, target, source):
        match: tuple[Tensor, Tensor] = fused_best_match(target, source, temperature)
        return match
    return _best_match(target, source, temperature)


def match_weights(target: Tensor, source: Tensor, temperature: float, positions: Tensor) -> Tensor:
    """Return how much each source position weighs for a few target positions: what a heat map shows.

    Args:
        target: (B, C, H, W) features of the reference mask.
        source: (B, C, Hs, Ws) features of the source item.
        temperature: of the softmax, above 0.
        positions: (B, P) int64, row * W + column in the target.

    Returns:
        (B, P, Hs, Ws) float32, each position's adding up to 1.

    Raises:
        InputError: on shapes, dtypes, a temperature or positions that do not fit.

    """
    _check(target, source, temperature)
    _check_positions(positions, target)
    queries = _positions(target)  # (B, N, C)
    rows = queries.gather(1, positions.unsqueeze(2).expand(-1, -1, queries.shape[2]))  # (B, P, C)
    weights = _logits(rows, _positions(source), temperature).softmax(dim=-1)  # (B, P, M)
    return weights.reshape(*positions.shape, *source.shape[2:]).float()


def _takes_fused(impl: str, *tensors: Tensor) -> bool:
    """Return whether to take the fused kernel; where it is meant and cannot be taken, say so."""
    if impl == "auto" and (not tensors[0].is_cuda or needs_gradient(*tensors)):
        return False
    reason = obstacle(*tensors)
    if reason is not None and impl == "fused":
        raise InputError(f"The fused kernel cannot take this: {reason}.")
    if reason is not None:
        warnings.warn(f"The correlation goes without its fused kernel: {reason}.", stacklevel=3)
    return reason is None


def _best_match(target: Tensor, source: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    queries, keys = _positions(target), _positions(source)  # (B, N, C), (B, M, C)
    indices, weights = [], []
    for rows in torch.split(queries, _ROWS, dim=1):  # (B, R, C)
        logits = _logits(rows, keys, temperature)  # (B, R, M)
        top, index = logits.max(dim=-1)  # (B, R)
        indices.append(index)
        # No logsumexp: TensorRT reads ONNX's ReduceLogSumExp without the maximum taken off, which overflows when cold.
        weights.append(1 / (logits - top.unsqueeze(-1)).exp().sum(dim=-1))
    shape = (target.shape[0], *target.shape[2:])
    return torch.cat(indices, dim=1).reshape(shape), torch.cat(weights, dim=1).reshape(shape).float()


def _sdpa(target: Tensor, source: Tensor, values: Tensor, temperature: float) -> Tensor:
    # Contiguous channels: with any other layout torch takes the path that holds the matrix.
    query = _unit(_positions(target).contiguous()).to(values.dtype).unsqueeze(1)  # (B, 1, N, C)
    key = _unit(_positions(source).contiguous()).to(values.dtype).unsqueeze(1)  # (B, 1, M, C)
    value = _positions(values).contiguous().unsqueeze(1)  # (B, 1, M, Cv)
    # Of unequal widths torch takes that path too; zeros change neither the cosines nor the first Cv channels.
    query, key, value = (_widen(x, max(key.shape[-1], value.shape[-1])) for x in (query, key, value))
    warped = F.scaled_dot_product_attention(query, key, value, scale=1 / temperature)  # (B, 1, N, max(C, Cv))
    return _grid(warped.squeeze(1)[..., : values.shape[1]], target)  # (B, Cv, H, W)


def _widen(x: Tensor, width: int) -> Tensor:
    return F.pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x


def _node(target: Tensor, source: Tensor, values: Tensor, temperature: float) -> Tensor:
    attributes: dict[str, int | float | str | bool | Sequence[int] | Sequence[float] | Sequence[str] | Sequence[bool]]
    attributes = {"temperature": temperature, "plugin_namespace": "outfitgan", "plugin_version": "1", "aot": 1}
    shape = (target.shape[0], values.shape[1], *target.shape[2:])
    return torch.onnx.ops.symbolic(
        "outfitgan::Correlate", (target, source, values), attributes, dtype=values.dtype, shape=shape, version=1
    )


def _logits(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Return cosines over temperature (B, N, M): raw products first, so that nothing is rounded before them."""
    wide = torch.promote_types(queries.dtype, torch.float32)
    queries, keys = queries.to(wide), keys.to(wide)
    products = queries @ keys.transpose(1, 2)  # (B, N, M)
    return products / _norm(queries) / _norm(keys).transpose(1, 2) / temperature


def _unit(positions: Tensor) -> Tensor:
    wide = positions.to(torch.promote_types(positions.dtype, torch.float32))
    return wide / _norm(wide)


def _norm(positions: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(positions, dim=-1, keepdim=True)  # (B, N, 1)
    return norms.clamp_min(MIN_NORM)


def _positions(features: Tensor) -> Tensor:
    return features.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, N, C)


def _grid(positions: Tensor, like: Tensor) -> Tensor:
    return positions.transpose(1, 2).reshape(positions.shape[0], positions.shape[2], *like.shape[2:])


def _check(target: Tensor, source: Tensor, temperature: float, values: Tensor | None = None) -> None:
    tensors = {"target": target, "source": source} | ({} if values is None else {"values": values})
    shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
    if any(tensor.dim() != 4 for tensor in tensors.values()):
        raise InputError(f"correlate takes (batch, channels, height, width) tensors, not {shapes}.")
    if any(0 in tensor.shape for tensor in tensors.values()):
        raise InputError(f"correlate needs at least one image, channel and position, not {shapes}.")
    if not temperature > 0:
        raise InputError(f"correlate needs a temperature above 0, not {temperature}.")
    if target.shape[:2] != source.shape[:2]:
        raise InputError(f"correlate needs one batch and one channel count for target and source: {shapes}.")
    if values is not None and (values.shape[0] != source.shape[0] or values.shape[2:] != source.shape[2:]):
        raise InputError(f"correlate needs values at every source position: {shapes}.")
    if len({tensor.dtype for tensor in tensors.values()}) != 1:
        dtypes = ", ".join(f"{name} {tensor.dtype}" for name, tensor in tensors.items())
        raise InputError(f"correlate needs one dtype, not {dtypes}; cast them first.")
    if len({tensor.device for tensor in tensors.values()}) != 1:
        devices = ", ".join(f"{name} {tensor.device}" for name, tensor in tensors.items())
        raise InputError(f"correlate needs one device, not {devices}; move them first.")


def _check_positions(positions: Tensor, target: Tensor) -> None:
    batch, cells = target.shape[0], target.shape[2] * target.shape[3]
    if positions.dim() != 2 or positions.shape[0] != batch or positions.dtype != torch.int64:
        raise InputError(
            f"match_weights takes int64 positions ({batch}, P), not {positions.dtype} {tuple(positions.shape)}."
        )
    if positions.numel() and not 0 <= int(positions.min()) <= int(positions.max()) < cells:
        raise InputError(f"match_weights takes positions of 0 to {cells - 1}: row * width + column in the target.")
