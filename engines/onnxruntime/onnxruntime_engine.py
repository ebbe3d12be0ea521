"""Engines of ONNX Runtime, whatever their provider: the session, its options, and the check of who computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engines.engine import Engine
from engines.manifest import EngineManifest
from engines.runtime import Runtime
from outfitgan.contracts import Arrays
from outfitgan.errors import EngineError

if TYPE_CHECKING:
    import onnxruntime

MODEL = "model.onnx"
"""The file of an engine's folder."""

_OF_SHAPES = frozenset(
    {"Add", "Cast", "Div", "Mul", "Sub"}
    | {"Concat", "ConstantOfShape", "Gather", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Unsqueeze"}
)
"""What shapes are computed with; the CPU may do that for a GPU."""


class OnnxruntimeRuntime(Runtime):
    """ONNX Runtime with one of its providers."""

    def versions(self) -> dict[str, str]:
        """Return the version of what builds and runs the engine."""
        import onnxruntime

        return {"onnxruntime": onnxruntime.__version__}


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return the options of an engine's session with `threads` threads (0: one a core)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # A CPU without VNNI adds pairs of UINT8 x INT8 products in 16 bits, which overflow: onnxruntime then multiplies
    # UINT8 x UINT8, exactly. With VNNI it changes nothing.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


class OnnxruntimeEngine(Engine):
    """An onnxruntime session whose provider is checked, not hoped for."""

    def __init__(
        self,
        model: Path,  # the ONNX file
        manifest: EngineManifest,  # of the engine that it belongs to
        threads: int,  # 0: one a core
        provider: str,  # onnxruntime's name of what computes
        settings: Mapping[str, str],  # of the provider
    ) -> None:
        import onnxruntime

        super().__init__(manifest)
        options = session_options(threads)
        self._session = onnxruntime.InferenceSession(str(model), options, providers=[(provider, dict(settings))])
        self._session.disable_fallback()
        # A provider whose libraries are missing gives way to the CPU's with a line in the log.
        if (found := self._session.get_providers()[0]) != provider:
            raise EngineError(
                f"onnxruntime runs {manifest.contract.name} on {found}, not on {provider}, which does not load; "
                "install what its log asks for, or take the runtime onnxruntime."
            )
        if strays := ", ".join(_strays(self._session, provider)):
            raise EngineError(
                f"onnxruntime runs {strays} of {manifest.contract.name} on another provider than {provider}, "
                "which has no kernel for that; take another version of onnxruntime, or another runtime."
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
