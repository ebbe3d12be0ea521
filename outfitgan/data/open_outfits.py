"""The one place that opens a source of outfits by its config."""

from __future__ import annotations

from pathlib import Path

from outfitgan.config import DataConfig
from outfitgan.data.outfit_source import OutfitSource, check_split
from outfitgan.errors import ConfigError

_PUBLISHED = {
    "ccp": "the Clothing Co-Parsing data set",
    "polyvore": "the published Polyvore Outfits, or to its folder nondisjoint or disjoint",
    "fashion_mnist": "Fashion-MNIST's .gz files",
    "folder": "your outfits, one folder each",
}


def open_outfits(config: DataConfig, size: int, split: str, seed: int) -> OutfitSource:
    """Return the outfits of `split` at (size, size).

    Raises:
        ConfigError: for a split that is unknown, or where the source needs data.root and it is empty.
        DataError: if the data set is not there or not laid out as published.

    """
    check_split(split)
    match config.name:
        case "synthetic":
            from outfitgan.data.synthetic import SyntheticOutfits

            return SyntheticOutfits(config.count, size, seed, split)
        case "ccp":
            from outfitgan.data.ccp import CcpOutfits

            return CcpOutfits(_root(config), size, split)
        case "polyvore":
            from outfitgan.data.polyvore import PolyvoreOutfits

            return PolyvoreOutfits(_root(config), size, split)
        case "fashion_mnist":
            from outfitgan.data.fashion_mnist import FashionMnistOutfits

            return FashionMnistOutfits(_root(config), config.count, size, seed, split)
        case "folder":
            from outfitgan.data.folder import FolderOutfits

            return FolderOutfits(_root(config), size, split)


def _root(config: DataConfig) -> Path:
    if not config.root:
        raise ConfigError(f"data.root is empty: set it to the folder of {_PUBLISHED[config.name]}.")
    return Path(config.root)
