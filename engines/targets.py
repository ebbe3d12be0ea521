"""Which targets there are, what each offers, and how one of its engines is opened."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from engines.engine import Engine
from engines.manifest import EngineManifest, read_manifest
from engines.settings import BuildSettings
from export.exported import kept_precision
from outfitgan.errors import EngineError

if TYPE_CHECKING:
    from export.exported import ExportedGraph

TARGETS: dict[str, str] = {
    "onnxruntime": "engines.onnxruntime",
    "openvino": "engines.openvino",
    "tensorrt": "engines.tensorrt",
    "onnxruntime-cuda": "engines.onnxruntime_gpu:CUDA",
    "onnxruntime-tensorrt": "engines.onnxruntime_gpu:TENSORRT",
}
"""Target -> the module, or the object in one, that builds and opens it; imported when it is asked for."""

_CPU_TARGETS = ("onnxruntime", "openvino")

PRECISIONS = ("fp32", "bf16", "fp16", "int8")


class Target(Protocol):
    """What a target offers."""

    @property
    def GRAPHS(self) -> Mapping[str, str]:  # noqa: N802 - a constant of a module
        """Give the precision of the graph that an engine of each precision is built from."""

    def versions(self) -> dict[str, str]:
        """Return the versions of what builds and runs the engine."""

    def device(self) -> dict[str, str]:
        """Return the device's name and what else identifies it."""

    def options(self, choices: Mapping[str, Any]) -> dict[str, Any]:
        """Return every option of a build, `choices` in the place of defaults; raise ConfigError on an unknown one."""

    def bound_by(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return which fields of `device` must be those of the build for an engine so built to run."""

    def build(self, graph: ExportedGraph, folder: Path, precision: str, settings: BuildSettings) -> dict[str, Any]:
        """Put the engine's files into `folder` and return what the manifest should say of them besides.

        Raises EngineError if that cannot be done here.
        """

    def open(self, folder: Path, manifest: EngineManifest, threads: int) -> Engine:
        """Load the engine."""


@runtime_checkable
class Refitter(Protocol):
    """What a target offers that puts other weights into an engine."""

    def refit(self, built: Path, manifest: EngineManifest, graph: ExportedGraph, folder: Path) -> None:
        """Put into `folder` the engine in `built` with the weights of `graph`; raise EngineError if they do not fit."""


def load_target(name: str) -> Target:
    """Return a target; raise EngineError if there is none of this name or its packages are missing."""
    if name not in TARGETS:
        raise EngineError(f"There is no engine target '{name}'; choose from {', '.join(TARGETS)}.")
    extra = "cpu" if name in _CPU_TARGETS else "gpu"
    module, _, attribute = TARGETS[name].partition(":")
    target = import_module(module)
    found = cast(Target, getattr(target, attribute) if attribute else target)
    try:
        found.versions()
    except ModuleNotFoundError as error:
        raise EngineError(
            f"The target {name} needs the package {error.name}, which is not installed; "
            f"pip install 'outfitgan[{extra}]'."
        ) from error
    except ImportError as error:  # the package is there, and a library that it needs is not
        raise EngineError(f"The target {name} does not load ({error}); put it on the library path.") from error
    return found


def graph_precision(target: str, precision: str) -> str:
    """Return the precision of the graph that `target` builds `precision` from; fp32 where it will refuse anyway."""
    return load_target(target).GRAPHS.get(precision, "fp32")


def engine_precision(name: str, target: str, precision: str) -> str:
    """Return the precision of the engine of the graph called `name` in a run that is built at `precision`.

    An int8 export leaves some graphs in floating point: their engines are those of that precision.
    """
    wanted = graph_precision(target, precision)
    kept = kept_precision(name, wanted)
    return precision if kept == wanted else kept


def open_engine(folder: Path, threads: int = 0) -> Engine:
    """Check an engine's folder and load it with `threads` threads (0: all cores).

    Raises:
        EngineError: if the folder is missing, altered or cannot run here.

    """
    if threads < 0:
        raise EngineError(f"An engine cannot have {threads} threads; give 0 for all cores, or more.")
    manifest = read_manifest(folder)
    target = load_target(manifest.target)
    if bound := target.bound_by(manifest.options):
        built, here = manifest.device, target.device()
        if identity(built, bound) != identity(here, bound):
            raise EngineError(
                f"The engine {folder} was built on {_shown(built, bound)} and runs only there, not on "
                f"{_shown(here, bound)}; build it here."
            )
    return target.open(folder, manifest, threads)


def identity(device: Mapping[str, str], fields: tuple[str, ...]) -> dict[str, str]:
    """Return those `fields` of a device that an engine is bound to."""
    return {field: device.get(field, "unknown") for field in fields}


def _shown(device: Mapping[str, str], fields: tuple[str, ...]) -> str:
    name, *rest = identity(device, ("name", *(field for field in fields if field != "name"))).items()
    return f"{name[1]} ({', '.join(f'{field} {value}' for field, value in rest)})" if rest else name[1]
