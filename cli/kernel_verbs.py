"""The verb `outfitgan kernel`: the correlation compiled ahead of time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from cli.console import print_line
from outfitgan.errors import ConfigError

app = typer.Typer()


@app.command()
def kernel(
    output: Annotated[Path, typer.Option(help="Folder for the PTX, a JSON beside each, and resources.md.")],
    run: Annotated[Path | None, typer.Option("--run", help="Widths and temperature of this run ...")] = None,
    preset: Annotated[str | None, typer.Option(help="... or of this preset; small by default.")] = None,
    architecture: Annotated[
        list[str] | None, typer.Option(help="As sm_80; may be repeated. None: all that there are.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="fp16, bf16 or fp32.")] = "fp16",
    layout: Annotated[str, typer.Option(help="channels_last, the fast one, or channels_first.")] = "channels_last",
) -> None:
    """Compile the correlation kernel to PTX for each GPU architecture; no GPU is needed."""
    from outfitgan.config import load_preset
    from outfitgan.ops.correlate.ahead_of_time import compile_ptx
    from outfitgan.ops.correlate.compiled_kernel import ARCHITECTURES, Dtype, Layout
    from outfitgan.ops.correlate.ptx_files import write_kernels
    from outfitgan.run_folder import RunFolder

    if run is not None and preset is not None:
        raise ConfigError("Say whose widths: --run FOLDER or --preset NAME, not both.")
    config = load_preset(preset or "small") if run is None else RunFolder(run).config()
    alignment = config.model.generator.alignment
    if alignment.kind != "semantic":
        raise ConfigError(f"This run's alignment is {alignment.kind}, which has no correlation; choose a semantic one.")
    widths = alignment.match_channels, alignment.value_channels
    requested = cast(Dtype, dtype), *widths, alignment.temperature, cast(Layout, layout)  # compile_ptx refuses others
    kernels = [compile_ptx(name, *requested) for name in architecture or ARCHITECTURES]
    print_line(f"{write_kernels(kernels, output)}\nWrote PTX and JSON to {output}.")
