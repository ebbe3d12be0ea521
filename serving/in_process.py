"""One outfit in this process: the ensemble's steps over the same engines, without a server.

It needs numpy and Pillow besides what runs the engines: the edge program is made of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from engines.engine import Engine
from engines.registry import open_engine
from outfitgan.contracts import Arrays, GraphContract
from outfitgan.errors import InputError
from outfitgan.generated_outfit import GeneratedOutfit
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.model_graphs import COLLOCATION, alignment_name, mask_generator_name, mask_name
from serving.graph_roles import roles_of
from serving.models.steps import finish, prepare, score


class OutfitPipeline:
    """Engines by graph name, opened when first needed; close it, or use it in a `with` block."""

    def __init__(
        self,
        contracts: Mapping[str, GraphContract],  # of every graph of a run, by name
        folders: Mapping[str, Path],  # the engine of each
        threads: int = 0,  # an engine; 0: all cores
    ) -> None:
        self._roles, self._folders, self._threads = roles_of(contracts), dict(folders), threads
        self._engines: dict[str, Engine] = {}

    def __enter__(self) -> OutfitPipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every engine that was opened."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()

    def open(self, targets: Collection[ItemKind]) -> None:
        """Open the engines that generating and aligning `targets` needs; otherwise each is opened when first needed."""
        made = [graph.contract.name for graph in self._roles.item_graphs if {*graph.images.values()} & {*targets}]
        aligned = [alignment_name(kind) for kind in self.aligned_kinds() if kind in targets]
        scored = [COLLOCATION] if set(targets) == set(self.targets()) else []
        for name in (*made, *aligned, *scored):
            self._engine(name)

    def targets(self) -> tuple[ItemKind, ...]:
        """Return the kinds this run generates, in collocation order."""
        return self._roles.targets

    def image_size(self) -> int:
        """Return S, the side of every image and mask."""
        return self._roles.image_size

    def aligned_kinds(self) -> tuple[ItemKind, ...]:
        """Return the kinds that have a SAM."""
        return self._roles.aligned

    def mask_kinds(self) -> tuple[ItemKind, ...]:
        """Return the kinds whose reference mask can be generated."""
        return self._roles.masked

    def generate(
        self,
        source: NDArray[np.uint8],  # (S, S, 3)
        masks: Mapping[ItemKind, NDArray[np.uint8]],  # (S, S, 1) each
        targets: Sequence[ItemKind],
    ) -> GeneratedOutfit:
        """Generate the items in `targets`; the compatibility is scored when that is all of them.

        Raises:
            InputError: on a kind that this run does not make, or a mask that is missing or empty.

        """
        if unknown := [kind for kind in targets if kind not in self.targets()]:
            raise InputError(f"This run makes {', '.join(self.targets())}, not {', '.join(unknown)}.")
        feeds = {"SOURCE": source[None], **{mask_name(kind): mask[None] for kind, mask in masks.items()}}
        ready = prepare(feeds, [mask_name(kind) for kind in self.targets()])
        images = self._items(ready, targets)  # (1, S, S, 3) each
        compatibility = self._compatibility(ready, images) if set(targets) == set(self.targets()) else None
        return GeneratedOutfit({kind: images[kind][0] for kind in targets}, compatibility)

    def align(
        self, kind: ItemKind, source: NDArray[np.uint8], mask: NDArray[np.uint8]
    ) -> dict[str, NDArray[np.generic]]:
        """Return WARPED, MATCH and WEIGHT of the SAM of `kind` for one source (S, S, 3) and mask (S, S, 1)."""
        found = self._engine(alignment_name(kind)).run({"SOURCE": source[None], "MASK": mask[None]})
        return {name: array[0] for name, array in found.items()}

    def soft_mask(self, kind: ItemKind, source: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the silhouette (S, S, 1) that the mask generator of `kind` makes of one source (S, S, 3)."""
        made: NDArray[np.uint8] = self._engine(mask_generator_name(kind)).run({"SOURCE": source[None]})["MASK"][0]
        return made

    def _items(self, ready: Arrays, targets: Collection[ItemKind]) -> dict[ItemKind, NDArray[np.uint8]]:
        """Run the graphs that `targets` needs, each once."""
        images: dict[ItemKind, NDArray[np.uint8]] = {}
        for graph in self._roles.item_graphs:
            wanted = {name: kind for name, kind in graph.images.items() if kind in targets}
            if not wanted:
                continue
            masks = {name: ready[mask_name(kind)] for name, kind in graph.masks.items()}
            made = self._engine(graph.contract.name).run({"SOURCE": ready["SOURCE"], **masks})
            for name, kind in wanted.items():
                images[kind] = finish({"IMAGE": made[name], "MASK": ready[mask_name(kind)]})["IMAGE"]
        return images

    def _compatibility(self, ready: Arrays, images: Mapping[ItemKind, NDArray[np.uint8]]) -> float:
        outfit = {kind.name: images.get(kind, ready["SOURCE"]) for kind in COLLOCATION_ORDER}
        scored = self._engine(COLLOCATION).run(outfit)
        masks = {name: mask for name, mask in ready.items() if name.startswith("MASK_")}
        return float(score(scored | masks)["COMPATIBILITY"][0, 0])

    def _engine(self, name: str) -> Engine:
        if name not in self._engines:
            self._engines[name] = open_engine(self._folders[name], self._threads)
        return self._engines[name]
