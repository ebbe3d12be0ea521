"""`correlate` and its relatives: what they take, what they return, and which form computes it where."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from outfitgan.errors import InputError
from outfitgan.ops.correlate.reference import reference, reference_best_match, reference_match_weights
from outfitgan.ops.correlate.sdpa import sdpa_correlate
from outfitgan.ops.correlate.torch_ops import fused_best_match, fused_correlate, needs_gradient, obstacle

Implementation = Literal["auto", "reference", "sdpa", "fused"]
MatchImplementation = Literal["auto", "reference", "fused"]


def correlate(
    target: Tensor, source: Tensor, values: Tensor, temperature: float, impl: Implementation = "auto"
) -> Tensor:
    """Warp `values` onto the target's positions.

    Vectors of zeros take no part: see `reference`.

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
    return sdpa_correlate(target, source, values, temperature)


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
        index (B, H, W) int64, row * Ws + column in the source, and weight (B, H, W) float32 in [0, 1]; both 0 where
        nothing matches.

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
    return reference_best_match(target, source, temperature)


def match_weights(target: Tensor, source: Tensor, temperature: float, positions: Tensor) -> Tensor:
    """Return how much each source position weighs for a few target positions: what a heat map shows.

    Args:
        target: (B, C, H, W) features of the reference mask.
        source: (B, C, Hs, Ws) features of the source item.
        temperature: of the softmax, above 0.
        positions: (B, P) int64, row * W + column in the target.

    Returns:
        (B, P, Hs, Ws) float32, each position's adding up to 1, or all 0 where nothing matches.

    Raises:
        InputError: on shapes, dtypes, a temperature or positions that do not fit.

    """
    _check(target, source, temperature)
    _check_positions(positions, target)
    return reference_match_weights(target, source, temperature, positions)


def _takes_fused(impl: str, *tensors: Tensor) -> bool:
    """Return whether to take the fused kernel; where it is meant and cannot be taken, warn or raise."""
    if impl == "auto" and (not tensors[0].is_cuda or needs_gradient(*tensors)):
        return False
    reason = obstacle(*tensors)
    if reason is not None and impl == "fused":
        raise InputError(f"The fused kernel cannot take this: {reason}.")
    if reason is not None:
        warnings.warn(f"The correlation goes without its fused kernel: {reason}.", stacklevel=3)
    return reason is None


def _node(target: Tensor, source: Tensor, values: Tensor, temperature: float) -> Tensor:
    attributes: dict[str, int | float | str | bool | Sequence[int] | Sequence[float] | Sequence[str] | Sequence[bool]]
    attributes = {"temperature": temperature, "plugin_namespace": "outfitgan", "plugin_version": "1", "aot": 1}
    shape = (target.shape[0], values.shape[1], *target.shape[2:])
    return torch.onnx.ops.symbolic(
        "outfitgan::Correlate", (target, source, values), attributes, dtype=values.dtype, shape=shape, version=1
    )


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
