"""The portable form of a graph: standard operators alone, of an opset that TensorRT 10.3 documents.

`Attention` is younger (opset 23), and a plugin of ours needs TensorRT 10.15. So the correlation is written out, some
target positions at a time, as `best_match` is in every form, and the chunks take turns: the matrix of all target by all
source positions never exists whole.

B batch, C matching channels, Cv value channels, N = H*W target positions, M = Hs*Ws source positions, R of a chunk.
"""

# mypy: disable-error-code="arg-type,type-var,return-value"
# onnxscript types its operators for eager tensors; the bodies are compiled, not run.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, Union

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.inliner import inline_local_functions
from onnxscript import FLOAT, FLOAT16, OnnxFunction, optimizer, script
from onnxscript import opset19 as op
from onnxscript.values import Opset

from export.correlate_function import DOMAIN, VERSION, correlate_nodes
from export.turns import ROWS, After, take_turns, tensor_types
from outfitgan.errors import GraphError

OPSET = 19
"""The first in which INT8's Q/DQ take FP16 scales."""

IR_VERSION = 9
"""The file format of that opset."""

MAX_BATCH = 2
"""A chunk's logits grow with the batch, and an edge box, whose memory the GPU shares, serves a photo at a time."""

Floats = TypeVar("Floats", bound=Union[FLOAT, FLOAT16])  # noqa: UP007, onnxscript reads no other union
_OURS = Opset(DOMAIN, VERSION)


@script(_OURS, default_opset=op)
def Positions(features: Floats) -> Floats:  # noqa: N802
    """Return the positions (B, N, C) of features (B, C, H, W)."""
    return op.Transpose(op.Reshape(features, op.Constant(value_ints=[0, 0, -1])), perm=[0, 2, 1])


@script(_OURS, default_opset=op)
def Directions(features: Floats) -> Floats:  # noqa: N802
    """Return the positions (B, N, C) of features (B, C, H, W), each divided by its norm; zero vectors stay."""
    # Norms in FP32: the squares of 6e4 overflow FP16.
    flat = op.Cast(op.Reshape(features, op.Constant(value_ints=[0, 0, -1])), to=1)  # (B, C, N)
    norm = op.ReduceL2(flat, op.Constant(value_ints=[1]), keepdims=1)  # (B, 1, N)
    directions = op.Div(flat, op.Max(norm, op.Constant(value_float=1e-6)))
    return op.Transpose(op.CastLike(directions, features), perm=[0, 2, 1])


@script(_OURS, default_opset=op)
def Present(features: Floats) -> FLOAT:  # noqa: N802
    """Return 1 for every position of features (B, C, H, W) that is no zero vector: (B, 1, N) of 0 and 1."""
    flat = op.Cast(op.Reshape(features, op.Constant(value_ints=[0, 0, -1])), to=1)  # (B, C, N)
    norm = op.ReduceL2(flat, op.Constant(value_ints=[1]), keepdims=1)  # (B, 1, N)
    return op.Cast(op.Greater(norm, op.Constant(value_float=1e-6)), to=1)


@script(_OURS, default_opset=op)
def WarpRows(rows: Floats, keys: Floats, values: Floats, present: FLOAT, temperature: float) -> Floats:  # noqa: N802
    """Warp values (B, M, Cv) by the attention of rows (B, R, C) over keys (B, M, C) that are present: (B, R, Cv)."""
    cosines = op.Cast(op.MatMul(rows, op.Transpose(keys, perm=[0, 2, 1])), to=1)  # (B, R, M)
    excluded = op.Mul(op.Sub(op.Constant(value_float=1.0), present), op.Constant(value_float=-1e30))  # (B, 1, M)
    weights = op.Softmax(op.Add(op.Div(cosines, op.Constant(value_float=temperature)), excluded), axis=-1)
    return op.MatMul(op.CastLike(weights, values), values)


@script(_OURS, default_opset=op)
def Matched(warped: Floats, queries: FLOAT, keys: FLOAT) -> Floats:  # noqa: N802
    """Return warped (B, N, Cv) where queries (B, 1, N) are present, and any of keys (B, 1, M) is; 0 elsewhere."""
    some = op.ReduceMax(keys, op.Constant(value_ints=[2]), keepdims=1)  # (B, 1, 1)
    return op.Mul(warped, op.CastLike(op.Transpose(op.Mul(queries, some), perm=[0, 2, 1]), warped))


