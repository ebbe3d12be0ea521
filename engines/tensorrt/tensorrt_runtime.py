"""Runtime `tensorrt`: a plan for one NVIDIA GPU, in the graph's own types, with the correlation as a fused kernel.

Below 10.15 there is no such plugin: plans are then built from portable graphs, whose correlation is written out.

The builder is not among PyPI's wheels: what is here is held against TensorRT's official bindings and has built nothing
yet. `tests/gpu` is what a machine that has it runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from engines.engine import Engine
from engines.manifest import EngineManifest
from engines.plan.cuda import gpu
from engines.runtime import RefittingRuntime
from engines.settings import BuildSettings
from outfitgan.errors import EngineError, UnsupportedError

if TYPE_CHECKING:
    from export.exported import ExportedGraph

_MODEL = "model.plan"
_OLDEST, _OLDEST_WITH_PLUGIN, _TOO_NEW = (10, 3), (10, 15), (12,)
_KERNEL_SOURCES = (
    "engines.tensorrt.plugin",
    "engines.tensorrt.tactics",
    "outfitgan.ops.correlate.compiled_kernel",
    "outfitgan.ops.correlate.ahead_of_time",
    "outfitgan.ops.correlate.kernel",
    "outfitgan.ops.correlate.tiles",
)
"""The plugin's module and all that it imports of ours, but for errors: what the code in a plan follows from."""


class TensorrtRuntime(RefittingRuntime):
    """TensorRT on the first NVIDIA GPU."""

    name = "tensorrt"
    extra = "gpu"
    graph_precisions: ClassVar = {"fp32": "fp32", "fp16": "fp16", "int8": "int8-fp16"}
    """Precision is a property of the graph: TensorRT 11 has no other."""

    def versions(self) -> dict[str, str]:
        """Return TensorRT's version, the kernel compiler's, and a digest of the sources of the correlation's plugin.

        All three are part of a plan with the plugin. A machine without the compiler opens plans by their folders; those
        of a run it does not find, for it could not have built them.

        Raises:
            UnsupportedError: on a TensorRT that this runtime does not know.

        """
        version = _installed()
        return {"tensorrt": version} | ({"correlate": _kernel_digest(), **_compiler()} if _has_plugin(version) else {})

    def form(self) -> str:
        """Return `standard` where the plugin can be, `portable` where TensorRT is too old for it."""
        return "standard" if _has_plugin(_installed()) else "portable"

    def device(self) -> dict[str, str]:
        """Return the first GPU's name and compute capability, and its driver's CUDA version."""
        return gpu()

    def options(self, choices: Mapping[str, Any]) -> dict[str, Any]:
        """Return every option of a build, `choices` in the place of defaults; raise ConfigError on an unknown one."""
        from engines.tensorrt.options import tensorrt_options

        return asdict(tensorrt_options(choices))

    def required_device_fields(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return which fields of `device` must be those of the build for a plan to run."""
        hardware = options.get("hardware", "this_gpu")
        return {"ampere_plus": (), "same_compute_capability": ("compute_capability",)}.get(
            hardware, ("name", "compute_capability")
        )

    def build(self, graph: ExportedGraph, folder: Path, precision: str, settings: BuildSettings) -> dict[str, Any]:
        """Put the plan into `folder` and return the manifest's details of it; raise EngineError if it is not built."""
        if self.graph_precisions.get(precision) != graph.precision:
            raise UnsupportedError(
                f"tensorrt builds {graph.name} in its graph's precision, {graph.precision}, not in {precision}; "
                "use that."
            )
        if graph.form != self.form():
            raise UnsupportedError(
                f"tensorrt {_installed()} builds from {self.form()} graphs, and {graph.path} is {graph.form}; export "
                f"the run with '--form {self.form()}'."
            )
        for package in ("onnx", *(("triton",) if graph.form == "standard" else ())):
            if find_spec(package) is None:
                raise EngineError(f"Building for tensorrt needs the package {package}; pip install 'outfitgan[gpu]'.")
        from engines.tensorrt.build import build_plan

        plan, details = build_plan(graph, settings, self.device())
        (folder / _MODEL).write_bytes(plan)
        return details

    def refit(self, built: Path, manifest: EngineManifest, graph: ExportedGraph, folder: Path) -> None:
        """Put into `folder` the plan of the engine in `built` with the weights of `graph`.

        Raises:
            EngineError: if the engine was not built for it, or the weights do not fit.

        """
        from engines.tensorrt.refit import refit_plan

        plan = refit_plan((built / _MODEL).read_bytes(), graph, bool(manifest.options.get("version_compatible")))
        (folder / _MODEL).write_bytes(plan)

    def open(self, folder: Path, manifest: EngineManifest, threads: int) -> Engine:
        """Load the plan on the first GPU; `threads` has no meaning there.

        Raises:
            EngineError: if the plan is of another TensorRT, or needs a newer GPU or driver.

        """
        here = self.device()
        _require_version(folder, manifest, self.versions()["tensorrt"])
        _require_device(folder, manifest, here)
        from engines.plan.api import api
        from engines.plan.runner import TensorrtEngine

        return TensorrtEngine(api("tensorrt"), folder / _MODEL, manifest)


def runs_on(manifest: EngineManifest, version: str) -> bool:
    """Return whether a plan runs on a TensorRT: its own version, or a later one if it was built for those."""
    built = manifest.versions.get("tensorrt", "unknown")
    later = bool(manifest.options.get("version_compatible")) and _numbers(built) <= _numbers(version)
    return built == version or later


def _installed() -> str:
    """Return the version of the installed TensorRT; raise UnsupportedError if this runtime does not know it."""
    import tensorrt

    version = str(tensorrt.__version__)
    if not _OLDEST <= _numbers(version)[:2] < _TOO_NEW:
        raise UnsupportedError(f"tensorrt takes TensorRT 10.3 to 11.x, not {version}; install another.")
    return version


def _has_plugin(version: str) -> bool:
    """Return whether a TensorRT takes the plugin."""
    return _numbers(version)[:2] >= _OLDEST_WITH_PLUGIN


def _kernel_digest() -> str:
    """Return a digest of the files that the plugin and its kernel come from, without importing them."""
    specs = [find_spec(name) for name in _KERNEL_SOURCES]
    files = [Path(spec.origin) for spec in specs if spec is not None and spec.origin is not None]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _compiler() -> dict[str, str]:
    """Return the version of the kernel language's compiler; a machine that only runs plans has none."""
    try:
        return {"triton": package_version("triton")}
    except PackageNotFoundError:
        return {}


def _require_version(folder: Path, manifest: EngineManifest, here: str) -> None:
    if not runs_on(manifest, here):
        built = manifest.versions.get("tensorrt", "an unknown version")
        raise EngineError(f"The engine {folder} is of TensorRT {built}, and {here} is installed; build it here.")


def _require_device(folder: Path, manifest: EngineManifest, here: Mapping[str, str]) -> None:
    if manifest.options.get("hardware") == "ampere_plus" and _numbers(here["compute_capability"]) < (8,):
        raise EngineError(f"The engine {folder} is for Ampere and newer, not for {here['name']}; take another GPU.")
    needed = max((kernel["driver"] for kernel in manifest.details.get("kernels", ())), key=_numbers, default="0")
    if _numbers(here["driver"]) < _numbers(needed):
        raise EngineError(
            f"The engine {folder} has kernels for drivers of CUDA {needed} or newer, and this one is of "
            f"{here['driver']}; update the NVIDIA driver."
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
