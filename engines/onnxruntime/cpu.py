"""Runtime `onnxruntime`: ONNX Runtime's CPU provider, on the graph as it is, or with its own INT8 convolutions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from engines.engine import Engine
from engines.host import cpu_name, require_graph
from engines.manifest import EngineManifest
from engines.onnxruntime.onnxruntime_engine import MODEL, OnnxruntimeEngine, OnnxruntimeRuntime
from engines.settings import BuildSettings
from outfitgan.errors import EngineError

if TYPE_CHECKING:
    from export.exported import ExportedGraph

_PROVIDER = "CPUExecutionProvider"


class OnnxruntimeCpu(OnnxruntimeRuntime):
    """ONNX Runtime's CPU provider."""

    name = "onnxruntime"
    extra = "cpu"
    graph_precisions: ClassVar = {"fp32": "fp32", "int8": "int8"}

    def device(self) -> dict[str, str]:
        """Return the processor's name."""
        return {"name": cpu_name()}

    def build(self, graph: ExportedGraph, folder: Path, precision: str, settings: BuildSettings) -> dict[str, Any]:
        """Put the engine's files into `folder`; raise EngineError for anything but fp32 and int8."""
        require_graph(graph, self.name, precision, self.graph_precisions.get(precision, "fp32"))
        if precision not in self.graph_precisions:
            raise EngineError(f"onnxruntime's CPU provider computes in fp32 and int8, not {precision}; use fp32.")
        import onnx

        from export.gathered import leave_out_ground

        model = onnx.load(graph.path)
        if precision == "fp32":
            onnx.save(leave_out_ground(model), folder / MODEL)
            return {}
        from engines.onnxruntime.int8 import check_int8, with_integer_convolutions

        onnx.save(leave_out_ground(with_integer_convolutions(model)), folder / MODEL)
        check_int8(folder / MODEL, graph.name)
        return {}

    def open(self, folder: Path, manifest: EngineManifest, threads: int) -> Engine:
        """Load the engine with `threads` threads (0: one a core)."""
        return OnnxruntimeEngine(folder / MODEL, manifest, threads, _PROVIDER, {})
