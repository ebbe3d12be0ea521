"""Real outfits for an INT8 export: some show what range each tensor takes, others what the rounding costs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from outfitgan.config import Config
from outfitgan.contracts import Arrays
from outfitgan.data.outfit_store import open_store
from outfitgan.errors import ConfigError
from outfitgan.items import ItemKind, Outfit
from outfitgan.model_graphs import ItemGraph
from outfitgan.progress import Progress, no_progress

OUTFITS = 16
"""How many an export calibrates on by default: more give no more PSNR; four give 5 to 7 dB less on adversarial
inputs."""

CHECKED = 4
"""How many more it is measured on."""


@dataclass(frozen=True)
class Samples:
    """Real inputs of one graph, each at batch 1; no outfit is on both sides."""

    shown: list[Arrays]  # ranges are taken from these
    unseen: list[Arrays]  # parity is measured on these, besides adversarial inputs
    record: dict[str, Any]  # which outfits were shown, and a digest of their pixels as the graph got them


@dataclass(frozen=True)
class Calibration:
    """Outfits of a run's training split, so that the test split stays unseen."""

    source: ItemKind
    shown: tuple[Outfit, ...]
    unseen: tuple[Outfit, ...]

    def samples(self, item_graph: ItemGraph) -> Samples:
        """Return the outfits as a graph takes them."""
        shown = [self._feed(item_graph, outfit) for outfit in self.shown]
        names = [outfit.name for outfit in self.shown]
        record = {"count": len(names), "outfits": names, "sha256": _digest(shown)}
        return Samples(shown, [self._feed(item_graph, outfit) for outfit in self.unseen], record)

    def _feed(self, item_graph: ItemGraph, outfit: Outfit) -> Arrays:
        masks = {kind: item.mask[..., None] for kind, item in outfit.items.items()}  # (S, S, 1) each
        return item_graph.feeds(outfit.items[self.source].image, masks)


def open_calibration(config: Config, count: int = OUTFITS, progress: Progress = no_progress) -> Calibration:
    """Return `count` outfits to calibrate a run's graphs on, and a few more to check them on.

    They are drawn from the store that the training decoded, which is decoded now if it is not there; `progress` is then
    called after each outfit.

    Raises:
        ConfigError: if the training split has too few, or as `open_store`.
        DataError: as `open_store`.

    """
    store = open_store(config.data, config.model.image_size, "train", config.training.seed, progress, variants=0)
    if not 1 <= count <= len(store) - CHECKED:
        raise ConfigError(
            f"This run has {len(store)} training outfits, {CHECKED} of which check an INT8 graph: calibrate on 1 to "
            f"{max(0, len(store) - CHECKED)}, not on {count}."
        )
    drawn = np.random.default_rng(0).permutation(len(store))[: count + CHECKED]
    outfits = [store.outfit(int(index)) for index in drawn]
    return Calibration(config.model.source, tuple(outfits[:count]), tuple(outfits[count:]))


def _digest(feeds: Sequence[Arrays]) -> str:
    digest = hashlib.sha256()
    for feed in feeds:
        for name, array in sorted(feed.items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
