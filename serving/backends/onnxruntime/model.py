"""Triton's `onnxruntime` backend for a server without NVIDIA's: Triton runs this file for every model that names it."""

from __future__ import annotations

from serving.engine_model import EngineModel


class TritonPythonModel(EngineModel):
    """An ONNX Runtime engine."""

    target = "onnxruntime"
    thread_parameter = "intra_op_thread_count"
