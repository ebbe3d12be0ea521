"""Real outfits for an INT8 export: some show what range each tensor takes, others what the rounding costs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graphs import Making
from outfitgan.config import Config
from outfitgan.data.store import open_store
from outfitgan.errors import ConfigError
from outfitgan.items import ItemKind, Outfit

Feeds = dict[str, NDArray[Any]]

OUTFITS = 16
"""How many an export calibrates on if nothing is said: more give no more PSNR; four give 5 to 7 dB less on adversarial
inputs."""

CHECKED = 4
"""How many more it is measured on."""


@dataclass(frozen=True)
class Samples:
    """Real inputs of one graph, each at batch 1; no outfit is on both sides."""

    shown: list[Feeds]  # ranges are taken from these
    unseen: list[Feeds]  # parity is measured on these, besides adversarial inputs
    record: dict[str, Any]  # which outfits were shown, and a digest of their pixels as the graph got them


@dataclass(frozen=True)
class Calibration:
    """Outfits of a run's training split, so that the test split stays unseen."""

    source: ItemKind
    shown: tuple[Outfit, ...]
    unseen: tuple[Outfit, ...]

    def samples(self, making: Making) -> Samples:
        """Return the outfits as a graph takes them."""
        shown = [self._feed(making, outfit) for outfit in self.shown]
        names = [outfit.name for outfit in self.shown]
        record = {"count": len(names), "outfits": names, "sha256": _digest(shown)}
        return Samples(shown, [self._feed(making, outfit) for outfit in self.unseen], record)

    def _feed(self, making: Making, outfit: Outfit) -> Feeds:
        masks = {name: outfit.items[kind].mask[None, :, :, None] for name, kind in making.masks.items()}
        return {"SOURCE": outfit.items[self.source].image[None], **masks}  # (1, S, S, C)


def open_calibration(
    config: Config, count: int = OUTFITS, progress: Callable[[int, int], None] | None = None
) -> Calibration:
    """Return `count` outfits to calibrate a run's graphs on, and a few more to check them on.

    They are drawn from the store that the training decoded, which is decoded now if it is not there; `progress` then
    hears of outfits done and of how many there are.

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


def _digest(feeds: Sequence[Feeds]) -> str:
    digest = hashlib.sha256()
    for feed in feeds:
        for name, array in sorted(feed.items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
