"""How fast the correlation is on a GPU, beside what the GPU can do."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from bench.kernel_cases import DTYPES, KernelCase
from outfitgan.config import load_preset
from outfitgan.errors import ConfigError, UnsupportedError
from outfitgan.ops.correlate.dispatch import Implementation, correlate
from outfitgan.ops.correlate.tiles import Tiles, candidate_tiles

IMPLEMENTATIONS: dict[str, Implementation] = {"fused kernel": "fused", "sdpa": "sdpa", "unfused reference": "reference"}
_CEILING_SIDE = 8192  # of the matrices whose product is the measured ceiling
_CALLS = 20  # in one CUDA graph, so that launching from Python is no part of the time


@dataclass(frozen=True)
class Timed:
    """One way to compute a case."""

    name: str
    ms: float  # median
    tflops: float  # achieved, of the two products alone
    share: float  # of the ceiling

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def preset_case(preset: str, batch: int, dtype: str) -> KernelCase:
    """Return the correlation of a preset's SAM, as large as it is there; raise ConfigError where one is unknown."""
    if dtype not in DTYPES:
        raise ConfigError(f"There is no dtype '{dtype}'; choose {', '.join(DTYPES)}.")
    model = load_preset(preset).model
    alignment = model.generator.alignment
    side = model.image_size >> alignment.downsamples
    widths = alignment.match_channels, alignment.value_channels
    grid = side, side
    return KernelCase(preset, *widths, grid, grid, batch, alignment.temperature, dtype)


def timed(name: str, ms: float, operations: int, ceiling: float) -> Timed:
    """Return a time with the rate it means, and that rate's share of the ceiling in TFLOP/s."""
    tflops = operations / ms / 1e9
    return Timed(name, ms, tflops, tflops / ceiling)


def fastest(times: Mapping[Tiles, float]) -> Tiles:
    """Return the tiles of the least time; raise UnsupportedError if there are none."""
    if not times:
        raise UnsupportedError("This GPU takes none of the kernel's tiles; set narrower channels, or take impl='sdpa'.")
    return min(times, key=lambda tiles: times[tiles])


def time_case(case: KernelCase, ceiling: float, repeats: int) -> list[Timed]:
    """Time every implementation of a case on the GPU."""
    inputs = case.inputs("cuda")
    rows = []
    for name, impl in IMPLEMENTATIONS.items():
        ms = median_ms(partial(correlate, *inputs, case.temperature, impl), repeats)
        rows.append(timed(name, ms, case.operations, ceiling))
    return rows


def tune_case(case: KernelCase, repeats: int) -> dict[Tiles, float]:
    """Return the time of each of the kernel's tiles that the GPU takes, in milliseconds."""
    from triton.runtime.errors import OutOfResources, PTXASError

    from outfitgan.ops.correlate.launch import launch_correlate

    inputs = case.inputs("cuda")
    warped = torch.empty_like(correlate(*inputs, case.temperature, "sdpa"))
    times = {}
    for tiles in candidate_tiles(inputs[0].element_size(), case.channels, case.values):
        try:
            times[tiles] = median_ms(partial(launch_correlate, *inputs, case.temperature, warped, tiles), repeats)
        except (OutOfResources, PTXASError):  # more shared memory or registers than this GPU has
            continue
    return times


def ceiling_tflops(dtype: str, repeats: int) -> float:
    """Return what torch's own product of two large matrices reaches on this GPU, in TFLOP/s."""
    one, other = (torch.randn(_CEILING_SIDE, _CEILING_SIDE, device="cuda", dtype=DTYPES[dtype]) for _ in range(2))
    ms = median_ms(lambda: one @ other, repeats)
    return 2 * _CEILING_SIDE**3 / ms / 1e9


def median_ms(call: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call between CUDA events, with warm caches and no launch from Python."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # compiles, tunes, and fills the allocator before anything is captured
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(_CALLS):
            call()
    graph.replay()
    times: list[float] = []
    for _ in range(repeats):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        began.record()
        graph.replay()
        ended.record()
        ended.synchronize()
        times.append(began.elapsed_time(ended) / _CALLS)
    return statistics.median(times)
