"""The fused kernels under the interpreter, cut so small that every loop turns several times and every tail is met."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from outfitgan.ops.correlate.launch import launch_best_match, launch_correlate
from outfitgan.ops.correlate.tiles import Tiles

SMALL = Tiles(queries=16, keys=16, channels=16, values=16, warps=4, stages=2)
BROAD = replace(SMALL, channels=64, values=64)  # all channels at once
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def fused(target: Tensor, source: Tensor, values: Tensor, temperature: float, tiles: Tiles | None = SMALL) -> Tensor:
    warped = values.new_full((target.shape[0], values.shape[1], *target.shape[2:]), torch.nan)
    launch_correlate(target, source, values, temperature, warped, tiles)
    return warped


def fused_match(
    target: Tensor, source: Tensor, temperature: float, tiles: Tiles | None = SMALL
) -> tuple[Tensor, Tensor]:
    shape = (target.shape[0], *target.shape[2:])
    index, weight = torch.full(shape, -1), torch.full(shape, torch.nan)
    launch_best_match(target, source, temperature, index, weight, tiles)
    return index, weight


def constant_case() -> tuple[Tensor, Tensor, Tensor, float]:
    """Constant values, where all weights but one lie as far from FP16's numbers as any can, and on the same side."""
    weight = 0.5 * (1 + 0.98 * torch.finfo(torch.float16).eps / 2)
    target, source = torch.zeros(1, 16, 5, 4).half(), torch.zeros(1, 16, 6, 7).half()
    target[:, 0], source[:, 1] = 1, 1
    source[..., 0, 0] = target[..., 0, 0]
    return target, source, torch.full((1, 16, 6, 7), 0.4995).half(), -1 / math.log(weight)


def tolerance(dtype: torch.dtype, temperature: float) -> float:
    """How far from the definition a fused answer may be, for values in [-1, 1]: 8e-4 in FP16 at temperature 0.01.

    With u the dtype's unit roundoff: the result is rounded once, which below 1 costs u / 2 (u in BF16, to which the
    interpreter truncates, as no GPU does), and so is each weight, which moves a weighted mean by u at most, since the
    rounded weights are what they are divided by. Cosines are FP32 and wrong by a few of its units, which the softmax
    passes on divided by the temperature.
    """
    u, u32 = (torch.finfo(kind).eps / 2 for kind in (dtype, torch.float32))
    return (2 if dtype == torch.bfloat16 else 1.5) * u + 4 * u32 / temperature
