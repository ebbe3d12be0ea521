"""Compiled kernels as files: PTX, a JSON beside each, and a table of what they take of a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from outfitgan.files import atomic_write
from outfitgan.ops.correlate.compiled_kernel import CompiledKernel

_COLUMNS: dict[str, Callable[[CompiledKernel], object]] = {
    "architecture": lambda kernel: kernel.architecture,
    "PTX ISA": lambda kernel: kernel.isa,
    "driver": lambda kernel: f"CUDA {kernel.driver}",
    "dtype": lambda kernel: kernel.dtype,
    "layout": lambda kernel: kernel.layout,
    "C, Cv": lambda kernel: f"{kernel.match_channels}, {kernel.value_channels}",
    "tile": lambda kernel: f"{kernel.tiles.queries} x {kernel.tiles.keys}",
    "threads": lambda kernel: 32 * kernel.num_warps,
    "registers": lambda kernel: kernel.registers,
    "shared bytes": lambda kernel: kernel.shared,
    "spilled bytes": lambda kernel: kernel.spills,
}


def write_kernels(kernels: Sequence[CompiledKernel], folder: Path) -> str:
    """Write each kernel's PTX and JSON, and `resources.md`, the table that is returned.

    The same kernels give the same bytes; other files of the folder stay.
    """
    for kernel in kernels:
        path = folder / f"{file_name(kernel)}.ptx"
        atomic_write(path, kernel.ptx.encode())
        content = {"ptx": path.name, **kernel.to_json()}
        atomic_write(path.with_suffix(".json"), (json.dumps(content, indent=2) + "\n").encode())
    table = resource_table(kernels)
    atomic_write(folder / "resources.md", table.encode())
    return table


def file_name(kernel: CompiledKernel) -> str:
    """Return a name that differs for every request, tiles excepted."""
    widths = f"c{kernel.match_channels}-v{kernel.value_channels}"
    parts = ("correlate", kernel.dtype, widths, f"t{kernel.temperature:g}", kernel.layout, kernel.architecture)
    return "-".join(parts)


def resource_table(kernels: Sequence[CompiledKernel]) -> str:
    """Return a Markdown table of what kernels take: registers and spilled bytes a thread, shared memory a block."""
    rows = [list(_COLUMNS), ["---"] * len(_COLUMNS)]
    rows += [[str(show(kernel)) for show in _COLUMNS.values()] for kernel in kernels]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
