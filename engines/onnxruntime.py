"""Target `onnxruntime`: the graph as it is, on onnxruntime's CPU provider."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from engines.engine import Arrays, Engine
from engines.host import cpu_name, require_fp32_graph
from engines.manifest import EngineManifest
from outfitgan.errors import EngineError

if TYPE_CHECKING:
    from export.exported import ExportedGraph

DEVICE_BOUND = False
"""The folder holds the graph itself, which any CPU runs."""

_MODEL = "model.onnx"
_PROVIDER = "CPUExecutionProvider"


def versions() -> dict[str, str]:
    """Return the version of what builds and runs the engine."""
    import onnxruntime

    return {"onnxruntime": onnxruntime.__version__}


def device() -> dict[str, str]:
    """Return the processor's name."""
    return {"name": cpu_name()}


def build(graph: ExportedGraph, folder: Path, precision: str) -> None:
    """Put the engine's files into `folder`; raise EngineError for anything but fp32."""
    require_fp32_graph(graph, "onnxruntime", precision)
    if precision != "fp32":
        raise EngineError(f"onnxruntime's CPU provider computes in fp32 only, not {precision}; use fp32.")
    shutil.copyfile(graph.path, folder / _MODEL)


def open(folder: Path, manifest: EngineManifest, threads: int) -> Engine:
    """Load the engine with `threads` threads (0: one a core)."""
    return OnnxruntimeEngine(folder / _MODEL, manifest, threads)


class OnnxruntimeEngine(Engine):
    """An onnxruntime session whose provider is checked, not hoped for."""

    def __init__(self, model: Path, manifest: EngineManifest, threads: int) -> None:
        import onnxruntime

        super().__init__(manifest)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model), options, providers=[_PROVIDER])
        if self._session.get_providers() != [_PROVIDER]:
            found = ", ".join(self._session.get_providers())
            raise EngineError(f"onnxruntime runs {manifest.contract.name} on {found}, not on {_PROVIDER}.")
        self._outputs = [spec.name for spec in manifest.contract.outputs]

    def _infer(self, feeds: Arrays) -> Arrays:
        return dict(zip(self._outputs, self._session.run(self._outputs, feeds), strict=True))

    def _release(self) -> None:
        del self._session
