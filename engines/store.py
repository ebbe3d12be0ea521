"""Engines by content: the same graph, target and precision never build twice, a changed input always does."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from engines.engine import Engine
from engines.manifest import EngineManifest, Profile, hash_files, read_manifest, write_manifest
from export.parity import Parity, measure, parity_feeds, shortfalls
from outfitgan.errors import EngineError
from outfitgan.files import partial_folder, sha256_of

if TYPE_CHECKING:
    from export.exported import ExportedGraph

TARGETS: dict[str, str] = {
    "onnxruntime": "engines.onnxruntime",
    "openvino": "engines.openvino",
}
"""Target -> the module that builds and opens it, imported when it is asked for."""

_log = logging.getLogger(__name__)


class Target(Protocol):
    """What a target's module offers."""

    DEVICE_BOUND: bool  # whether an engine runs only on the device it was built on

    def versions(self) -> dict[str, str]:
        """Return the versions of what builds and runs the engine."""

    def device(self) -> dict[str, str]:
        """Return the device's name and what else identifies it."""

    def build(self, graph: ExportedGraph, folder: Path, precision: str) -> None:
        """Put the engine's files into `folder`; raise EngineError if that cannot be done here."""

    def open(self, folder: Path, manifest: EngineManifest, threads: int) -> Engine:
        """Load the engine."""


PRECISIONS = ("fp32", "bf16", "fp16")


def load_target(name: str) -> Target:
    """Return the module of a target; raise EngineError if there is none or its packages are missing."""
    if name not in TARGETS:
        raise EngineError(f"There is no engine target '{name}'; choose from {', '.join(TARGETS)}.")
    target = cast(Target, import_module(TARGETS[name]))
    try:
        target.versions()
    except ImportError as error:
        raise EngineError(f"The target {name} needs the package {error.name}, which is not installed.") from error
    return target


def open_engine(folder: Path, threads: int = 0) -> Engine:
    """Check an engine's folder and load it with `threads` threads (0: all cores).

    Raises:
        EngineError: if the folder is missing, altered or cannot run here.

    """
    if threads < 0:
        raise EngineError(f"An engine cannot have {threads} threads; give 0 for all cores, or more.")
    manifest = read_manifest(folder)
    target = load_target(manifest.target)
    if target.DEVICE_BOUND and manifest.device != target.device():
        built, here = manifest.device.get("name", "an unknown device"), target.device().get("name", "another")
        raise EngineError(
            f"The engine {folder} was built on {built} and runs only there, not on {here}; build it here."
        )
    return target.open(folder, manifest, threads)


class EngineStore:
    """A folder of engines, each in `<graph>.<target>.<precision>.<key>/`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, graph: ExportedGraph, target: str, precision: str) -> Path | None:
        """Return the engine's folder, or None if it was never built; raise EngineError if it was altered."""
        _require_precision(precision)
        key = _key(graph, target, precision)
        folder = self._folder(graph, target, precision, key)
        if not folder.exists():
            return None
        if read_manifest(folder).key != key:  # the folder's name holds the beginning of the key only
            raise EngineError(f"{folder} holds another engine than its name says; build it again.")
        return folder

    def build(self, graph: ExportedGraph, target: str, precision: str) -> Path:
        """Return the engine's folder, building it if it is not there or was altered.

        Raises:
            EngineError: if it cannot be built here, or its parity with the graph is out of tolerance.

        """
        _require_precision(precision)
        load_target(target)
        try:
            found = self.find(graph, target, precision)
        except EngineError as error:
            _log.warning("%s", error)
            found = None
        return found or self._build(graph, target, precision)

    def build_all(
        self,
        graphs: Mapping[str, ExportedGraph],
        target: str,
        precision: str,
        progress: Callable[[str, int, int], None] | None = None,  # graph name, its number from 1, how many
    ) -> dict[str, Path]:
        """Return the engine folder of each graph, building what is not there; raises what `build` raises."""
        folders: dict[str, Path] = {}
        for name, graph in graphs.items():
            folders[name] = self.build(graph, target, precision)
            if progress:
                progress(name, len(folders), len(graphs))
        return folders

    def _build(self, graph: ExportedGraph, target: str, precision: str) -> Path:
        module = load_target(target)
        if sha256_of(graph.path) != graph.sha256:
            raise EngineError(f"{graph.path} changed after it was loaded (its SHA-256 differs); export it again.")
        key = _key(graph, target, precision)
        folder = self._folder(graph, target, precision, key)
        with partial_folder(folder, keep=lambda: self._is_built(graph, target, precision)) as partial:
            module.build(graph, partial, precision)
            manifest = EngineManifest(
                contract=graph.contract,
                graph_sha256=graph.sha256,
                target=target,
                precision=precision,
                files=hash_files(partial),
                versions=module.versions(),
                device=module.device(),
                profile=_profile(graph),
                parity={},
                key=key,
            )
            with module.open(partial, manifest, 0) as engine:
                figures = _parity(engine, graph)
            missed = shortfalls(figures, graph.contract, precision)
            if missed:
                raise EngineError(f"The {target} {precision} engine of {graph.name} is out of tolerance: {missed}.")
            measured = {name: figure.to_json() for name, figure in figures.items()}
            write_manifest(EngineManifest(**{**vars(manifest), "parity": measured}), partial)
        return folder

    def _is_built(self, graph: ExportedGraph, target: str, precision: str) -> bool:
        """Say whether a valid engine is there: another process may have built it meanwhile, and have it open."""
        try:
            return self.find(graph, target, precision) is not None
        except EngineError:
            return False

    def _folder(self, graph: ExportedGraph, target: str, precision: str, key: str) -> Path:
        return self.root / f"{graph.name}.{target}.{precision}.{key[:12]}"


def _require_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise EngineError(f"There is no engine precision '{precision}'; choose from {', '.join(PRECISIONS)}.")


def _profile(graph: ExportedGraph) -> Profile:
    return Profile(min_batch=1, opt_batch=1, max_batch=graph.contract.max_batch)


def _key(graph: ExportedGraph, target: str, precision: str) -> str:
    module = load_target(target)
    parts = {
        "graph": graph.sha256,
        "contract": graph.contract.to_json(),
        "target": target,
        "precision": precision,
        "profile": asdict(_profile(graph)),
        "versions": module.versions(),
        "device": module.device() if module.DEVICE_BOUND else {},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _parity(engine: Engine, graph: ExportedGraph) -> dict[str, Parity]:
    """Measure the engine against onnxruntime on the graph's own file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph.path), providers=["CPUExecutionProvider"])
    names = [spec.name for spec in graph.contract.outputs]
    feeds = parity_feeds(graph.contract)
    references = [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]
    return measure(references, engine.run, feeds, graph.contract)
