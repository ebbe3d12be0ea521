"""Targets `onnxruntime-cuda` and `onnxruntime-tensorrt`: the graph as it is, on onnxruntime's providers for a GPU.

No GPU has run them here: what is tested is that a provider that is missing, or leaves nodes to the CPU, is an error,
never the CPU in silence.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.cuda import gpu
from engines.engine import Engine
from engines.host import no_options
from engines.manifest import EngineManifest
from engines.onnxruntime import OnnxruntimeEngine
from engines.settings import BuildSettings
from outfitgan.errors import UnsupportedError

if TYPE_CHECKING:
    from export.exported import ExportedGraph

_MODEL = "model.onnx"


@dataclass(frozen=True)
class OnnxruntimeGpu:
    """One provider as a target."""

    name: str
    provider: str
    settings: Mapping[str, Mapping[str, str]]  # of the provider, by precision
    GRAPHS: Mapping[str, str] = field(default_factory=lambda: {"fp32": "fp32", "fp16": "fp16"})

    def versions(self) -> dict[str, str]:
        """Return the version of what builds and runs the engine."""
        import onnxruntime

        return {"onnxruntime": onnxruntime.__version__}

    def device(self) -> dict[str, str]:
        """Return the first GPU's name and compute capability, and its driver's CUDA version."""
        return gpu()

    def options(self, choices: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a build: there are none."""
        return no_options(choices, self.name)

    def bound_by(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what of the device an engine is bound to: nothing, for it is the graph itself."""
        return ()

    def build(self, graph: ExportedGraph, folder: Path, precision: str, settings: BuildSettings) -> dict[str, Any]:
        """Put the engine's files into `folder`; raise UnsupportedError if the provider cannot run it."""
        self._require_provider()
        if self.GRAPHS.get(precision) != graph.precision:
            raise UnsupportedError(
                f"{self.name} runs {graph.name} in the precision of its graph, {graph.precision}, not in {precision}; "
                "use that."
            )
        shutil.copyfile(graph.path, folder / _MODEL)
        return {}

    def open(self, folder: Path, manifest: EngineManifest, threads: int) -> Engine:
        """Load the engine; raise EngineError if it would run elsewhere than on the provider."""
        self._require_provider()
        return OnnxruntimeEngine(folder / _MODEL, manifest, threads, self.provider, self.settings[manifest.precision])

    def _require_provider(self) -> None:
        import onnxruntime

        if self.provider not in onnxruntime.get_available_providers():
            raise UnsupportedError(
                f"This onnxruntime has no {self.provider}; pip install onnxruntime-gpu in the place of onnxruntime."
            )


CUDA = OnnxruntimeGpu("onnxruntime-cuda", "CUDAExecutionProvider", {key: {"use_tf32": "0"} for key in ("fp32", "fp16")})
"""FP32 is FP32 there as well."""

TENSORRT = OnnxruntimeGpu(
    "onnxruntime-tensorrt", "TensorrtExecutionProvider", {"fp32": {}, "fp16": {"trt_fp16_enable": "1"}}
)
"""It loads TensorRT 10's library (libnvinfer.so.10), not 11's, and inlines the correlation: it knows no AOT plugin.

Its networks are weakly typed: without the setting, TensorRT 10 does not take FP16 tensors."""
