"""An ONNX file run by onnxruntime on the CPU: what engines and exports are compared with."""

from __future__ import annotations

from pathlib import Path

from export.parity import Runner
from outfitgan.contracts import Arrays, GraphContract


def onnx_runner(path: Path, contract: GraphContract) -> Runner:
    """Return what maps a graph's inputs to its outputs by name, computed by onnxruntime's CPU provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the cores to others
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in contract.outputs]

    def run(feeds: Arrays) -> Arrays:
        return dict(zip(names, session.run(names, feeds), strict=True))

    return run
