"""What a data set holds, in numbers and on a sheet, before anyone trains on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.ndimage import label

from outfitgan.config import DataConfig
from outfitgan.data.open_outfits import open_outfits
from outfitgan.data.outfit_source import SPLITS, check_split
from outfitgan.data.outlined_sheet import outlined_sheet
from outfitgan.errors import DataError
from outfitgan.files import partial_file
from outfitgan.items import COLLOCATION_ORDER, Item, ItemKind, Outfit
from outfitgan.masks import THRESHOLD

_DRAWN = 24  # outfits on the sheet
_TOUCHING = np.ones((3, 3))  # pixels that meet at a corner are one patch


@dataclass(frozen=True)
class Seen:
    """An item that was looked at."""

    photo: bytes  # a digest of its pixels
    coverage: float  # share of the square under its mask
    parts: int  # patches of its mask


@dataclass(frozen=True)
class Split:
    """One split: how many outfits it has, some of them, and all that was seen of it."""

    name: str
    count: int
    drawn: list[Outfit] = field(default_factory=list)
    seen: dict[ItemKind, list[Seen]] = field(default_factory=lambda: {kind: [] for kind in COLLOCATION_ORDER})
    notes: list[str] = field(default_factory=list)

    def photos(self) -> set[bytes]:
        """Return the digests of all items seen."""
        return {item.photo for items in self.seen.values() for item in items}


def inspect_data(
    config: DataConfig, size: int, split: str, seed: int, count: int, output: Path, console: Console
) -> None:
    """Print what each split holds, judged by up to `count` outfits of it, and draw the first of `split` to `output`.

    Raises:
        ConfigError: if the split is unknown or the source cannot be opened by this config.
        DataError: if `split` holds no outfit that can be used.

    """
    check_split(split)
    splits = {name: _look(config, size, name, seed, count) for name in SPLITS}
    chosen = splits[split]
    if not chosen.drawn:
        raise DataError(chosen.notes[-1])
    console.print(_table(config, size, list(splits.values())))
    for found in splits.values():
        for note in found.notes:
            console.print(f"{found.name}: {note}", style="yellow", markup=False)
    caption = f"{chosen.count} outfits; the first {len(chosen.drawn)} at {size}x{size}, masks outlined"
    with partial_file(output) as partial:
        outlined_sheet(chosen.drawn, f"{config.name}, {split}", caption).save(partial, "PNG")


def look_at(item: Item) -> Seen:
    """Return what is counted of an item."""
    inside = item.mask >= THRESHOLD
    digest = hashlib.sha256(item.image.tobytes()).digest()
    return Seen(digest, float(inside.mean()), int(label(inside, _TOUCHING)[1]))


def _look(config: DataConfig, size: int, split: str, seed: int, count: int) -> Split:
    """Return a split; where nothing can be used it is empty, with the reason as its last note."""
    try:
        source = open_outfits(config, size, split, seed)
    except DataError as error:
        return Split(split, 0, notes=[str(error)])
    found = Split(split, len(source), notes=[*source.notes])
    for index in range(min(count, len(source))):
        try:
            outfit = source[index]
        except DataError as error:
            found.notes.append(str(error))
            continue
        for kind, item in outfit.items.items():
            found.seen[kind].append(look_at(item))
        if len(found.drawn) < _DRAWN:
            found.drawn.append(outfit)
    return found


def _table(config: DataConfig, size: int, splits: Sequence[Split]) -> Table:
    counts = ", ".join(f"{found.count} outfits for {found.name}" for found in splits)
    shared = set.intersection(*(found.photos() for found in splits))
    caption = (
        "covers: the least, median and greatest share of the square under a mask; in parts: masks of several patches\n"
        f"photos seen in both splits: {len(shared)}"
    )
    table = Table(title=f"{config.name} at {size}x{size}: {counts}", caption=caption)
    for name in ("split", "kind"):
        table.add_column(name)
    for name in ("items", "distinct", "covers", "median", "to", "in parts"):
        table.add_column(name, justify="right")
    for found in splits:
        for kind, items in found.seen.items():
            if items:
                table.add_row(found.name, kind.value, *_cells(items))
        table.add_section()
    return table


def _cells(items: Sequence[Seen]) -> list[str]:
    shares = [item.coverage for item in items]
    measured = (min(shares), float(np.median(shares)), max(shares), np.mean([item.parts > 1 for item in items]))
    return [str(len(items)), str(len({item.photo for item in items})), *(f"{share:.1%}" for share in measured)]
