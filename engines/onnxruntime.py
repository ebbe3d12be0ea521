"""Target `onnxruntime`: onnxruntime's CPU provider, on the graph as it is, or with its own INT8 convolutions."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.engine import Arrays, Engine
from engines.host import cpu_name, no_options, require_graph
from engines.manifest import EngineManifest
from engines.settings import BuildSettings
from outfitgan.errors import EngineError

if TYPE_CHECKING:
    import onnxruntime

    from export.exported import ExportedGraph

GRAPHS = {"fp32": "fp32", "int8": "int8"}
"""Precision -> that of the graph it is built from."""

_MODEL = "model.onnx"
_PROVIDER = "CPUExecutionProvider"
_OF_SHAPES = frozenset(
    {"Add", "Cast", "Div", "Mul", "Sub"}
    | {"Concat", "ConstantOfShape", "Gather", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Unsqueeze"}
)
"""What shapes are computed with; the CPU may do that for a GPU."""


def versions() -> dict[str, str]:
    """Return the version of what builds and runs the engine."""
    import onnxruntime

    return {"onnxruntime": onnxruntime.__version__}


def device() -> dict[str, str]:
    """Return the processor's name."""
    return {"name": cpu_name()}


def options(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a build: there are none."""
    return no_options(choices, "onnxruntime")


def bound_by(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what of the device an engine is bound to: nothing, for it is the graph itself."""
    return ()


def build(graph: ExportedGraph, folder: Path, precision: str, settings: BuildSettings) -> dict[str, Any]:
    """Put the engine's files into `folder`; raise EngineError for anything but fp32 and int8."""
    require_graph(graph, "onnxruntime", precision, GRAPHS.get(precision, "fp32"))
    if precision not in GRAPHS:
        raise EngineError(f"onnxruntime's CPU provider computes in fp32 and int8, not {precision}; use fp32.")
    if precision == "fp32":
        shutil.copyfile(graph.path, folder / _MODEL)
        return {}
    import onnx

    from engines.onnxruntime_int8 import check_int8, with_integer_convolutions

    onnx.save(with_integer_convolutions(onnx.load(graph.path)), folder / _MODEL)
    check_int8(folder / _MODEL, graph.name)
    return {}


def open(folder: Path, manifest: EngineManifest, threads: int) -> Engine:
    """Load the engine with `threads` threads (0: one a core)."""
    return OnnxruntimeEngine(folder / _MODEL, manifest, threads, _PROVIDER, {})


class OnnxruntimeEngine(Engine):
    """An onnxruntime session whose provider is checked, not hoped for."""

    def __init__(
        self,
        model: Path,
        manifest: EngineManifest,
        threads: int,
        provider: str,
        settings: Mapping[str, str],  # of the provider
    ) -> None:
        import onnxruntime

        super().__init__(manifest)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        self._session = onnxruntime.InferenceSession(str(model), options, providers=[(provider, dict(settings))])
        self._session.disable_fallback()
        # A provider whose libraries are missing gives way to the CPU's with a line in the log.
        if (found := self._session.get_providers()[0]) != provider:
            raise EngineError(
                f"onnxruntime runs {manifest.contract.name} on {found}, not on {provider}, which does not load; "
                "install what its log asks for, or take the target onnxruntime."
            )
        if strays := ", ".join(_strays(self._session, provider)):
            raise EngineError(
                f"onnxruntime runs {strays} of {manifest.contract.name} on another provider than {provider}, "
                "which has no kernel for that; take another version of onnxruntime, or another target."
            )
        self._outputs = [spec.name for spec in manifest.contract.outputs]

    def _infer(self, feeds: Arrays) -> Arrays:
        return dict(zip(self._outputs, self._session.run(self._outputs, feeds), strict=True))

    def _release(self) -> None:
        del self._session


def _strays(session: onnxruntime.InferenceSession, provider: str) -> list[str]:
    """Return the kinds of node that compute elsewhere than on `provider`: a session may be its in name only.

    Ours: `session.disable_cpu_ep_fallback` would not do, since it also refuses the arithmetic on shapes that every
    graph with a dynamic batch has, and that the providers for GPUs leave to the CPU by choice.
    """
    placed = session.get_provider_graph_assignment_info()
    elsewhere = {node.op_type for part in placed if part.ep_name != provider for node in part.get_nodes()}
    return sorted(elsewhere - _OF_SHAPES)
