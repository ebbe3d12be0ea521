"""Triton's `openvino` backend for a server without NVIDIA's: Triton runs this file for every model that names it."""

from __future__ import annotations

from serving.models.engine_model import EngineModel


class TritonPythonModel(EngineModel):
    """An OpenVINO engine."""

    runtime = "openvino"
