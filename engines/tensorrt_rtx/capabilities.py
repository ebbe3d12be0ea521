"""The GPUs that TensorRT for RTX builds for, by compute capability."""

from __future__ import annotations

CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Turing, A100, Ampere, Ada, Blackwell, DGX Spark; no Hopper, and no Jetson."""

DEFAULT_CAPABILITIES = CAPABILITIES[1:]
"""Ampere and newer. Turing runs FP16 but no INT8 convolutions, so it is there on request."""
