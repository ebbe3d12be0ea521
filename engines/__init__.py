"""ONNX to engine: one file per target, one Engine interface, one manifest."""
