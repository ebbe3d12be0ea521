"""`outfitgan data`: look at a data set, or write outfits of it as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import out, print_line
from cli.shared_options import DataName, DataRoot, DataSeed, Size

if TYPE_CHECKING:
    from outfitgan.config import DataConfig

app = typer.Typer(help="Look at a data set, or write outfits of it as files.", no_args_is_help=True)


@app.command("write")
def data_write(
    output: Annotated[Path, typer.Option(help="Folder to write.")],
    name: DataName = "synthetic",
    root: DataRoot = None,
    split: Annotated[str, typer.Option(help="train or test.")] = "test",
    count: Annotated[int, typer.Option(min=1, help="How many outfits.")] = 4,
    size: Size = 256,
    seed: DataSeed = 0,
) -> None:
    """Write outfits as images and masks, one folder an outfit, with a contact sheet to look at."""
    from outfitgan.data.examples import write_examples

    sheet = write_examples(_data_config(name, root), size, split, seed, count, output)
    print_line(f"Wrote {count} outfits to {output}; look at {sheet}.")


@app.command("inspect")
def data_inspect(
    output: Annotated[Path, typer.Option(help="The contact sheet to draw, a PNG.")],
    name: DataName = "synthetic",
    root: DataRoot = None,
    split: Annotated[str, typer.Option(help="What to draw: train or test. Both are counted.")] = "train",
    count: Annotated[int, typer.Option(min=1, help="How many outfits of each split to look at.")] = 100,
    size: Size = 256,
    seed: DataSeed = 0,
) -> None:
    """Count what a data set holds, measure its masks, and draw outfits with their masks outlined."""
    from outfitgan.data.inspect_data import inspect_data

    inspect_data(_data_config(name, root), size, split, seed, count, output, out)
    print_line(f"Look at {output}.")


def _data_config(name: str | None, root: str | None) -> DataConfig:
    from outfitgan.config import load_preset, override

    return override(load_preset("small"), {"data.name": name, "data.root": root}).data
