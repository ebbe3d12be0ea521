"""Engines by content: the same graph, target and precision never build twice, a changed input always does."""

from __future__ import annotations

import hashlib
import json
import logging
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from engines.engine import Engine
from engines.manifest import EngineManifest, Profile, hash_files, read_manifest, write_manifest
from engines.settings import BuildSettings, Watch, unwatched
from engines.targets import PRECISIONS, TARGETS, Refitter, engine_precision, identity, load_target, open_engine
from export.parity import Parity, measure, parity_feeds, shortfalls
from outfitgan.errors import ConfigError, EngineError, UnsupportedError
from outfitgan.files import atomic_write, partial_folder, sha256_of

if TYPE_CHECKING:
    from export.exported import ExportedGraph

__all__ = ["TARGETS", "EngineStore", "load_target", "open_engine"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Order:
    """One engine that is wanted, built or not."""

    graph: ExportedGraph
    target: str
    precision: str
    profile: Profile
    options: dict[str, Any]
    key: str
    folder: Path


class EngineStore:
    """A folder of engines, each in `<graph>.<target>.<precision>.<key>/`, and of options, in `<target>.toml`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def options(self, target: str) -> dict[str, Any]:
        """Return a target's options in this store; raise ConfigError if its file is not readable."""
        path = self._options_file(target)
        try:
            choices = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            choices = {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not TOML ({error}); correct it, or remove it for the defaults.") from error
        return load_target(target).options(choices)

    def choose(self, target: str, choices: Mapping[str, Any]) -> None:
        """Change a target's options for all later builds and finds; raise ConfigError if there is no such option."""
        options = load_target(target).options(self.options(target) | dict(choices))
        atomic_write(self._options_file(target), tomli_w.dumps(options).encode())

    def find(self, graph: ExportedGraph, target: str, precision: str, profile: Profile | None = None) -> Path | None:
        """Return the engine's folder, or None if it was never built; raise EngineError if it was altered."""
        return _found(self._order(graph, target, precision, profile))

    def build(
        self,
        graph: ExportedGraph,
        target: str,
        precision: str,
        profile: Profile | None = None,  # batches; from 1 to the contract's largest if nothing is said, tuned for 1
        watch: Watch = unwatched,
    ) -> Path:
        """Return the engine's folder, building it if it is not there or was altered.

        Raises:
            EngineError: if it cannot be built here, or its parity with the graph is out of tolerance.

        """
        order = self._order(graph, target, precision, profile)
        try:
            found = _found(order)
        except EngineError as error:
            _log.warning("%s", error)
            found = None
        if found:
            return found
        settings = BuildSettings(order.profile, order.options, self.root, watch)
        return _make(order, lambda folder: load_target(target).build(graph, folder, precision, settings))

    def build_all(
        self,
        graphs: Mapping[str, ExportedGraph],
        target: str,
        precision: str,
        progress: Watch | None = None,  # called when a graph is done, with its number, and during a long build
    ) -> dict[str, Path]:
        """Return the engine folder of each graph, building what is not there; raises what `build` raises."""
        progress = progress or unwatched
        folders: dict[str, Path] = {}
        for name, graph in graphs.items():
            watch = _named(name, progress)
            folders[name] = self.build(graph, target, engine_precision(name, target, precision), watch=watch)
            progress(name, len(folders), len(graphs))
        return folders

    def refit(self, built: Path, graph: ExportedGraph) -> Path:
        """Return the engine of `graph`, made of the one in `built` by putting other weights into it.

        Args:
            built: an engine of the same architecture, built with the option `refittable`.
            graph: its weights go in; its engine is then found as if it had been built.

        Raises:
            EngineError: if the target cannot do it, the weights do not fit, or the parity is out of tolerance.

        """
        manifest = read_manifest(built)
        order = self._order(graph, manifest.target, manifest.precision, manifest.profile)
        if manifest.contract != graph.contract or manifest.options != order.options:
            raise EngineError(f"{built} is no engine of {graph.name} with this store's options; build it.")
        target = load_target(order.target)
        if not isinstance(target, Refitter):
            raise UnsupportedError(f"The target {order.target} puts no other weights into an engine; build it.")

        def make(folder: Path) -> dict[str, Any]:
            target.refit(built, manifest, graph, folder)
            return {**manifest.details, "refitted": manifest.key}

        return _found(order) or _make(order, make)

    def _order(self, graph: ExportedGraph, target: str, precision: str, profile: Profile | None) -> _Order:
        if precision not in PRECISIONS:
            raise EngineError(f"There is no engine precision '{precision}'; choose from {', '.join(PRECISIONS)}.")
        profile = _checked_profile(profile or Profile(1, 1, graph.contract.max_batch), graph)
        options = self.options(target)
        key = _key(graph, target, precision, profile, options)
        folder = self.root / f"{graph.name}.{target}.{precision}.{key[:12]}"
        return _Order(graph, target, precision, profile, options, key, folder)

    def _options_file(self, target: str) -> Path:
        return self.root / f"{target}.toml"


def _found(order: _Order) -> Path | None:
    if not order.folder.exists():
        return None
    if read_manifest(order.folder).key != order.key:  # the folder's name holds the beginning of the key only
        raise EngineError(f"{order.folder} holds another engine than its name says; build it again.")
    return order.folder


def _is_found(order: _Order) -> bool:
    """Say whether a valid engine is there: another process may have built it meanwhile, and have it open."""
    try:
        return _found(order) is not None
    except EngineError:
        return False


def _make(order: _Order, make: Callable[[Path], dict[str, Any]]) -> Path:
    """Make an engine's folder by `make`, which returns its details, and measure it."""
    graph, target = order.graph, load_target(order.target)
    if sha256_of(graph.path) != graph.sha256:
        raise EngineError(f"{graph.path} changed after it was loaded (its SHA-256 differs); export it again.")
    with partial_folder(order.folder, keep=lambda: _is_found(order)) as partial:
        details = make(partial)
        manifest = EngineManifest(
            contract=graph.contract,
            graph_sha256=graph.sha256,
            target=order.target,
            precision=order.precision,
            files=hash_files(partial),
            versions=target.versions(),
            device=target.device(),
            profile=order.profile,
            parity={},
            key=order.key,
            options=order.options,
            details=details,
        )
        with target.open(partial, manifest, 0) as engine:
            figures = _parity(engine, graph)
        missed = shortfalls(figures, graph.contract, order.precision)
        if missed:
            what = f"The {order.target} {order.precision} engine of {graph.name}"
            raise EngineError(f"{what} is out of tolerance: {missed}.")
        measured = {name: figure.to_json() for name, figure in figures.items()}
        write_manifest(replace(manifest, parity=measured), partial)
    return order.folder


def _checked_profile(profile: Profile, graph: ExportedGraph) -> Profile:
    largest = graph.contract.max_batch
    if not 1 <= profile.min_batch <= profile.opt_batch <= profile.max_batch <= largest:
        raise EngineError(
            f"{graph.name} takes batches of 1 to {largest}; give a profile of rising batches within it, not {profile}."
        )
    return profile


def _key(graph: ExportedGraph, target_name: str, precision: str, profile: Profile, options: Mapping[str, Any]) -> str:
    target = load_target(target_name)
    bound = target.bound_by(options)
    parts = {
        "graph": graph.sha256,
        "contract": graph.contract.to_json(),
        "target": target_name,
        "precision": precision,
        "profile": asdict(profile),
        "versions": target.versions(),
        "device": identity(target.device(), bound) if bound else {},
    }
    if options:
        parts["options"] = dict(options)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _named(name: str, watch: Watch) -> Watch:
    return lambda what, done, total: watch(f"{name}: {what}", done, total)


def _parity(engine: Engine, graph: ExportedGraph) -> dict[str, Parity]:
    """Measure the engine against onnxruntime on the graph's own file, at the batches that the engine takes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph.path), providers=["CPUExecutionProvider"])
    names = [spec.name for spec in graph.contract.outputs]
    profile = engine.manifest.profile
    feeds = [
        feed
        for feed in parity_feeds(replace(graph.contract, max_batch=profile.max_batch))
        if profile.min_batch <= len(next(iter(feed.values()))) <= profile.max_batch
    ]
    references = [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]
    return measure(references, engine.run, feeds, graph.contract)
