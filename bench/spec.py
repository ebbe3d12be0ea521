"""What a row of the benchmark needs to know, and the feeds it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outfitgan.contracts import Arrays
from outfitgan.items import ItemKind
from outfitgan.model_graphs import ItemGraph

Images = dict[str, NDArray[np.uint8]]
"""Items by their kind in capitals: what a call returns for parity; empty where it makes none."""


@dataclass(frozen=True)
class Spec:
    """What a row needs to know."""

    run: Path  # the folder of the run that is measured
    inputs: Path  # .npz: SOURCE (S, S, 3), MASK_<KIND> (S, S, 1)
    threads: int  # an engine; 0: all cores
    server: str = ""  # host:port of gRPC
    server_http: str = ""  # host:port of HTTP

    def source(self) -> NDArray[np.uint8]:
        """Return the source item (S, S, 3)."""
        return np.load(self.inputs)["SOURCE"]  # type: ignore[no-any-return]

    def masks(self) -> dict[ItemKind, NDArray[np.uint8]]:
        """Return the reference masks (S, S, 1)."""
        arrays = np.load(self.inputs)
        return {kind: arrays[f"MASK_{kind.name}"] for kind in ItemKind if f"MASK_{kind.name}" in arrays}

    def feeds(self, item_graph: ItemGraph) -> Arrays:
        """Return the inputs of a graph that makes items, at batch 1."""
        return item_graph.feeds(self.source(), self.masks())


def images_of(item_graph: ItemGraph, outputs: Mapping[str, NDArray[Any]]) -> Images:
    """Return the first item of each of a graph's outputs (1, S, S, 3), by kind."""
    return {kind.name: images[0] for kind, images in item_graph.items(outputs).items()}
