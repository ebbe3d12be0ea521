"""What a kernel compiled ahead of time is: its PTX, what it computes, and all that a launcher needs to know of it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from outfitgan.ops.correlate.tiles import Tiles

Layout = Literal["channels_last", "channels_first"]
Dtype = Literal["fp16", "bf16", "fp32"]

LAYOUTS: tuple[Layout, ...] = ("channels_last", "channels_first")
ITEMSIZE: dict[Dtype, int] = {"fp16": 2, "bf16": 2, "fp32": 4}


@dataclass(frozen=True)
class Architecture:
    """What PTX is made for. Code for an architecture with an `a` runs on that one alone; the others' runs onwards."""

    capability: int  # what the compiler is told
    isa: str  # of the PTX: CUDA 12.0's, or the architecture's first where that is later, so that old drivers take it
    driver: str  # the first CUDA version whose driver reads that ISA
    max_queries: int = 128  # target positions a program, at the most


# From 64 rows on, a product on sm_100a goes through tensor memory, which a TensorRT plugin's kernel may not use.
ARCHITECTURES: dict[str, Architecture] = {
    "sm_80": Architecture(80, "8.0", "12.0"),
    "sm_87": Architecture(87, "8.0", "12.0"),
    "sm_89": Architecture(89, "8.0", "12.0"),
    "sm_90a": Architecture(90, "8.0", "12.0"),
    "sm_100a": Architecture(100, "8.6", "12.7", max_queries=32),
    "sm_120": Architecture(120, "8.7", "12.8"),
}


@dataclass(frozen=True)
class Grid:
    """How many programs a launch has: (ceil(queries / rows), batch, slices)."""

    rows: int  # target positions a program
    slices: int  # of the value channels

    def of(self, batch: int, queries: int) -> tuple[int, int, int]:
        """Return the grid's three sizes for a batch of `queries` target positions each."""
        return math.ceil(queries / self.rows), batch, self.slices


@dataclass(frozen=True)
class CompiledKernel:
    """PTX of one kernel, what it computes, and how it is launched.

    Its arguments are those of `arguments`, in order, pointers aligned to 16 bytes and 32-bit integers, and then two
    pointers that nothing reads (the kernel language's scratch memory, of no bytes).
    """

    name: str  # of the entry in the PTX
    ptx: str
    architecture: str
    isa: str
    driver: str
    dtype: Dtype
    match_channels: int
    value_channels: int
    temperature: float
    layout: Layout
    tiles: Tiles
    grid: Grid
    num_warps: int  # a block is 32 threads a warp
    shared: int  # bytes a block, allocated at launch
    registers: int  # a thread
    spills: int  # bytes a thread stores and loads beyond its registers
    tensor_memory: int  # columns a block; 0 on all but Blackwell's data centre GPUs
    compiler: str
    arguments: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the PTX as hexadecimal."""
        return hashlib.sha256(self.ptx.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return everything but the text of the PTX, which stands as its SHA-256."""
        content = asdict(self)
        del content["ptx"]
        return content | {"sha256": self.sha256}
