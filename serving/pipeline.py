"""One outfit in this process: the ensemble's steps over the same engines, without a server."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.engine import Engine
from engines.store import EngineStore, open_engine
from export.exported import ExportedGraph, find_graphs
from export.graphs import aligned_kinds, contracts_of, makings, mask_name
from outfitgan.config import ModelConfig
from outfitgan.errors import EngineError, InputError
from outfitgan.folders import RunFolder
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from serving.outfit import GeneratedOutfit
from serving.steps import finish, prepare, score


def run_graphs(run: RunFolder, precision: str = "fp32") -> dict[str, ExportedGraph]:
    """Return the graphs of a run's present weights; raise GraphError if they were not exported since."""
    run.config()
    return find_graphs(run.graphs, precision, run.weights())


def run_engines(run: RunFolder, target: str, precision: str) -> dict[str, Path]:
    """Return the engine folder of each graph of a run; raise EngineError if one was not built."""
    store = EngineStore(run.engines)
    folders: dict[str, Path] = {}
    for name, graph in run_graphs(run).items():
        folder = store.find(graph, target, precision)
        if folder is None:
            raise EngineError(
                f"{name} has no {target} {precision} engine yet; build it with 'outfitgan build --run {run.path} "
                f"--target {target} --precision {precision}'."
            )
        folders[name] = folder
    return folders


def run_pipeline(run: RunFolder, target: str, precision: str, threads: int = 0) -> OutfitPipeline:
    """Return a pipeline over a run's engines; raises what `run_engines` raises."""
    return OutfitPipeline(run.config().model, run_engines(run, target, precision), threads)


class OutfitPipeline:
    """Engines by graph name, opened when first needed; close it, or use it in a `with` block."""

    def __init__(
        self,
        model: ModelConfig,
        folders: Mapping[str, Path],  # an engine of each graph of the run
        threads: int = 0,  # an engine; 0: all cores
    ) -> None:
        contracts_of(model, folders)  # all are there, and none of another model
        self._model, self._folders, self._threads = model, dict(folders), threads
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
        """Open the engines that making and aligning `targets` needs, which else happens when each is first needed."""
        made = [making.contract.name for making in makings(self._model) if {*making.images.values()} & {*targets}]
        aligned = [f"alignment_{kind}" for kind in self.aligned_kinds() if kind in targets]
        scored = ["collocation"] if set(targets) == set(self.targets()) else []
        for name in (*made, *aligned, *scored):
            self._engine(name)

    def targets(self) -> tuple[ItemKind, ...]:
        """Return the kinds this run generates, in collocation order."""
        return self._model.targets

    def image_size(self) -> int:
        """Return S, the side of every image and mask."""
        return self._model.image_size

    def aligned_kinds(self) -> tuple[ItemKind, ...]:
        """Return the kinds that have a SAM."""
        return aligned_kinds(self._model)

    def mask_kinds(self) -> tuple[ItemKind, ...]:
        """Return the kinds whose reference mask can be generated."""
        return tuple(kind for kind in self._model.targets if f"mask_generator_{kind}" in self._folders)

    def generate(
        self,
        source: NDArray[np.uint8],  # (S, S, 3)
        masks: Mapping[ItemKind, NDArray[np.uint8]],  # (S, S, 1) each
        targets: Sequence[ItemKind],
    ) -> GeneratedOutfit:
        """Make the items in `targets`; the compatibility is scored when that is all of them.

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
        found = self._engine(f"alignment_{kind}").run({"SOURCE": source[None], "MASK": mask[None]})
        return {name: array[0] for name, array in found.items()}

    def soft_mask(self, kind: ItemKind, source: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the silhouette (S, S, 1) that the mask generator of `kind` makes of one source (S, S, 3)."""
        made: NDArray[np.uint8] = self._engine(f"mask_generator_{kind}").run({"SOURCE": source[None]})["MASK"][0]
        return made

    def _items(
        self, ready: dict[str, NDArray[Any]], targets: Collection[ItemKind]
    ) -> dict[ItemKind, NDArray[np.uint8]]:
        """Run the graphs that `targets` needs, each once."""
        images: dict[ItemKind, NDArray[np.uint8]] = {}
        for making in makings(self._model):
            wanted = {name: kind for name, kind in making.images.items() if kind in targets}
            if not wanted:
                continue
            masks = {name: ready[mask_name(kind)] for name, kind in making.masks.items()}
            made = self._engine(making.contract.name).run({"SOURCE": ready["SOURCE"], **masks})
            for name, kind in wanted.items():
                images[kind] = finish({"IMAGE": made[name], "MASK": ready[mask_name(kind)]})["IMAGE"]
        return images

    def _compatibility(self, ready: dict[str, NDArray[Any]], images: Mapping[ItemKind, NDArray[np.uint8]]) -> float:
        outfit = {kind.name: images.get(kind, ready["SOURCE"]) for kind in COLLOCATION_ORDER}
        scored = self._engine("collocation").run(outfit)
        masks = {name: mask for name, mask in ready.items() if name.startswith("MASK_")}
        return float(score(scored | masks)["COMPATIBILITY"][0, 0])

    def _engine(self, name: str) -> Engine:
        if name not in self._engines:
            self._engines[name] = open_engine(self._folders[name], self._threads)
        return self._engines[name]
