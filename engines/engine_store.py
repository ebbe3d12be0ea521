"""Engines by content: the same graph, runtime and precision never build twice, a changed input always does."""

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
from engines.registry import PRECISIONS, device_fields, engine_precision, load_runtime
from engines.runtime import RefittingRuntime
from engines.settings import BuildSettings
from engines.verification import UNKNOWN_DEVICE, save_references
from export.onnx_runner import onnx_runner
from export.parity import Parity, measure, parity_feeds, shortfalls
from outfitgan.errors import ConfigError, EngineError, UnsupportedError
from outfitgan.files import atomic_write, partial_folder, sha256_of
from outfitgan.progress import Progress, no_progress

if TYPE_CHECKING:
    from export.exported import ExportedGraph

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _BuildRequest:
    """A requested engine, built already or not."""

    graph: ExportedGraph
    runtime: str
    precision: str
    profile: Profile
    options: dict[str, Any]
    key: str
    folder: Path


class EngineStore:
    """A folder of engines, each in `<graph>.<runtime>.<precision>.<key>/`, and of options, in `<runtime>.toml`."""

    def __init__(
        self,
        root: Path,  # made with the first engine
    ) -> None:
        self.root = root

    def options(self, runtime: str) -> dict[str, Any]:
        """Return a runtime's options in this store; raise ConfigError if its file is not readable."""
        path = self._options_file(runtime)
        try:
            choices = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            choices = {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not TOML ({error}); correct it, or remove it for the defaults.") from error
        return load_runtime(runtime).options(choices)

    def choose(self, runtime: str, choices: Mapping[str, Any]) -> None:
        """Change a runtime's options for all later builds and finds; raise ConfigError if there is no such option."""
        options = load_runtime(runtime).options(self.options(runtime) | dict(choices))
        atomic_write(self._options_file(runtime), tomli_w.dumps(options).encode())

    def find(self, graph: ExportedGraph, runtime: str, precision: str, profile: Profile | None = None) -> Path | None:
        """Return the engine's folder, or None if it was never built; raise EngineError if it was altered."""
        return _find_built(self._request(graph, runtime, precision, profile))

    def build(
        self,
        graph: ExportedGraph,
        runtime: str,
        precision: str,
        profile: Profile | None = None,  # batches; from 1 to the runtime's largest by default, tuned for 1
        progress: Progress = no_progress,
    ) -> Path:
        """Return the engine's folder, building it if it is not there or was altered.

        Raises:
            EngineError: if it cannot be built here, or its parity with the graph is out of tolerance.

        """
        request = self._request(graph, runtime, precision, profile)
        try:
            found = _find_built(request)
        except EngineError as error:
            _log.warning("%s", error)
            found = None
        if found:
            return found
        settings = BuildSettings(request.profile, request.options, self.root, progress)
        return _build_folder(request, lambda folder: load_runtime(runtime).build(graph, folder, precision, settings))

    def build_all(
        self,
        graphs: Mapping[str, ExportedGraph],
        runtime: str,
        precision: str,
        progress: Progress = no_progress,  # called when a graph is done, with its number, and during a long build
    ) -> dict[str, Path]:
        """Return the engine folder of each graph, building what is not there; raises what `build` raises."""
        folders: dict[str, Path] = {}
        for name, graph in graphs.items():
            precision_here = engine_precision(name, runtime, precision)
            folders[name] = self.build(graph, runtime, precision_here, progress=_named(name, progress))
            progress(name, len(folders), len(graphs))
        return folders

    def refit(self, built: Path, graph: ExportedGraph) -> Path:
        """Return the engine of `graph`, made of the one in `built` by putting other weights into it.

        Args:
            built: an engine of the same architecture, built with the option `refittable`.
            graph: its weights go in; its engine is then found as if it had been built.

        Raises:
            EngineError: if the runtime cannot do it, the weights do not fit, or the parity is out of tolerance.

        """
        manifest = read_manifest(built)
        request = self._request(graph, manifest.runtime, manifest.precision, manifest.profile)
        if manifest.contract != graph.contract or manifest.options != request.options:
            raise EngineError(f"{built} is no engine of {graph.name} with this store's options; build it.")
        runtime = load_runtime(request.runtime)
        if not isinstance(runtime, RefittingRuntime):
            raise UnsupportedError(f"The runtime {request.runtime} puts no other weights into an engine; build it.")

        def put_weights(folder: Path) -> dict[str, Any]:
            runtime.refit(built, manifest, graph, folder)
            return {**manifest.details, "refitted": manifest.key}

        return _find_built(request) or _build_folder(request, put_weights)

    def _request(self, graph: ExportedGraph, runtime: str, precision: str, profile: Profile | None) -> _BuildRequest:
        if precision not in PRECISIONS:
            raise EngineError(f"There is no engine precision '{precision}'; choose from {', '.join(PRECISIONS)}.")
        largest = load_runtime(runtime).largest_batch(graph.contract)
        profile = _checked_profile(profile or Profile(1, 1, largest), graph)
        options = self.options(runtime)
        key = _key(graph, runtime, precision, profile, options)
        folder = self.root / f"{graph.name}.{runtime}.{precision}.{key[:12]}"
        return _BuildRequest(graph, runtime, precision, profile, options, key, folder)

    def _options_file(self, runtime: str) -> Path:
        return self.root / f"{runtime}.toml"


def _find_built(request: _BuildRequest) -> Path | None:
    if not request.folder.exists():
        return None
    if read_manifest(request.folder).key != request.key:  # the folder's name holds the beginning of the key only
        raise EngineError(f"{request.folder} holds another engine than its name says; build it again.")
    return request.folder


def _is_built(request: _BuildRequest) -> bool:
    """Return whether a valid engine is there: another process may have built it meanwhile, and have it open."""
    try:
        return _find_built(request) is not None
    except EngineError:
        return False


def _build_folder(request: _BuildRequest, build: Callable[[Path], dict[str, Any]]) -> Path:
    """Write an engine's folder by `build`, which returns the manifest's details, and measure its parity.

    What this machine cannot run is left unverified, with what its graph gives here: see `engines.verification`.
    """
    graph, runtime = request.graph, load_runtime(request.runtime)
    if sha256_of(graph.path) != graph.sha256:
        raise EngineError(f"{graph.path} changed after it was loaded (its SHA-256 differs); export it again.")
    with partial_folder(request.folder, keep=lambda: _is_built(request)) as partial:
        details = build(partial)
        runs_here = not runtime.built_for_others or not runtime.why_not_here(request.options)
        if runtime.built_for_others:
            save_references(onnx_runner(graph.path, graph.contract), graph.contract, request.precision, partial)
        manifest = EngineManifest(
            contract=graph.contract,
            graph_sha256=graph.sha256,
            runtime=request.runtime,
            precision=request.precision,
            files=hash_files(partial),
            versions=runtime.versions(),
            device=runtime.device() if runs_here else UNKNOWN_DEVICE,
            profile=request.profile,
            parity={},
            key=request.key,
            options=request.options,
            details=details,
            verified=runs_here,
        )
        if not runs_here:
            write_manifest(manifest, partial)
            return request.folder
        with runtime.open(partial, manifest, 0) as engine:
            figures = _parity(engine, graph)
        missed = shortfalls(figures, graph.contract, request.precision)
        if missed:
            what = f"The {request.runtime} {request.precision} engine of {graph.name}"
            raise EngineError(f"{what} is out of tolerance: {missed}.")
        measured = {name: figure.to_json() for name, figure in figures.items()}
        write_manifest(replace(manifest, parity=measured), partial)
    return request.folder


def _checked_profile(profile: Profile, graph: ExportedGraph) -> Profile:
    largest = graph.contract.max_batch
    if not 1 <= profile.min_batch <= profile.opt_batch <= profile.max_batch <= largest:
        raise EngineError(
            f"{graph.name} takes batches of 1 to {largest}; give a profile of rising batches within it, not {profile}."
        )
    return profile


def _key(graph: ExportedGraph, runtime_name: str, precision: str, profile: Profile, options: Mapping[str, Any]) -> str:
    runtime = load_runtime(runtime_name)
    bound = runtime.required_device_fields(options)
    parts = {
        "graph": graph.sha256,
        "contract": graph.contract.to_json(),
        "target": runtime_name,  # as in earlier versions, so that what they built is found
        "precision": precision,
        "profile": asdict(profile),
        "versions": runtime.versions(),
        "device": device_fields(runtime.device(), bound) if bound else {},
    }
    if options:
        parts["options"] = dict(options)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _named(name: str, progress: Progress) -> Progress:
    return lambda what, done, total: progress(f"{name}: {what}", done, total)


def _parity(engine: Engine, graph: ExportedGraph) -> dict[str, Parity]:
    """Measure the engine against onnxruntime on the graph's own file, at the batches that the engine takes."""
    reference, profile = onnx_runner(graph.path, graph.contract), engine.manifest.profile
    feeds = [
        feed
        for feed in parity_feeds(replace(graph.contract, max_batch=profile.max_batch))
        if profile.min_batch <= len(next(iter(feed.values()))) <= profile.max_batch
    ]
    return measure([reference(feed) for feed in feeds], engine.run, feeds, graph.contract)
