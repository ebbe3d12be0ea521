"""Compile the kernels that torch launches as its JIT would on each GPU; print their PTX. No GPU is needed."""

from __future__ import annotations

import json
import sys
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from outfitgan.ops.correlate.compiled_kernel import ARCHITECTURES, Architecture
from outfitgan.ops.correlate.kernel import best_match_strided, correlate_strided
from outfitgan.ops.correlate.tiles import default_tiles

TYPES = {"queries": "i32", "keys": "i32", "temperature": "fp32", "index": "*i64", "weight": "*fp32"}
TILES = default_tiles(2, 64, 64)
CONSTANTS = {"C": 64, "CV": 64, "PRODUCT": tl.float16, **TILES.constants()}
FAMILIES = ("sm_80", "sm_90a", "sm_100a")  # mma, wgmma and tcgen05: the compiler takes another way for each
ALIGNED = [["tt.divisibility", 16]]


def strided_ptx(kernel: Any, architecture: Architecture) -> str:
    """Channels-last features of FP16: a step of 1 between channels is a constant, other steps are multiples of 16."""
    types: dict[str, Any] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    for place, name in enumerate(kernel.arg_names):
        if name.endswith("_strides"):
            types[name] = ("i32", "constexpr", "i32")
            constants[place, 1] = 1
            attributes |= {(place, 0): ALIGNED, (place, 2): ALIGNED}
        elif name in CONSTANTS:
            types[name] = "constexpr"
            constants[(place,)] = CONSTANTS[name]
        else:
            types[name] = TYPES.get(name, "*fp16")
            if types[name] != "fp32":
                attributes[(place,)] = ALIGNED
    source = ASTSource(kernel, types, constants, attributes)
    options = {"num_warps": TILES.warps, "num_stages": TILES.stages, "enable_fp_fusion": True}
    options["ptx_version"] = int(architecture.isa.replace(".", ""))
    text: str = triton.compile(source, GPUTarget("cuda", architecture.capability, 32), options=options).asm["ptx"]
    return text


if __name__ == "__main__":
    made = {
        f"{kernel.__name__} {name}": strided_ptx(kernel, ARCHITECTURES[name])
        for kernel in (correlate_strided, best_match_strided)
        for name in FAMILIES
    }
    json.dump(made, sys.stdout)
