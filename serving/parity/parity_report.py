"""The parity table as a person reads it, and as a program does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from export.parity import IDENTICAL_DB
from outfitgan.files import atomic_write
from serving.parity.hop_table import HopParity


def show_parity(rows: Sequence[HopParity], refused: Sequence[str], console: Console) -> None:
    """Print the parity table and what could not be measured here."""
    title = "Parity: the worst PSNR in dB over all requests and items"
    caption = "levels (of 255), SAM (warped features), masks (generated) and score (compatibility): against torch fp32"
    table = Table(title=title, caption=caption)
    for name in ("chain", "hop"):
        table.add_column(name, no_wrap=True)
    for name in ("hop before", "torch", "levels", "SAM", "masks", "score", "NaN"):
        table.add_column(name, justify="right")
    for row in rows:
        decibels = (row.image_psnr_db, row.image_psnr_torch_db)
        features = (row.warped_psnr_db, row.mask_psnr_db)
        cells = [*map(decibel, decibels), f"{row.image_levels:.0f}", *map(decibel, features)]
        table.add_row(row.chain, row.hop, *cells, f"{row.compatibility:.0e}", str(row.nan_count))
    console.print(table)
    show_refused(refused, console)


def write_parity(rows: Sequence[HopParity], refused: Sequence[str], path: Path) -> Path:
    """Write the parity table as JSON and return the path."""
    content = {"hops": [asdict(row) for row in rows], "not_measured": list(refused)}
    atomic_write(path, (json.dumps(content, indent=2) + "\n").encode())
    return path


def decibel(value: float | None) -> str:
    """Return a PSNR for a table cell, which None leaves empty."""
    if value is None:
        return ""
    if value <= -IDENTICAL_DB:
        return "not finite"
    return "equal" if value >= IDENTICAL_DB else f"{value:.1f}"


def show_refused(sentences: Sequence[str], console: Console) -> None:
    """Print what could not be measured here, a sentence each."""
    for sentence in sentences:
        console.print(f"not measured: {sentence}", style="yellow", markup=False)
