"""Which types a graph's tensors may have: FP16 is a property of the graph, so it is checked there."""

from __future__ import annotations

import math

import onnx
from onnx import TensorProto

from export.correlate_function import correlate_nodes
from outfitgan.errors import GraphError

_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "LSTM"}
"""Operators whose every floating-point operand has the precision of the graph."""


def check_types(model: onnx.ModelProto, precision: str) -> None:
    """Raise GraphError if a weight, or an operand of a weighted operator or a Correlate, is not of `precision`.

    An FP16 graph keeps FP32 in norm statistics, in the correlation's norms and softmax, and in scalar constants.
    """
    wanted, unwanted = TensorProto.FLOAT, TensorProto.FLOAT16
    if precision == "fp16":
        wanted, unwanted = unwanted, wanted
    scales = {node.input[2] for node in model.graph.node if node.op_type == "Resize"}  # FP32 by ONNX's definition
    for tensor in model.graph.initializer:
        if tensor.data_type == unwanted and math.prod(tensor.dims) > 1 and tensor.name not in scales:
            raise GraphError(_message(precision, f"weight {tensor.name}", tensor.data_type))
    # Shapes and types are inferred afresh: what a file says of its own tensors may be stale.
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(bare).graph
    types = {info.name: info.type.tensor_type.elem_type for info in (*inferred.value_info, *inferred.input)}
    types |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
    correlations = {node.name for node in correlate_nodes(model)}
    for node in inferred.node:
        if node.op_type in _WEIGHTED or node.name in correlations:
            for name in filter(None, node.input):  # an optional input that is left out has the name ""
                found = types.get(name, TensorProto.UNDEFINED)
                if found in (unwanted, TensorProto.UNDEFINED):
                    raise GraphError(_message(precision, f"input {name} of {node.op_type} {node.name}", found))


def _message(precision: str, what: str, found: int) -> str:
    if found == TensorProto.UNDEFINED:
        return f"The {precision} graph has {what} whose type onnx cannot infer; use standard operators in the forward."
    kind = TensorProto.DataType.Name(found).lower()
    return f"The {precision} graph has {what} in {kind}; cast it in the network's forward."
