"""What every source of outfits promises, and the one place that opens a source by its config."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from outfitgan.config import DataConfig
from outfitgan.errors import ConfigError
from outfitgan.items import Outfit

SPLITS = ("train", "test")


class OutfitSource(Protocol):
    """Outfits by number, each with all four kinds; the same number always gives the same outfit."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Outfit:
        """Return outfit `index`; raise IndexError outside 0 to len - 1."""
        ...

    def incompatible(self, index: int, seed: int) -> Outfit:
        """Return outfit `index` with at least one item replaced so that it no longer goes together."""
        ...


def open_outfits(config: DataConfig, size: int, split: str, seed: int) -> OutfitSource:
    """Return the outfits of `split` at (size, size); raise ConfigError for a split or source that is unknown."""
    check_split(split)
    if config.name == "synthetic":
        from outfitgan.data.synthetic import SyntheticOutfits

        return SyntheticOutfits(config.count, size, seed, split)
    if config.name == "ccp":
        from outfitgan.data.ccp import CcpOutfits

        if not config.root:
            raise ConfigError("data.root is empty: set it to the folder of the Clothing Co-Parsing data set.")
        return CcpOutfits(Path(config.root), size, split)
    raise ConfigError(f"There is no data source '{config.name}'; choose from synthetic, ccp.")


def check_split(split: str) -> None:
    """Raise ConfigError, which lists the splits, if `split` is not one."""
    if split not in SPLITS:
        raise ConfigError(f"There is no split '{split}'; choose from {', '.join(SPLITS)}.")
