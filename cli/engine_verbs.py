"""`outfitgan inspect` and `verify`: what an engine is, and whether it does on this machine what its graph does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.console import print_line, print_note, progress_bar, tables
from outfitgan.errors import EngineError, UnsupportedError

app = typer.Typer()


@app.command()
def inspect(
    engine: Annotated[Path, typer.Argument(help="An engine's folder, or a folder of engines.", show_default=False)],
) -> None:
    """Print what an engine was built from and for and how well it agrees with its graph; of one, its layers too."""
    from engines.description import describe, layer_rows
    from engines.engine_folder import engine_folders
    from engines.manifest import read_manifest

    folders = engine_folders(engine)
    for folder in folders:
        manifest = read_manifest(folder)
        print_line(str(folder), style="bold")
        for name, value in describe(folder, manifest).items():
            print_line(f"  {name:<21} {value}")
        if folders == [engine] and (rows := layer_rows(manifest)):
            _print_layers(rows)


@app.command()
def verify(
    engines: Annotated[Path, typer.Argument(help="An engines folder, or one engine's.", show_default=False)],
) -> None:
    """Run engines that were built without a GPU, and write how well they agree with their graphs."""
    from engines.engine_folder import engine_folders
    from engines.manifest import parse_manifest
    from engines.verification import REFERENCES
    from engines.verification import verify as verify_engine

    manifests = {folder: parse_manifest(folder) for folder in engine_folders(engines)}
    comparable = [folder for folder, manifest in manifests.items() if REFERENCES in manifest.files]
    if not comparable:
        raise EngineError(f"{engines} holds no engine that was built without a GPU: there is nothing to verify.")
    failed = []
    with progress_bar("verify") as progress:
        for done, folder in enumerate(comparable):
            progress(folder.name, done, len(comparable))
            try:
                manifest = verify_engine(folder)
            except UnsupportedError:  # nothing of the kind runs here
                raise
            except EngineError as error:
                failed.append(str(error))
                continue
            figures = "; ".join(f"{name} {parity['psnr_db']:.1f} dB" for name, parity in manifest.parity.items())
            print_line(f"{folder.name}: verified on {manifest.device['name']}, {figures}")
        progress("", len(comparable), len(comparable))
    for message in failed[1:]:
        print_note(message)
    if failed:
        raise EngineError(failed[0])


def _print_layers(rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table

    from engines.description import LAYER_COLUMNS

    table = Table("", *LAYER_COLUMNS, box=None, pad_edge=False, header_style="bold")
    for index, row in enumerate(rows):
        table.add_row(str(index), *row, style="green" if row[0] == "fused attention" else None)
    tables.print(table)
