"""Triton's `tensorrt_rtx` backend: its own TensorRT backend cannot load these plans. Triton runs this file for each."""

from __future__ import annotations

from serving.models.engine_model import EngineModel


class TritonPythonModel(EngineModel):
    """A plan of TensorRT for RTX, on the first GPU."""

    runtime = "tensorrt-rtx"
