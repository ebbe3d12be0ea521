"""The body of `outfitgan::Correlate` for CPU engines: what takes no part is left out before anything is multiplied.

Ground is most of both grids, and zero vectors are ground: so the matrix of target by source positions falls to a fifth.
How many positions are left depends on the pictures, which a CPU engine does not mind; a GPU's would wait for the count.
Positions are kept where any image of the batch has garment.

B batch, C matching channels, Cv value channels, N and M target and source positions, n and m of them kept.
"""

# mypy: disable-error-code="arg-type,operator,type-var,return-value"
# onnxscript types its operators for eager tensors; the bodies are compiled, not run.

from __future__ import annotations

from functools import cache
from typing import TypeVar, Union

import onnx
from onnxscript import BOOL, FLOAT, FLOAT16, INT64, script
from onnxscript import opset23 as op
from onnxscript.values import Opset

from export.correlate_function import DOMAIN, NAME, VERSION

Floats = TypeVar("Floats", bound=Union[FLOAT, FLOAT16])  # noqa: UP007, onnxscript reads no other union
_OURS = Opset(DOMAIN, VERSION)


@script(_OURS, default_opset=op)
def Kept(present: BOOL) -> BOOL:  # noqa: N802
    """Return which positions any image of present (B, 1, N) has, and the first, which keeps it from none: (N,)."""
    some = op.ReduceMax(op.Cast(present, to=6), op.Constant(value_ints=[0, 1]), keepdims=0)  # (N,) int32
    rest = op.Slice(some, op.Constant(value_ints=[1]), op.Shape(some))
    return op.Cast(op.Concat(op.Cast(op.Constant(value_ints=[1]), to=6), rest, axis=0), to=9)


@script(_OURS, default_opset=op)
def Indices(kept: BOOL) -> INT64:  # noqa: N802
    """Return the positions that are kept (N,) of: (n,)."""
    return op.Reshape(op.NonZero(kept), op.Constant(value_ints=[-1]))


# The body below is read by onnxscript's compiler, which takes literals and operators only.
@script(_OURS, default_opset=op)
def Correlate(target: Floats, source: Floats, values: Floats, temperature: float) -> Floats:  # noqa: N802
    """Warp `values` (B, Cv, Hs, Ws) by cosine attention of `target` (B, C, H, W) over `source` (B, C, Hs, Ws)."""
    flat = op.Constant(value_ints=[0, 0, -1])
    channels = op.Constant(value_ints=[1])
    last = op.Constant(value_ints=[2])
    smallest = op.Constant(value_float=1e-6)
    one = op.Constant(value_float=1.0)
    target32 = op.Cast(op.Reshape(target, flat), to=1)  # (B, C, N)
    source32 = op.Cast(op.Reshape(source, flat), to=1)  # (B, C, M)
    target_norm = op.ReduceL2(target32, channels, keepdims=1)  # (B, 1, N)
    source_norm = op.ReduceL2(source32, channels, keepdims=1)  # (B, 1, M)
    # What is not a number takes part, so that it is seen.
    asking, offered = op.Not(target_norm <= smallest), op.Not(source_norm <= smallest)
    kept = Kept(asking)  # (N,)
    rows, columns = Indices(kept), Indices(Kept(offered))  # (n,), (m,)
    queries = op.Gather(op.Div(target32, op.Max(target_norm, smallest)), rows, axis=2)  # (B, C, n)
    keys = op.Gather(op.Div(source32, op.Max(source_norm, smallest)), columns, axis=2)  # (B, C, m)
    # What another image of the batch keeps: its logit is less than any other by so much that its weight is 0 in FP32.
    least = op.Neg(op.Add(op.Div(op.Constant(value_float=2.0), op.Constant(value_float=temperature)), 110.0))
    present = op.Gather(op.Cast(offered, to=1), columns, axis=2)  # (B, 1, m)
    sharpened = op.Div(queries, op.Constant(value_float=temperature))
    ones = op.Expand(one, op.Shape(op.Gather(target_norm, rows, axis=2)))  # (B, 1, n)
    wide_queries = op.Concat(sharpened, ones, axis=1)  # (B, C + 1, n)
    wide_keys = op.Concat(keys, op.Mul(op.Sub(one, present), least), axis=1)  # (B, C + 1, m)
    query = op.Transpose(op.CastLike(wide_queries, target), perm=[0, 2, 1])  # (B, n, C + 1)
    key = op.Transpose(op.CastLike(wide_keys, target), perm=[0, 2, 1])  # (B, m, C + 1)
    value = op.Transpose(op.Gather(op.Reshape(values, flat), columns, axis=2), perm=[0, 2, 1])  # (B, m, Cv)
    mixed = op.Attention(query, key, value, scale=1.0, q_num_heads=1, kv_num_heads=1)  # (B, n, Cv)
    # Each position reads its row: the kept ones are counted.
    row = op.Sub(op.CumSum(op.Cast(kept, to=7), op.Constant(value_int=0)), op.Constant(value_ints=[1]))  # (N,)
    spread = op.Gather(op.Transpose(mixed, perm=[0, 2, 1]), row, axis=2)  # (B, Cv, N)
    some = op.ReduceMax(op.Cast(offered, to=1), last, keepdims=1)  # (B, 1, 1)
    matched = op.And(asking, op.Cast(some, to=9))  # (B, 1, N)
    warped = op.Where(matched, spread, op.CastLike(op.Constant(value_float=0.0), target))  # (B, Cv, N)
    grid = op.Concat(op.Constant(value_ints=[0, 0]), op.Shape(target, start=2), axis=0)
    return op.Reshape(warped, grid)  # (B, Cv, H, W)


def leave_out_ground(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model`, which is changed, with this body as that of its `Correlate`; a graph without one stays."""
    others = [function for function in model.functions if (function.domain, function.name) != (DOMAIN, NAME)]
    if len(others) == len(model.functions):
        return model
    del model.functions[:]
    model.functions.extend([*others, *_functions()])
    return model


@cache
def _functions() -> tuple[onnx.FunctionProto, ...]:
    protos = tuple(function.to_function_proto() for function in (Kept, Indices, Correlate))  # callees first
    for proto in protos:
        for node in proto.node:
            node.name = f"{proto.name}.{node.name}"  # onnxscript's own names are those of nodes of the graph
    return protos
