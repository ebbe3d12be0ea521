"""The fused correlation kernel on an NVIDIA GPU: is it right, which tiles are best, how fast is it.

python bench/gpu.py all      the three below, into one JSON
python bench/gpu.py check    errors against FP64, on the GPU
python bench/gpu.py tune     the time of each of its tiles
python bench/gpu.py time     against sdpa and the unfused reference, and as a share of a matrix product's rate
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from bench.kernel_cases import DTYPES, KernelCase, check, check_cases
from bench.kernel_timing import ceiling_tflops, fastest, preset_case, time_case, tune_case
from outfitgan.errors import InputError, UnsupportedError
from outfitgan.files import atomic_write
from outfitgan.ops.correlate.dispatch import best_match, correlate
from outfitgan.program import run_program

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
_console = Console(soft_wrap=True, highlight=False)

Output = Annotated[Path | None, typer.Option(help="A JSON of the figures and of what they were measured on.")]
Preset = Annotated[str, typer.Option(help="Whose widths, grid and temperature.")]
Batch = Annotated[int, typer.Option(min=1, help="Images at a time.")]
Dtype = Annotated[str, typer.Option(help=f"{', '.join(DTYPES)}.")]
Repeats = Annotated[int, typer.Option(min=1, help="Measurements, of 20 calls each; their median counts.")]


Side = Annotated[int, typer.Option(min=8, help="Of the grids that are checked, about.")]


@app.command("all")
def check_tune_and_time(
    preset: Preset = "small",
    batch: Batch = 1,
    dtype: Dtype = "fp16",
    repeats: Repeats = 50,
    side: Side = 64,
    output: Output = None,
) -> None:
    """Check the kernel, then tune and time it; a kernel that is not right is not timed, and the exit is 2."""
    case, facts = preset_case(preset, batch, dtype), _gpu()
    figures = {"check": _check(facts, side)}
    _write(output, facts, figures)
    _require_right(figures["check"])
    figures |= {"tune": _tune(facts, case, repeats), "time": _time(facts, case, repeats)}
    _write(output, facts, figures)


@app.command("check")
def check_kernel(side: Side = 64, output: Output = None) -> None:
    """Compare the kernel with the definition at FP64; exit with 2 where it is over its limit."""
    facts = _gpu()
    figures = _check(facts, side)
    _write(output, facts, figures)
    _require_right(figures)


@app.command("tune")
def tune_kernel(
    preset: Preset = "small", batch: Batch = 1, dtype: Dtype = "fp16", repeats: Repeats = 50, output: Output = None
) -> None:
    """Time each of the kernel's tiles, and name the best."""
    case, facts = preset_case(preset, batch, dtype), _gpu()
    _write(output, facts, _tune(facts, case, repeats))


@app.command("time")
def time_kernel(
    preset: Preset = "small", batch: Batch = 1, dtype: Dtype = "fp16", repeats: Repeats = 50, output: Output = None
) -> None:
    """Time the kernel, sdpa and the unfused reference; boundary: kernel, warm caches, no launch from Python."""
    case, facts = preset_case(preset, batch, dtype), _gpu()
    _write(output, facts, _time(facts, case, repeats))


def _check(facts: dict[str, Any], side: int) -> dict[str, Any]:
    table = Table("case", "dtype", "T", "worst error", "limit", "weight", "other matches", title=facts["gpu"])
    found = []
    for case in check_cases(side):
        found.append(row := check(case, "cuda", partial(correlate, impl="fused"), partial(best_match, impl="fused")))
        figures = f"{row.error:.1e}", f"{row.limit:.1e}", f"{row.weight_error:.0e}", f"{row.other_matches:.1%}"
        table.add_row(row.case, row.dtype, f"{row.temperature:g}", *figures)
    _console.print(table)
    return {"checked": [row.to_json() for row in found]}


def _require_right(figures: dict[str, Any]) -> None:
    if failed := [row["case"] for row in figures["checked"] if not row["passed"]]:
        raise InputError(f"Over the limit: {', '.join(failed)}; take impl='sdpa' on this GPU.")


def _tune(facts: dict[str, Any], case: KernelCase, repeats: int) -> dict[str, Any]:
    times = tune_case(case, repeats)
    best = fastest(times)
    table = Table(*asdict(best), "ms", title=f"{facts['gpu']}, {case.name}, {case.dtype}, batch {case.batch}")
    for tiles, ms in sorted(times.items(), key=lambda item: item[1]):
        table.add_row(*map(str, asdict(tiles).values()), f"{ms:.4f}")
    _console.print(table)
    content = [{"tiles": asdict(tiles), "ms": ms} for tiles, ms in times.items()]
    return {**_of(case), "best": asdict(best), "times": content}


def _time(facts: dict[str, Any], case: KernelCase, repeats: int) -> dict[str, Any]:
    ceiling = ceiling_tflops(case.dtype, repeats)
    rows = time_case(case, ceiling, repeats)
    title = f"{facts['gpu']}, {case.name}, {case.dtype}, batch {case.batch}"
    title += f"; a matrix product reaches {ceiling:.0f} TFLOP/s"
    table = Table("implementation", "ms", "TFLOP/s", "share", title=title)
    for row in rows:
        table.add_row(row.name, f"{row.ms:.4f}", f"{row.tflops:.1f}", f"{row.share:.1%}")
    _console.print(table)
    return {**_of(case), "ceiling_tflops": ceiling, "rows": [row.to_json() for row in rows]}


def _of(case: KernelCase) -> dict[str, Any]:
    return {"preset": case.name, "dtype": case.dtype, "batch": case.batch}


def _gpu() -> dict[str, Any]:
    """Return what is measured on; raise UnsupportedError where that is no NVIDIA GPU."""
    if not torch.cuda.is_available():
        raise UnsupportedError("bench/gpu.py needs an NVIDIA GPU and torch's CUDA build; run it where both are.")
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "triton": version("triton"),
    }


def _write(path: Path | None, facts: dict[str, Any], figures: dict[str, Any]) -> None:
    if path is not None:
        atomic_write(path, (json.dumps({"facts": facts, **figures}, indent=2) + "\n").encode())
        _console.print(f"Wrote {path}.")


if __name__ == "__main__":
    run_program(app)
