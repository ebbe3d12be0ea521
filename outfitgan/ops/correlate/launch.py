"""Launching the fused kernels on tensors: strides, grids, and tiles that are timed once a shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from outfitgan.ops.correlate.kernel import best_match_strided, correlate_strided
from outfitgan.ops.correlate.tiles import Tiles, candidate_tiles, default_tiles

_ELEMENTS = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


def launch_correlate(
    target: Tensor, source: Tensor, values: Tensor, temperature: float, warped: Tensor, tiles: Tiles | None = None
) -> None:
    """Fill `warped` with `correlate` of the rest, which is not checked here.

    Args:
        target: (B, C, H, W) of any strides, as are the others.
        source: (B, C, Hs, Ws).
        values: (B, Cv, Hs, Ws).
        temperature: of the softmax, above 0.
        warped: (B, Cv, H, W), one step from each position to the next, as in both memory formats.
        tiles: by default the fastest on this GPU, found at the first call with a shape.

    """
    # Strides that no single step between positions describes are copied away here: torch knows which.
    queries, keys, carried = target.flatten(2), source.flatten(2), values.flatten(2)  # (B, C, N), (B, C, M), (B, Cv, M)
    result = warped.view(*warped.shape[:2], -1)  # (B, Cv, N)
    batch, channels, count = queries.shape

    def grid(constants: Mapping[str, int]) -> tuple[int, int, int]:
        slices = math.ceil(result.shape[1] / constants["BLOCK_VALUES"])
        return math.ceil(count / constants["BLOCK_QUERIES"]), batch, slices

    with torch.cuda.device_of(target):  # type: ignore[no-untyped-call]
        _configured(correlate_strided, target.element_size(), channels, result.shape[1], tiles)[grid](
            queries,
            keys,
            carried,
            count,
            keys.shape[2],
            result,
            queries.stride(),
            keys.stride(),
            carried.stride(),
            result.stride(),
            float(temperature),
            C=channels,
            CV=result.shape[1],
            PRODUCT=_product(target.dtype),
            enable_fp_fusion=True,
        )


def launch_best_match(
    target: Tensor, source: Tensor, temperature: float, index: Tensor, weight: Tensor, tiles: Tiles | None = None
) -> None:
    """Fill `index` and `weight` with `best_match` of the rest, which is not checked here.

    Args:
        target: (B, C, H, W) of any strides.
        source: (B, C, Hs, Ws) of any strides.
        temperature: of the softmax, above 0.
        index: (B, H, W) int64, contiguous.
        weight: (B, H, W) float32, contiguous.
        tiles: as for `launch_correlate`.

    """
    queries, keys = target.flatten(2), source.flatten(2)  # (B, C, N), (B, C, M)
    batch, channels, count = queries.shape

    def grid(constants: Mapping[str, int]) -> tuple[int, int]:
        return math.ceil(count / constants["BLOCK_QUERIES"]), batch

    with torch.cuda.device_of(target):  # type: ignore[no-untyped-call]
        _configured(best_match_strided, target.element_size(), channels, 1, tiles)[grid](
            queries,
            keys,
            count,
            keys.shape[2],
            index,
            weight,
            queries.stride(),
            keys.stride(),
            float(temperature),
            C=channels,
            PRODUCT=_product(target.dtype),
            enable_fp_fusion=True,
        )


def interpreted() -> bool:
    """Return whether this process interprets the kernel language on the CPU instead of compiling it."""
    return not isinstance(correlate_strided, triton.JITFunction)


def tuned(kernel: Any, candidates: Sequence[Tiles], bench: Callable[..., Any] | None = None) -> Any:
    """Return `kernel` with tiles: of several candidates, the fastest at the first call with a shape.

    Args:
        kernel: one of this project's, which has constants named `BLOCK_*`.
        candidates: at least one; one alone is taken untimed.
        bench: what times a call, as `triton.autotune` takes it; its own by default.

    """
    configs = [
        triton.Config(
            {name: size for name, size in tiles.constants().items() if name in kernel.arg_names},
            num_warps=tiles.warps,
            num_stages=tiles.stages,
        )
        for tiles in candidates
    ]
    return triton.autotune(configs, key=["queries", "keys"], do_bench=bench)(kernel)


@cache
def _configured(kernel: Any, itemsize: int, channels: int, values: int, tiles: Tiles | None) -> Any:
    if tiles is None and interpreted():
        tiles = default_tiles(itemsize, channels, values)  # time says nothing there
    return tuned(kernel, candidate_tiles(itemsize, channels, values) if tiles is None else [tiles])


def _product(dtype: torch.dtype) -> tl.dtype:
    """Return the dtype to multiply tiles in: theirs, except that the interpreter multiplies the bits of BF16."""
    return tl.float32 if dtype == torch.bfloat16 and interpreted() else _ELEMENTS[dtype]
