"""What the CPU runtimes share: the processor's name, and which graphs they refuse."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

from outfitgan.errors import UnsupportedError

if TYPE_CHECKING:
    from export.exported import ExportedGraph


def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def require_graph(graph: ExportedGraph, runtime: str, precision: str, wanted: str) -> None:
    """Raise UnsupportedError for precision fp16, which a CPU computes in FP32, or a graph that is not `wanted`."""
    if precision == "fp16":
        raise UnsupportedError(
            f"{runtime} computes FP16 as FP32 on a CPU; use fp32 here, and fp16 on a GPU with tensorrt."
        )
    if graph.precision != wanted:
        raise UnsupportedError(
            f"{runtime} {precision} takes the {wanted} graph of {graph.name}, not the {graph.precision} one; export it."
        )
