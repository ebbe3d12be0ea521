"""Chunks that take turns: each waits for the results of the one before.

A graph that handles its rows in chunks bounds its memory only if they are not computed at once, and TensorRT for RTX
was seen to join their matrix products into one: the whole matrix again, in one tensor. So each chunk adds to its rows
0 times a value of the results before, which no optimiser may leave out: 0 times infinity is not 0.
"""

# mypy: disable-error-code="arg-type,type-var,return-value"
# onnxscript types its operators for eager tensors; the body is compiled, not run.

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, Union

import onnx
from onnx import helper
from onnxscript import FLOAT, FLOAT16, INT64, script
from onnxscript import opset19 as op
from onnxscript.values import Opset

from export.correlate_function import DOMAIN, VERSION

ROWS = 1024
"""Rows of a chunk: those of `best_match`, and of the correlation that is written out."""

Rows = TypeVar("Rows", bound=Union[FLOAT, FLOAT16])  # noqa: UP007, onnxscript reads no other union
Result = TypeVar("Result", bound=Union[FLOAT, FLOAT16, INT64])  # noqa: UP007


@script(Opset(DOMAIN, VERSION), default_opset=op)
def After(rows: Rows, result: Result) -> Rows:  # noqa: N802
    """Return rows (B, R, C) as they are once `result` (B, R) or (B, R, Cv), which must be finite, is there."""
    flat = op.Reshape(result, op.Constant(value_ints=[0, -1, 1]))
    largest = op.Cast(op.ReduceMax(flat, op.Constant(value_ints=[1]), keepdims=1), to=1)  # (B, 1, 1)
    return op.Add(rows, op.CastLike(op.Mul(largest, op.Constant(value_float=0.0)), rows))


def take_turns(graph: onnx.GraphProto, types: Mapping[str, onnx.TypeProto.Tensor]) -> None:
    """Put `After` nodes before every chunk but the first of each Split into chunks of ROWS.

    Args:
        graph: changed; its nodes come chunk by chunk.
        types: of its tensors, as `tensor_types` returns them.

    """
    for split in [node for node in graph.node if node.op_type == "Split"]:
        chunks = list(split.output)
        if [dim.dim_value for dim in types[chunks[0]].shape.dim][1:2] != [ROWS]:
            continue
        for results in _results(graph, chunks):
            for chunk, result in zip(chunks[1:], results[:-1], strict=True):
                _put_after(graph, chunk, result)


def tensor_types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    """Return the type and shape of every tensor that onnx can infer them of."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {info.name: info.type.tensor_type for info in (*graph.value_info, *graph.input, *graph.output)}


def _results(graph: onnx.GraphProto, chunks: list[str]) -> list[list[str]]:
    """Return the inputs of each Concat that puts together one result of each chunk."""
    origins = {chunk: {index} for index, chunk in enumerate(chunks)}  # tensor -> the chunks that it follows from
    results = []
    for node in graph.node:
        found = [origins.get(name, set()) for name in node.input]
        if node.op_type == "Concat" and found == [{index} for index in range(len(chunks))]:
            results.append(list(node.input))
        for name in node.output:
            origins[name] = origins.get(name, set()).union(*found)
    return results


def _put_after(graph: onnx.GraphProto, chunk: str, result: str) -> None:
    """Have all that reads `chunk` read it after `result`."""
    readers = [index for index, node in enumerate(graph.node) if chunk in node.input]
    waiting = f"{chunk}.after.{result}"
    for index in readers:
        names = [waiting if name == chunk else name for name in graph.node[index].input]
        graph.node[index].input[:] = names
    graph.node.insert(readers[0], helper.make_node("After", [chunk, result], [waiting], waiting, domain=DOMAIN))
