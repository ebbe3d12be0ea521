"""Runtimes `onnxruntime-cuda` and `onnxruntime-tensorrt`: the graph as it is, on ONNX Runtime's providers for a GPU.

No GPU has run them here: what is tested is that a provider that is missing, or leaves nodes to the CPU, is an error,
never the CPU in silence.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from engines.engine import Engine
from engines.manifest import EngineManifest
from engines.onnxruntime.onnxruntime_engine import MODEL, OnnxruntimeEngine, OnnxruntimeRuntime
from engines.plan.cuda import gpu
from engines.settings import BuildSettings
from outfitgan.errors import UnsupportedError

if TYPE_CHECKING:
    from export.exported import ExportedGraph


class _OnnxruntimeGpu(OnnxruntimeRuntime):
    """One provider as a runtime."""

    extra = "gpu"
    graph_precisions: ClassVar = {"fp32": "fp32", "fp16": "fp16"}
    provider: ClassVar[str]
    settings: ClassVar[Mapping[str, Mapping[str, str]]]  # of the provider, by precision

    def device(self) -> dict[str, str]:
        """Return the first GPU's name and compute capability, and its driver's CUDA version."""
        return gpu()

    def build(self, graph: ExportedGraph, folder: Path, precision: str, settings: BuildSettings) -> dict[str, Any]:
        """Put the engine's files into `folder`; raise UnsupportedError if the provider cannot run it."""
        self._require_provider()
        if self.graph_precisions.get(precision) != graph.precision:
            raise UnsupportedError(
                f"{self.name} runs {graph.name} in the precision of its graph, {graph.precision}, not in {precision}; "
                "use that."
            )
        shutil.copyfile(graph.path, folder / MODEL)
        return {}

    def open(self, folder: Path, manifest: EngineManifest, threads: int) -> Engine:
        """Load the engine; raise EngineError if it would run elsewhere than on the provider."""
        self._require_provider()
        return OnnxruntimeEngine(folder / MODEL, manifest, threads, self.provider, self.settings[manifest.precision])

    def _require_provider(self) -> None:
        import onnxruntime

        if self.provider not in onnxruntime.get_available_providers():
            raise UnsupportedError(
                f"This onnxruntime has no {self.provider}; pip install onnxruntime-gpu in the place of onnxruntime."
            )


class OnnxruntimeCuda(_OnnxruntimeGpu):
    """ONNX Runtime's CUDA provider; FP32 is FP32 there as well."""

    name = "onnxruntime-cuda"
    provider = "CUDAExecutionProvider"
    settings: ClassVar = {key: {"use_tf32": "0"} for key in ("fp32", "fp16")}


class OnnxruntimeTensorrt(_OnnxruntimeGpu):
    """ONNX Runtime's TensorRT provider.

    It loads TensorRT 10's library (libnvinfer.so.10), not 11's, and has no plugin of ours: ONNX Runtime inlines the
    correlation's function, whose `Attention` TensorRT imports since 10.14. Whether that becomes one fused kernel, or is
    taken at all, nobody has seen; nodes that are left to the CPU are an error.
    Its networks are weakly typed: without the setting, TensorRT 10 does not take FP16 tensors.
    """

    name = "onnxruntime-tensorrt"
    provider = "TensorrtExecutionProvider"
    settings: ClassVar = {"fp32": {}, "fp16": {"trt_fp16_enable": "1"}}
