"""Runtime `tensorrt-rtx`: one plan for every RTX GPU, built on a machine with or without one.

TensorRT for RTX is on PyPI. It has no plugins: the correlation is the attention kernel that it fuses of the body of
`Correlate`, and a build fails unless it did. Plans are built by the real builder in our tests; none has been run here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from engines.engine import Engine
from engines.manifest import EngineManifest
from engines.plan.cuda import gpu
from engines.runtime import Runtime
from engines.settings import BuildSettings
from engines.tensorrt_rtx.capabilities import CAPABILITIES
from outfitgan.contracts import GraphContract
from outfitgan.errors import EngineError, UnsupportedError
from outfitgan.model_graphs import ALIGNMENT

if TYPE_CHECKING:
    from export.exported import ExportedGraph

_MODEL = "model.plan"

_ALIGNMENT_BATCH = 2
"""A plan of a SAM keeps a part of its matrix for each image, to find the best match: 1.1 GB at batch 8 of the presets
small and paper, 0.3 GB at 2. A batch of 1 alone is not fused."""


class TensorrtRtx(Runtime):
    """TensorRT for RTX on the first NVIDIA GPU."""

    name = "tensorrt-rtx"
    extra = "rtx"
    graph_precisions: ClassVar = {"fp32": "fp32", "fp16": "fp16", "int8": "int8-fp16"}
    """Precision is a property of the graph; in FP32 no correlation is fused."""
    built_for_others = True

    def versions(self) -> dict[str, str]:
        """Return the library's exact version: plans run on no other."""
        import tensorrt_rtx

        return {"tensorrt_rtx": tensorrt_rtx.__version__}

    def device(self) -> dict[str, str]:
        """Return the first GPU's name and compute capability, and its driver's CUDA version."""
        return gpu()

    def why_not_here(self, options: Mapping[str, Any]) -> str:
        """Return why this machine does not run a plan built with `options`, empty if it does."""
        try:
            here = gpu()
        except EngineError as error:
            return str(error)
        built = options["compute_capabilities"]
        if here["compute_capability"] not in built:
            return f"{here['name']} has compute capability {here['compute_capability']}, not {' or '.join(built)}."
        return ""

    def largest_batch(self, contract: GraphContract) -> int:
        """Return the largest batch of a plan: the graph's, and few where each image takes much memory."""
        return min(_ALIGNMENT_BATCH, contract.max_batch) if contract.name.startswith(ALIGNMENT) else contract.max_batch

    def options(self, choices: Mapping[str, Any]) -> dict[str, Any]:
        """Return every option of a build, `choices` in the place of defaults; raise ConfigError on an unknown one."""
        from engines.tensorrt_rtx.rtx_options import rtx_options

        options = asdict(rtx_options(choices))
        return {**options, "compute_capabilities": list(options["compute_capabilities"])}  # as JSON and TOML have it

    def build(self, graph: ExportedGraph, folder: Path, precision: str, settings: BuildSettings) -> dict[str, Any]:
        """Put the plan into `folder` and return the manifest's details of it; raise EngineError if it is not built."""
        if self.graph_precisions.get(precision) != graph.precision:
            raise UnsupportedError(
                f"tensorrt-rtx builds {graph.name} in its graph's precision, {graph.precision}, not in {precision}; "
                f"choose from {', '.join(self.graph_precisions)}."
            )
        if find_spec("onnx") is None:
            raise EngineError("Building for tensorrt-rtx needs the package onnx; pip install 'outfitgan[rtx]'.")
        from engines.tensorrt_rtx.rtx_build import build_plan

        plan, details = build_plan(graph, settings)
        (folder / _MODEL).write_bytes(plan)
        return details

    def open(self, folder: Path, manifest: EngineManifest, threads: int) -> Engine:
        """Load the plan on the first GPU; `threads` has no meaning there.

        Raises:
            EngineError: if the plan is of another version, for other GPUs, or was verified on another kind.

        """
        here, installed = self.device(), self.versions()["tensorrt_rtx"]
        built = manifest.versions.get("tensorrt_rtx", "an unknown version")
        if built != installed:
            raise EngineError(
                f"The engine {folder} is of TensorRT for RTX {built}, and {installed} is installed; build it here."
            )
        _require_capability(folder, manifest, here)
        from engines.plan.api import api
        from engines.tensorrt_rtx.rtx_engine import RtxEngine

        return RtxEngine(api("tensorrt_rtx"), folder / _MODEL, manifest)


def _require_capability(folder: Path, manifest: EngineManifest, here: Mapping[str, str]) -> None:
    capability = here["compute_capability"]
    built = manifest.details.get("compute_capabilities", ())
    if capability not in built:
        way = f"build it for that with --set compute_capabilities={capability}"
        raise EngineError(
            f"The engine {folder} is for compute capabilities {', '.join(built)}, not for {here['name']} "
            f"({capability}); {way if capability in CAPABILITIES else 'build for tensorrt there'}."
        )
    verified = manifest.device.get("compute_capability", capability)  # absent while it is being verified
    if manifest.verified and verified != capability:
        raise EngineError(
            f"The engine {folder} was verified on {manifest.device['name']} ({verified}), not on a GPU as "
            f"{here['name']} ({capability}); run 'outfitgan verify {folder}' here."
        )
