"""The correlation kernel compiled ahead of time to PTX, with all that a launcher without Python needs to know.

No GPU is needed. What comes out is checked by an assembler, which also says how many registers a thread takes.
"""

from __future__ import annotations

import math
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from outfitgan.errors import ConfigError
from outfitgan.ops.correlate.compiled_kernel import (
    ARCHITECTURES,
    ITEMSIZE,
    LAYOUTS,
    Architecture,
    CompiledKernel,
    Dtype,
    Grid,
    Layout,
)
from outfitgan.ops.correlate.tiles import MAX_CHANNELS, Tiles, default_tiles

POINTERS = ("target", "source", "values", "warped")
EXTRAS = ("queries", "keys")
"""The 32-bit integers between the inputs and the output: H*W of the target and of the source."""


def compile_ptx(
    architecture: str,
    dtype: Dtype,
    match_channels: int,
    value_channels: int,
    temperature: float,
    layout: Layout = "channels_last",
    tiles: Tiles | None = None,
) -> CompiledKernel:
    """Compile `correlate` to PTX.

    Args:
        architecture: one of `ARCHITECTURES`.
        dtype: of the features, the values and the result.
        match_channels: C, of target and source.
        value_channels: Cv, of values and result.
        temperature: of the softmax, above 0; a constant of the PTX.
        layout: of all four tensors, which are packed.
        tiles: by default `default_tiles` of these widths.

    Returns:
        The kernel; the same arguments give the same bytes.

    Raises:
        ConfigError: on an unknown architecture, dtype or layout, a width or temperature that does not fit, and in a
            process that interprets the kernel language.

    """
    _check(architecture, dtype, (match_channels, value_channels), temperature, layout)
    target = ARCHITECTURES[architecture]
    if tiles is None:
        tiles = default_tiles(ITEMSIZE[dtype], match_channels, value_channels)
        tiles = replace(tiles, queries=min(tiles.queries, target.max_queries))
    constants = {
        "TEMPERATURE": float(temperature),
        "CHANNELS_LAST": layout == "channels_last",
        "C": match_channels,
        "CV": value_channels,
        **tiles.constants(),
    }
    compiled, arguments = _compile(target, dtype, constants, tiles)
    ptx = _with_target(compiled.asm["ptx"], architecture)
    registers, spills = _assemble(ptx, architecture)
    metadata = compiled.metadata
    return CompiledKernel(
        name=metadata.name,
        ptx=ptx,
        architecture=architecture,
        isa=target.isa,
        driver=target.driver,
        dtype=dtype,
        match_channels=match_channels,
        value_channels=value_channels,
        temperature=float(temperature),
        layout=layout,
        tiles=tiles,
        grid=Grid(tiles.queries, math.ceil(value_channels / tiles.values)),
        num_warps=metadata.num_warps,
        shared=metadata.shared,
        registers=registers,
        spills=spills,
        tensor_memory=metadata.tmem_size or 0,
        compiler=f"triton {version('triton')}",
        arguments=arguments,
    )


def _check(architecture: str, dtype: str, widths: Sequence[int], temperature: float, layout: str) -> None:
    for what, value, known in (
        ("architecture", architecture, ARCHITECTURES),
        ("dtype", dtype, ITEMSIZE),
        ("layout", layout, LAYOUTS),
    ):
        if value not in known:
            raise ConfigError(f"The kernel is not compiled for the {what} '{value}'; choose {', '.join(known)}.")
    if not all(1 <= width <= MAX_CHANNELS for width in widths):
        shown = " and ".join(map(str, widths))
        raise ConfigError(f"The kernel takes 1 to {MAX_CHANNELS} channels, not {shown}; set narrower channels.")
    if not 0 < temperature < math.inf:
        raise ConfigError(f"The kernel needs a finite temperature above 0, not {temperature}.")


def _compile(
    target: Architecture, dtype: Dtype, constants: dict[str, Any], tiles: Tiles
) -> tuple[Any, tuple[str, ...]]:
    """Return what the compiler made, and the names of the arguments that are left for a launch."""
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from outfitgan.ops.correlate.kernel import correlate_packed

    if not isinstance(correlate_packed, triton.JITFunction):
        raise ConfigError("Nothing can be compiled where TRITON_INTERPRET is set; unset it and start again.")
    element = {"fp16": tl.float16, "bf16": tl.bfloat16, "fp32": tl.float32}[dtype]
    constants = constants | {"PRODUCT": element}
    names: list[str] = correlate_packed.arg_names
    types = dict.fromkeys(constants, "constexpr") | dict.fromkeys(POINTERS, f"*{dtype}") | dict.fromkeys(EXTRAS, "i32")
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in POINTERS}
    source = ASTSource(correlate_packed, {name: types[name] for name in names}, constants, aligned)
    options = {
        "num_warps": tiles.warps,
        "num_stages": tiles.stages,
        "ptx_version": int(target.isa.replace(".", "")),
        "enable_fp_fusion": True,
    }
    with _reproducible():
        compiled = triton.compile(source, target=GPUTarget("cuda", target.capability, 32), options=options)
    return compiled, tuple(name for name in names if types[name] != "constexpr")


@contextmanager
def _reproducible() -> Iterator[None]:
    """Compile anew and without the source's path and lines, which would be part of the text."""
    from triton import knobs

    with knobs.cache.scope(), knobs.compilation.scope(), tempfile.TemporaryDirectory() as scratch:
        knobs.cache.dir = scratch
        knobs.compilation.disable_line_info = True
        yield


def _with_target(ptx: str, architecture: str) -> str:
    """Ours: name sm_120 as the target, where the compiler says sm_120a.

    The kernel has none of the instructions that are sm_120a's alone (the assembler checks that), and with the plain
    name the PTX runs on the later GPUs of the family too.
    """
    return re.sub(r"(?m)^\.target \w+", f".target {architecture}", ptx)


def _assemble(ptx: str, architecture: str) -> tuple[int, int]:
    """Return the registers and the spilled bytes of a thread, from the assembler that comes with the compiler."""
    from triton import knobs

    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "kernel.ptx"
        source.write_text(ptx, encoding="utf-8")
        command = [knobs.nvidia.ptxas.path, "-v", f"--gpu-name={architecture}", str(source), "-o", f"{source}.cubin"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    registers = re.search(r"Used (\d+) registers", done.stderr)
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
    if done.returncode or registers is None or spills is None:
        raise ConfigError(f"The assembler refuses this PTX for {architecture}; take other tiles: {done.stderr.strip()}")
    return int(registers[1]), int(spills[1]) + int(spills[2])
