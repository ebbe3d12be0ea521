"""What a row of the benchmark is told, and the feeds it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graphs import Making
from outfitgan.items import ItemKind

Images = dict[str, NDArray[np.uint8]]
"""Items by their kind in capitals: what a call returns for parity; empty where it makes none."""


@dataclass(frozen=True)
class Spec:
    """What a row needs to know."""

    run: Path
    inputs: Path  # .npz: SOURCE (S, S, 3), MASK_<KIND> (S, S, 1)
    threads: int
    server: str = ""  # host:port of gRPC
    server_http: str = ""

    def source(self) -> NDArray[np.uint8]:
        """Return the source item (S, S, 3)."""
        return np.load(self.inputs)["SOURCE"]  # type: ignore[no-any-return]

    def masks(self) -> dict[ItemKind, NDArray[np.uint8]]:
        """Return the reference masks (S, S, 1)."""
        arrays = np.load(self.inputs)
        return {kind: arrays[f"MASK_{kind.name}"] for kind in ItemKind if f"MASK_{kind.name}" in arrays}

    def feeds(self, making: Making) -> dict[str, NDArray[np.uint8]]:
        """Return the inputs of a graph that makes items, at batch 1."""
        return feeds_of(making, self.source(), self.masks())


def feeds_of(
    making: Making, source: NDArray[np.uint8], masks: Mapping[ItemKind, NDArray[np.uint8]]
) -> dict[str, NDArray[np.uint8]]:
    """Return a graph's inputs (1, S, S, C) of a source (S, S, 3) and masks (S, S, 1)."""
    return {"SOURCE": source[None], **{name: masks[kind][None] for name, kind in making.masks.items()}}


def images_of(making: Making, outputs: Mapping[str, NDArray[Any]]) -> Images:
    """Return the first item of each of a graph's outputs (1, S, S, 3), by kind."""
    return {kind.name: outputs[name][0] for name, kind in making.images.items()}
