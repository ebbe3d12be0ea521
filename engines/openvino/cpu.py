"""Runtime `openvino`: OpenVINO's CPU plugin in an explicit precision: FP32, BF16, or INT8 convolutions in FP32."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from engines.engine import Engine
from engines.host import cpu_name, require_graph
from engines.manifest import EngineManifest
from engines.openvino.int8 import check_int8, seven_bits, unsigned
from engines.runtime import Runtime
from engines.settings import BuildSettings
from outfitgan.contracts import Arrays
from outfitgan.errors import EngineError, UnsupportedError

if TYPE_CHECKING:
    from export.exported import ExportedGraph

_MODEL = "model.xml"
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""Precision -> what OpenVINO computes in where the graph is not rounded."""


@cache
def core() -> Any:
    """Return OpenVINO's one Core of this process, which is never freed.

    Each Core's CPU plugin lends the thread that makes it a stack for signals, and puts back what it found there when it
    is freed: of two Cores freed in the order they were made, the second puts back the first's freed memory, and the
    next Ctrl-C ends Python with a segmentation fault (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


class OpenvinoCpu(Runtime):
    """OpenVINO's CPU plugin."""

    name = "openvino"
    extra = "cpu"
    graph_precisions: ClassVar = {"fp32": "fp32", "bf16": "fp32", "int8": "int8"}

    def versions(self) -> dict[str, str]:
        """Return the version of what builds and runs the engine."""
        import openvino

        return {"openvino": openvino.__version__}

    def device(self) -> dict[str, str]:
        """Return the processor's name."""
        return {"name": cpu_name()}

    def build(self, graph: ExportedGraph, folder: Path, precision: str, settings: BuildSettings) -> dict[str, Any]:
        """Put the engine's files into `folder`; raise EngineError where the CPU lacks the precision."""
        import onnx
        import openvino
        from onnx.inliner import inline_local_functions

        from export.gathered import leave_out_ground

        require_graph(graph, self.name, precision, self.graph_precisions.get(precision, "fp32"))
        _require(precision)
        source = onnx.load(graph.path)
        rounded = unsigned(seven_bits(source)) if precision == "int8" else source
        inlined = inline_local_functions(leave_out_ground(rounded))  # it reads no functions
        plain = folder / "inlined.onnx"
        try:
            onnx.save(inlined, plain)
            model = core().read_model(plain)
            openvino.save_model(model, folder / _MODEL, compress_to_fp16=False)
        finally:
            plain.unlink(missing_ok=True)
        return {}

    def open(self, folder: Path, manifest: EngineManifest, threads: int) -> Engine:
        """Compile the engine for this CPU with `threads` threads (0: all cores)."""
        return OpenvinoEngine(folder / _MODEL, manifest, threads)


def _require(precision: str) -> None:
    if precision not in _HINTS:
        raise UnsupportedError(f"openvino runs in {', '.join(_HINTS)}, not {precision}; use fp32.")
    if precision == "bf16" and "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UnsupportedError(f"This CPU ({cpu_name()}) has neither AVX512_BF16 nor AMX for bf16; use fp32.")
    if precision == "int8" and "INT8" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UnsupportedError(f"OpenVINO does not multiply in INT8 on this CPU ({cpu_name()}); use fp32.")


class OpenvinoEngine(Engine):
    """A compiled model whose precision is set and read back, never OpenVINO's default."""

    def __init__(
        self,
        model: Path,  # OpenVINO's .xml
        manifest: EngineManifest,  # of the engine that it belongs to
        threads: int,  # 0: all cores
    ) -> None:
        super().__init__(manifest)
        _require(manifest.precision)
        hint = _HINTS[manifest.precision]
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = core().compile_model(core().read_model(model), "CPU", settings)
        reported = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if reported != hint:
            raise EngineError(f"openvino runs {manifest.contract.name} in {reported}, not in {hint}; use fp32.")
        if manifest.precision == "int8":
            check_int8(compiled, manifest.contract.name)
        self._request = compiled.create_infer_request()
        self._outputs = [spec.name for spec in manifest.contract.outputs]

    def _infer(self, feeds: Arrays) -> Arrays:
        self._request.infer(feeds, share_inputs=True)
        # The request overwrites its own tensors on the next call.
        return {name: np.array(self._request.get_tensor(name).data) for name in self._outputs}

    def _release(self) -> None:
        del self._request
