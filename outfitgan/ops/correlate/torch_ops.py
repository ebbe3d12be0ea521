"""The fused kernels as torch operators, which torch.compile and torch.export see whole, and when they can be taken.

The kernel language is imported at the first call only: serving and edge installs have none.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from outfitgan.ops.correlate.tiles import MAX_CHANNELS

_INSTALLED = find_spec("triton") is not None
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_OLDEST = (8, 0)  # compute capability: Ampere, the first to multiply BF16 and TF32


@torch.library.custom_op("outfitgan::correlate", mutates_args=())
def fused_correlate(target: Tensor, source: Tensor, values: Tensor, temperature: float) -> Tensor:
    """Return `correlate` (B, Cv, H, W), channels-last, of arguments that are checked and without an `obstacle`."""
    from outfitgan.ops.correlate.launch import launch_correlate

    warped = _empty_warped(target, source, values, temperature)
    launch_correlate(target, source, values, temperature, warped)
    return warped


@torch.library.custom_op("outfitgan::best_match", mutates_args=())
def fused_best_match(target: Tensor, source: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return `best_match`, two of (B, H, W), of arguments that are checked and without an `obstacle`."""
    from outfitgan.ops.correlate.launch import launch_best_match

    index, weight = _empty_matches(target, source, temperature)
    launch_best_match(target, source, temperature, index, weight)
    return index, weight


def _empty_warped(target: Tensor, source: Tensor, values: Tensor, temperature: float) -> Tensor:
    batch, _, height, width = target.shape
    packed = values.new_empty(batch, height * width, values.shape[1])  # (B, N, Cv)
    return packed.transpose(1, 2).view(batch, -1, height, width)  # (B, Cv, H, W)


def _empty_matches(target: Tensor, source: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    shape = (target.shape[0], *target.shape[2:])
    return target.new_empty(shape, dtype=torch.int64), target.new_empty(shape, dtype=torch.float32)


fused_correlate.register_fake(_empty_warped)
fused_best_match.register_fake(_empty_matches)


def obstacle(*tensors: Tensor) -> str | None:
    """Return why the fused kernels cannot take target, source and any values (B, C, H, W), with the fix, or None."""
    first = tensors[0]
    if first.dtype not in _DTYPES:
        return f"it computes float16, bfloat16 and float32, not {first.dtype}; cast the tensors"
    if (widest := max(tensor.shape[1] for tensor in tensors)) > MAX_CHANNELS:
        return f"it takes {MAX_CHANNELS} channels at the most, not {widest}; set narrower ones or take sdpa"
    if any(_extent(tensor) >= 2**31 for tensor in tensors):
        return "an image's features span 2**31 numbers or more; make them contiguous or the grid smaller"
    height, width = first.shape[2:]
    if any(height * width * values.shape[1] >= 2**31 for values in tensors[2:]):  # of warped, H*W*Cv
        return "an image's result has 2**31 numbers or more; set fewer value channels or a smaller grid"
    if needs_gradient(*tensors):
        return "it has no gradient; take sdpa, or call it under torch.no_grad()"
    if not _INSTALLED:
        return "the package triton is not here; install this project's extra [kernel]"
    if first.is_cuda:
        return _too_old(first.device)
    if first.device.type == "cpu" and _interpreted():
        return None
    return f"it runs on CUDA, not on {first.device}; move the tensors, or interpret it with TRITON_INTERPRET=1"


def needs_gradient(*tensors: Tensor) -> bool:
    """Return whether a gradient of one of the tensors may be needed."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _too_old(device: torch.device) -> str | None:
    if not torch.cuda.is_available():  # a trace for a GPU that is elsewhere
        return None
    found, least = torch.cuda.get_device_capability(device), _OLDEST
    old = f"this GPU has compute capability {found[0]}.{found[1]}, not {least[0]}.{least[1]} or later; take sdpa"
    return old if found < least else None


def _extent(tensor: Tensor) -> int:
    """Return how far apart the first and the last number of an image lie."""
    return sum((size - 1) * stride for size, stride in zip(tensor.shape[1:], tensor.stride()[1:], strict=True))


def _interpreted() -> bool:
    from outfitgan.ops.correlate.launch import interpreted

    return interpreted()
