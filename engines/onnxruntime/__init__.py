"""Engines of ONNX Runtime: its CPU provider, INT8 graphs for it, and its providers for NVIDIA GPUs."""
