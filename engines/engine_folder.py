"""The engines in a folder that came without its run, as an edge box or another machine's builds have them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engines.manifest import MANIFEST, EngineManifest, parse_manifest
from engines.registry import engine_precision
from outfitgan.errors import EngineError


def find_engines(root: Path, runtime: str | None = None, precision: str | None = None) -> dict[str, Path]:
    """Return the engine folder of each graph below `root`; their files are checked when they are opened.

    Args:
        root: a run's engines folder, or a copy of it.
        runtime: what runs them; it may be left out where all are for one.
        precision: what they were built with; it may be left out where each graph was built once.

    Raises:
        EngineError: if there is none, or more than one for a graph.

    """
    manifests = _manifests(root)
    runtime = runtime or _only_runtime(root, manifests)
    chosen = {folder: manifest for folder, manifest in manifests.items() if manifest.runtime == runtime}
    if not any(precision in (None, manifest.precision) for manifest in chosen.values()):
        wanted = f"{runtime} {precision}" if precision else runtime
        raise EngineError(f"{root} holds no {wanted} engine: it has {_listing(manifests)}; take one, or build more.")
    found: dict[str, Path] = {}
    for folder, manifest in chosen.items():
        if precision and manifest.precision != engine_precision(manifest.contract.name, runtime, precision):
            continue
        other = found.setdefault(manifest.contract.name, folder)
        if other != folder:
            raise EngineError(
                f"{root} holds {other.name} and {folder.name} for one graph: say which with --precision, or keep one "
                "export's engines alone there."
            )
    return found


def engine_folders(path: Path) -> list[Path]:
    """Return `path` if it is an engine's folder, or the engine folders below it; raise EngineError if there is none."""
    return [path] if (path / MANIFEST).is_file() else list(_manifests(path))


def _manifests(root: Path) -> dict[Path, EngineManifest]:
    """Return the manifest of every engine folder below `root`; a build that is under way has a hidden name."""
    if not root.is_dir():
        raise EngineError(f"There is no folder {root}: name the engines folder of a run, or a copy of it.")
    folders = [path.parent for path in sorted(root.glob(f"*/{MANIFEST}")) if not path.parent.name.startswith(".")]
    if not folders:
        inside = root / "engines"
        hint = f"name {inside}" if inside.is_dir() else "build them with 'outfitgan build', or copy them there"
        raise EngineError(f"{root} holds no engine; {hint}.")
    return {folder: parse_manifest(folder) for folder in folders}


def _only_runtime(root: Path, manifests: Mapping[Path, EngineManifest]) -> str:
    runtimes = {manifest.runtime for manifest in manifests.values()}
    if len(runtimes) > 1:
        raise EngineError(
            f"{root} holds engines of several kinds ({_listing(manifests)}): say which with --runtime and --precision."
        )
    return runtimes.pop()


def _listing(manifests: Mapping[Path, EngineManifest]) -> str:
    return ", ".join(sorted({f"{manifest.runtime} {manifest.precision}" for manifest in manifests.values()}))
