"""INT8 graphs for onnxruntime's CPU provider, whose INT8 convolution, QLinearConv, rounds its output as well.

Its kernels for x86 are made for UINT8 data: with INT8 data they are slower than FP32. ConvInteger, which rounds no
output, takes 2.5 times as long as FP32.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from engines.onnxruntime.onnxruntime_engine import session_options
from export.correlate_function import correlate_nodes
from export.qdq import OUTPUT_RANGES, Int8Convolution, check_quantised, drop_unread
from outfitgan.errors import EngineError, UnsupportedError

NARROW = 8
"""Convolutions of fewer channels, in or out, stay in FP32.

Ours: they read pictures and silhouettes or make the picture, and take little time. On a white ground their outputs are
next to 0, and the norm behind them magnifies what rounding does there: 25 dB instead of 48 on a trained generator.
"""

_LEVELS, _ZERO = 127, "uint8.zero"  # INT8 about 0 is UINT8 about 128: the same values, shifted


def with_integer_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an INT8 graph whose convolutions are QLinearConv, but for narrow ones and those that feed a correlation.

    Raises:
        GraphError: if it is no INT8 graph.
        UnsupportedError: if no convolution of it is left to multiply in INT8.

    """
    convolutions = {found.node.output[0]: found for found in check_quantised(model)}
    matched = {name for node in correlate_nodes(model) for name in node.input}
    writer = _Writer(model)
    for node in model.graph.node:
        found = convolutions.get(node.output[0])
        if found is None:
            writer.model.graph.node.append(node)
        elif node.output[0] in matched or writer.is_narrow(found):
            writer.add_floating(found)
        else:
            writer.add_integer(found)
    if not _integer_convolutions(writer.model):
        raise UnsupportedError(f"Every convolution of {model.graph.name} is too narrow for INT8 here; use fp32.")
    drop_unread(writer.model.graph)
    return writer.model


def check_int8(path: Path, name: str) -> None:
    """Raise EngineError if onnxruntime makes anything else of a file's QLinearConv nodes; `name` is the graph's."""
    with tempfile.TemporaryDirectory() as scratch:
        options = session_options(0)
        options.optimized_model_filepath = str(Path(scratch) / "optimised.onnx")
        options.log_severity_level = 3  # it warns that what it writes is for this CPU alone
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        left = _integer_convolutions(onnx.load(options.optimized_model_filepath))
    if left < (wanted := _integer_convolutions(onnx.load(path))):
        raise EngineError(f"onnxruntime keeps {left} of the {wanted} INT8 convolutions of {name}; use fp32.")


def _integer_convolutions(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "QLinearConv" for node in model.graph.node)


class _Writer:
    """A graph that is being written, node by node."""

    def __init__(
        self,
        model: onnx.ModelProto,  # stays as it is
    ) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        del self.model.graph.node[:]
        self._arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        self._reach: Mapping[str, float] = json.loads(metadata[OUTPUT_RANGES])
        self._rounded: set[str] = set()
        self._add(_ZERO, np.array(128, np.uint8))

    def is_narrow(self, found: Int8Convolution) -> bool:
        """Return whether a convolution is to stay in FP32."""
        return min(self._arrays[found.weight].shape[:2]) < NARROW

    def add_floating(self, found: Int8Convolution) -> None:
        """Add a convolution as FP32, with the values of its INT8 weights."""
        name, scale = f"{found.weight}.wide", self._arrays[found.weight_scale]
        self._add(name, self._arrays[found.weight] * scale[:, None, None, None])  # (O, I, kH, kW)
        self.model.graph.node.append(found.node)
        self.model.graph.node[-1].input[:2] = [found.data, name]

    def add_integer(self, found: Int8Convolution) -> None:
        """Add a convolution as QLinearConv, between a rounding of its data and the way back."""
        data, output = f"{found.data}.uint8", found.node.output[0]
        if found.data not in self._rounded:
            self._node("QuantizeLinear", [found.data, found.data_scale, _ZERO], data)
            self._rounded.add(found.data)
        scale = f"{output}.scale"
        self._add(scale, np.array((self._reach[output] or 1) / _LEVELS, np.float32))
        operands = [data, found.data_scale, _ZERO, found.weight, found.weight_scale, self._weight_zero(found)]
        bias = [self._bias(found)] if len(found.node.input) > 2 else []
        made = self._node("QLinearConv", [*operands, scale, _ZERO, *bias], f"{output}.uint8")
        made.attribute.extend(found.node.attribute)
        self._node("DequantizeLinear", [f"{output}.uint8", scale, _ZERO], output)

    def _weight_zero(self, found: Int8Convolution) -> str:
        name = f"{found.weight}.zero"
        self._add(name, np.zeros(self._arrays[found.weight_scale].shape, np.int8))  # (O,)
        return name

    def _bias(self, found: Int8Convolution) -> str:
        """Store a bias (O,) in the steps of the sum it is added to."""
        name = f"{found.node.output[0]}.bias"
        steps = self._arrays[found.data_scale] * self._arrays[found.weight_scale]  # (O,)
        limits = np.iinfo(np.int32)
        levels = np.round(self._arrays[found.node.input[2]] / steps.astype(np.float64))
        self._add(name, np.clip(levels, limits.min, limits.max).astype(np.int32))
        return name

    def _add(self, name: str, array: NDArray[Any]) -> None:
        if name not in self._arrays:
            self._arrays[name] = array
            self.model.graph.initializer.append(numpy_helper.from_array(array, name))

    def _node(self, kind: str, inputs: list[str], output: str) -> onnx.NodeProto:
        self.model.graph.node.append(helper.make_node(kind, inputs, [output], output))
        made: onnx.NodeProto = self.model.graph.node[-1]
        return made
