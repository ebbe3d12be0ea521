"""ONNX to an engine: a folder a runtime, one interface of engines, one manifest."""
