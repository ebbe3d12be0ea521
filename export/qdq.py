"""What an INT8 graph looks like: every convolution multiplies a tensor and weights that were rounded to INT8.

    data -> QuantizeLinear -> DequantizeLinear -> Conv <- DequantizeLinear <- INT8 weights

Nothing else reads a rounded tensor, so that norms, residual sums, the silhouettes and the correlation stay floating
point. Convolutions give floating point too: what follows them is a norm, which magnifies rounding where a picture is
white and features are small.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import TensorProto

from export.correlate_function import correlate_function, correlate_nodes
from outfitgan.errors import GraphError

ZERO = "int8.zero"
"""The zero point of every rounded tensor: rounding is symmetric."""

OUTPUT_RANGES = "outfitgan.output_ranges"
"""The entry of a file's metadata that holds, in JSON, how far from 0 each convolution's output reaches."""

_DEQUANTIZE, _QUANTIZE = "DequantizeLinear", "QuantizeLinear"


@dataclass(frozen=True)
class Int8Convolution:
    """A convolution of an INT8 graph, with the names of what it multiplies."""

    node: onnx.NodeProto
    data: str  # (B, I, H, W), floating point
    data_scale: str  # ()
    weight: str  # (O, I, kH, kW), INT8
    weight_scale: str  # (O,)


def check_quantised(model: onnx.ModelProto) -> list[Int8Convolution]:
    """Return every convolution of an INT8 graph.

    Raises:
        GraphError: if a convolution has not both operands in INT8, or anything else reads a rounded tensor.

    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    convolutions = [_read(node, producers, tensors) for node in model.graph.node if node.op_type == "Conv"]
    if not convolutions:
        raise GraphError("This graph has no convolution to quantise; export it in fp32 or fp16.")
    rounded = {name for node in model.graph.node if node.op_type in (_QUANTIZE, _DEQUANTIZE) for name in node.output}
    for node in model.graph.node:
        operands = {"Conv": 2, _DEQUANTIZE: 1}.get(node.op_type, 0)
        if stray := sorted(rounded.intersection(node.input[operands:])):
            raise GraphError(f"{node.op_type} {node.name} reads {stray[0]}, which is rounded to INT8; {_AGAIN}")
    if stray := sorted(rounded & {info.name for info in model.graph.output}):
        raise GraphError(f"The output {stray[0]} is rounded to INT8; {_AGAIN}")
    _check_functions(model)
    return convolutions


def drop_unread(graph: onnx.GraphProto) -> None:
    """Remove the nodes, and then the initializers, that nothing reads any more."""
    read = {name for node in graph.node for name in node.input} | {info.name for info in graph.output}
    unread = [node for node in graph.node if not read & set(node.output)]
    for node in unread:
        graph.node.remove(node)
    if unread:  # what they read may now be unread
        drop_unread(graph)
        return
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)


def _read(
    node: onnx.NodeProto, producers: dict[str, onnx.NodeProto], tensors: dict[str, TensorProto]
) -> Int8Convolution:
    what = f"The convolution {node.name}"
    dequantize, weights = (producers.get(name) for name in node.input[:2])
    quantize = producers.get(dequantize.input[0]) if dequantize is not None else None
    if dequantize is None or quantize is None or (quantize.op_type, dequantize.op_type) != (_QUANTIZE, _DEQUANTIZE):
        raise GraphError(f"{what} does not read a tensor that was rounded to INT8; {_AGAIN}")
    if weights is None or weights.op_type != _DEQUANTIZE or weights.input[0] not in tensors:
        raise GraphError(f"{what} does not read weights in INT8; {_AGAIN}")
    weight, scale = (tensors.get(name) for name in weights.input[:2])
    if weight is None or scale is None or weight.data_type != TensorProto.INT8 or [*scale.dims] != [*weight.dims[:1]]:
        raise GraphError(f"{what} has no INT8 weights with a scale for each output channel; {_AGAIN}")
    if quantize.input[1] != dequantize.input[1] or not _is_zero(quantize, tensors) or not _is_zero(dequantize, tensors):
        raise GraphError(f"{what} reads a tensor that was not rounded to INT8 about 0; {_AGAIN}")
    return Int8Convolution(node, quantize.input[0], quantize.input[1], weights.input[0], weights.input[1])


def _is_zero(node: onnx.NodeProto, tensors: dict[str, TensorProto]) -> bool:
    """Return whether a rounding's zero point is the INT8 0."""
    tensor = tensors.get(node.input[2]) if len(node.input) > 2 else None
    if tensor is None or tensor.data_type != TensorProto.INT8:
        return False
    return not onnx.numpy_helper.to_array(tensor).any()


def _check_functions(model: onnx.ModelProto) -> None:
    """Raise GraphError unless the correlation's body is the one that is exported."""
    wanted = [correlate_function()] if correlate_nodes(model) else []
    if [function.SerializeToString() for function in model.functions] != [f.SerializeToString() for f in wanted]:
        raise GraphError(f"The correlation of this graph was changed; {_AGAIN}")


_AGAIN = "export the graph again."
