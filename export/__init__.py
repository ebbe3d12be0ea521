"""torch to ONNX: which graphs a run has, how each is exported, and its parity against torch."""