def write_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model`, which is changed, with standard operators in the place of its `Correlate` nodes.

    Raises:
        GraphError: if a node's grid is not known.

    """
    types = tensor_types(model)
    for node in correlate_nodes(model):
        height, width = _grid(node, types)
        _replace(model.graph, node, _chunked(node, height * width))
        sizes = [min(ROWS, height * width - start) for start in range(0, height * width, ROWS)]
        for name, numbers in (("sizes", sizes), ("shape", [0, 0, height, width])):
            tensor = numpy_helper.from_array(np.array(numbers, np.int64), f"{node.output[0]}.{name}")
            model.graph.initializer.append(tensor)
    model = _inlined(model, Positions, Directions, Present, WarpRows, Matched)
    take_turns(model.graph, tensor_types(model))
    model = optimizer.optimize(_inlined(model, After))
    for opset in [opset for opset in model.opset_import if opset.domain]:
        model.opset_import.remove(opset)
    model.ir_version = IR_VERSION
    return model


def _grid(node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto.Tensor]) -> tuple[int, int]:
    """Return H and W of the target of a `Correlate` node."""
    found = types.get(node.input[0], onnx.TypeProto.Tensor()).shape.dim
    sides = [dim.dim_value for dim in found][2:]
    if len(sides) != 2 or not all(sides):
        raise GraphError(f"onnx cannot infer the grid of {node.name}; use standard operators in the forward.")
    return sides[0], sides[1]


def _chunked(node: onnx.NodeProto, positions: int) -> list[onnx.NodeProto]:
    """Return what stands for a `Correlate` node: nodes of the functions above, and standard ones."""
    (target, source, values), (warped,) = node.input, node.output
    names = ("queries", "keys", "items", "asking", "offered", "mixed", "positions", "channels")
    queries, keys, items, asking, offered, mixed, found, channels = (f"{warped}.{name}" for name in names)
    rows, warps = ([f"{warped}.{what}.{start}" for start in range(0, positions, ROWS)] for what in ("rows", "warps"))
    temperature = helper.get_node_attr_value(node, "temperature")
    return [
        helper.make_node("Directions", [target], [queries], queries, domain=DOMAIN),  # (B, N, C)
        helper.make_node("Directions", [source], [keys], keys, domain=DOMAIN),  # (B, M, C)
        helper.make_node("Positions", [values], [items], items, domain=DOMAIN),  # (B, M, Cv)
        helper.make_node("Present", [target], [asking], asking, domain=DOMAIN),  # (B, 1, N)
        helper.make_node("Present", [source], [offered], offered, domain=DOMAIN),  # (B, 1, M)
        helper.make_node("Split", [queries, f"{warped}.sizes"], rows, f"{warped}.split", axis=1),  # (B, R, C) each
        *(
            helper.make_node(
                "WarpRows", [row, keys, items, offered], [warp], warp, domain=DOMAIN, temperature=temperature
            )
            for row, warp in zip(rows, warps, strict=True)  # (B, R, Cv) each
        ),
        helper.make_node("Concat", warps, [mixed], mixed, axis=1),  # (B, N, Cv)
        helper.make_node("Matched", [mixed, asking, offered], [found], found, domain=DOMAIN),  # (B, N, Cv)
        helper.make_node("Transpose", [found], [channels], channels, perm=[0, 2, 1]),
        helper.make_node("Reshape", [channels, f"{warped}.shape"], [warped], node.name),  # (B, Cv, H, W)
    ]


def _replace(graph: onnx.GraphProto, node: onnx.NodeProto, others: list[onnx.NodeProto]) -> None:
    index = list(graph.node).index(node)
    del graph.node[index]
    for offset, other in enumerate(others):
        graph.node.insert(index + offset, other)


def _inlined(model: onnx.ModelProto, *functions: OnnxFunction[..., Any]) -> onnx.ModelProto:
    """Return `model` with the bodies of `functions` in the place of their nodes."""
    model.functions.extend(function.to_function_proto() for function in functions)
    return inline_local_functions(model)
