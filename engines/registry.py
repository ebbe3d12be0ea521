"""Which runtimes there are, which graph each builds from, and how one of its engines is opened."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from engines.engine import Engine
from engines.manifest import EngineManifest, read_manifest
from engines.runtime import Runtime
from export.exported import exported_precision
from outfitgan.contracts import GraphContract
from outfitgan.errors import EngineError

RUNTIMES: dict[str, str] = {
    "onnxruntime": "engines.onnxruntime.cpu:OnnxruntimeCpu",
    "openvino": "engines.openvino.cpu:OpenvinoCpu",
    "tensorrt": "engines.tensorrt.tensorrt_runtime:TensorrtRuntime",
    "tensorrt-rtx": "engines.tensorrt_rtx.rtx_runtime:TensorrtRtx",
    "onnxruntime-cuda": "engines.onnxruntime.gpu:OnnxruntimeCuda",
    "onnxruntime-tensorrt": "engines.onnxruntime.gpu:OnnxruntimeTensorrt",
}
"""Runtime -> the module and the class that build and open its engines; imported when it is first used."""

PRECISIONS = ("fp32", "bf16", "fp16", "int8")


def load_runtime(name: str) -> Runtime:
    """Return a runtime; raise EngineError if there is none of this name or its packages are missing."""
    runtime = _runtime(name)
    try:
        runtime.versions()
    except ModuleNotFoundError as error:
        raise EngineError(
            f"The runtime {name} needs the package {error.name}, which is not installed; "
            f"pip install 'outfitgan[{runtime.extra}]'."
        ) from error
    except ImportError as error:  # the package is there, and a library that it needs is not
        raise EngineError(f"The runtime {name} does not load ({error}); put it on the library path.") from error
    return runtime


def largest_batch(runtime: str, contract: GraphContract) -> int:
    """Return the largest batch that a runtime's engine of a graph takes; its packages may be missing."""
    return _runtime(runtime).largest_batch(contract)


def _runtime(name: str) -> Runtime:
    if name not in RUNTIMES:
        raise EngineError(f"There is no runtime '{name}'; choose from {', '.join(RUNTIMES)}.")
    module, _, class_name = RUNTIMES[name].partition(":")
    runtime: Runtime = getattr(import_module(module), class_name)()
    return runtime


def graph_precision(runtime: str, precision: str) -> str:
    """Return the precision of the graph that `runtime` builds `precision` from; fp32 where it will refuse anyway."""
    return load_runtime(runtime).graph_precisions.get(precision, "fp32")


def engine_precision(name: str, runtime: str, precision: str) -> str:
    """Return the precision of the engine of the graph called `name` in a run that is built at `precision`.

    An int8 export leaves some graphs in floating point: their engines are those of that precision.
    """
    wanted = graph_precision(runtime, precision)
    exported = exported_precision(name, wanted)
    return precision if exported == wanted else exported


def open_engine(folder: Path, threads: int = 0) -> Engine:
    """Check an engine's folder and load it with `threads` threads (0: all cores).

    Raises:
        EngineError: if the folder is missing, altered, not verified or cannot run here.

    """
    if threads < 0:
        raise EngineError(f"An engine cannot have {threads} threads; give 0 for all cores, or more.")
    manifest = read_manifest(folder)
    require_verified(folder, manifest)
    runtime = load_runtime(manifest.runtime)
    if fields := runtime.required_device_fields(manifest.options):
        built, here = manifest.device, runtime.device()
        if device_fields(built, fields) != device_fields(here, fields):
            raise EngineError(
                f"The engine {folder} was built on {_shown(built, fields)} and runs only there, not on "
                f"{_shown(here, fields)}; build it here."
            )
    return runtime.open(folder, manifest, threads)


def require_verified(folder: Path, manifest: EngineManifest) -> None:
    """Raise EngineError if an engine was built where it cannot run, and was not found right where it can."""
    if not manifest.verified:
        raise EngineError(
            f"The engine {folder} is not verified: it was built where it cannot run, or failed there; "
            f"'outfitgan verify {folder}' on a machine with the GPU that is to run it measures its accuracy."
        )


def device_fields(device: Mapping[str, str], fields: tuple[str, ...]) -> dict[str, str]:
    """Return some `fields` of a device."""
    return {field: device.get(field, "unknown") for field in fields}


def _shown(device: Mapping[str, str], fields: tuple[str, ...]) -> str:
    name, *rest = device_fields(device, ("name", *(field for field in fields if field != "name"))).items()
    return f"{name[1]} ({', '.join(f'{field} {value}' for field, value in rest)})" if rest else name[1]
