"""One outfit in this process: the ensemble's steps over the same engines, without a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.engine import Engine
from engines.store import EngineStore, open_engine
from export.exported import ExportedGraph, find_graphs
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


class OutfitPipeline:
    """Engines by graph name, opened when first needed; close it, or use it in a `with` block."""

    def __init__(self, folders: Mapping[str, Path], threads: int = 0) -> None:
        self._folders, self._threads = dict(folders), threads
        self._engines: dict[str, Engine] = {}
        self.targets = tuple(kind for kind in COLLOCATION_ORDER if f"generator_{kind}" in folders)
        missing = set(COLLOCATION_ORDER) - set(self.targets)
        if len(missing) != 1:
            raise EngineError(f"A pipeline needs the generators of three kinds, not of {list(self.targets)}.")
        self.source_kind = missing.pop()

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

    def open(self) -> None:
        """Open every engine now, which else happens when each is first needed."""
        for name in self._folders:
            self._engine(name)

    def image_size(self) -> int:
        """Return S, the side of every image and mask."""
        return int(self._engine(f"generator_{self.targets[0]}").contract.inputs[0].shape[0])

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
        if unknown := [kind for kind in targets if kind not in self.targets]:
            raise InputError(f"This run makes {', '.join(self.targets)}, not {', '.join(unknown)}.")
        names = [f"MASK_{kind.name}" for kind in self.targets]
        feeds = {"SOURCE": source[None], **{f"MASK_{kind.name}": mask[None] for kind, mask in masks.items()}}
        ready = prepare(feeds, names)
        images = {kind: self._item(kind, ready) for kind in targets}  # (1, S, S, 3) each
        compatibility = self._compatibility(ready, images) if set(targets) == set(self.targets) else None
        return GeneratedOutfit({kind: image[0] for kind, image in images.items()}, compatibility)

    def align(
        self, kind: ItemKind, source: NDArray[np.uint8], mask: NDArray[np.uint8]
    ) -> dict[str, NDArray[np.generic]]:
        """Return WARPED, MATCH and WEIGHT of the SAM of `kind` for one source (S, S, 3) and mask (S, S, 1)."""
        found = self._engine(f"alignment_{kind}").run({"SOURCE": source[None], "MASK": mask[None]})
        return {name: array[0] for name, array in found.items()}

    def _item(self, kind: ItemKind, ready: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
        mask = ready[f"MASK_{kind.name}"]
        made = self._engine(f"generator_{kind}").run({"SOURCE": ready["SOURCE"], "MASK": mask})
        return finish({"IMAGE": made["IMAGE"], "MASK": mask})["IMAGE"]

    def _compatibility(self, ready: dict[str, NDArray[Any]], images: Mapping[ItemKind, NDArray[np.uint8]]) -> float:
        outfit = {kind.name: images.get(kind, ready["SOURCE"]) for kind in COLLOCATION_ORDER}
        scored = self._engine("collocation").run(outfit)
        masks = {name: mask for name, mask in ready.items() if name.startswith("MASK_")}
        return float(score(scored | masks)["COMPATIBILITY"][0, 0])

    def _engine(self, name: str) -> Engine:
        if name not in self._engines:
            self._engines[name] = open_engine(self._folders[name], self._threads)
        return self._engines[name]
