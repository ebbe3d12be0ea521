"""The model-local function `outfitgan::Correlate`: the op's body in standard operators.

onnxruntime runs it as it stands, OpenVINO after inlining. TensorRT replaces the node by the plugin of the same name;
TensorRT for RTX, which has no such plugins, makes one fused attention kernel of the body. What its parser and compiler
ask for is in the body: no `softmax_precision`, no mask, and one width of query, key and value, from 15 to 256. So what
takes zero vectors out is one more channel.
"""

# mypy: disable-error-code="arg-type,type-var,return-value"
# onnxscript types its operators for eager tensors; this body is compiled, not run.

from __future__ import annotations

from functools import cache
from typing import TypeVar, Union

import onnx
from onnxscript import FLOAT, FLOAT16, script
from onnxscript import opset23 as op
from onnxscript.values import Opset

DOMAIN = "outfitgan"
NAME = "Correlate"
VERSION = 1
OPSET = 23
"""The standard opset of the function and of every graph: the first that has `Attention`."""


Floats = TypeVar("Floats", bound=Union[FLOAT, FLOAT16])  # noqa: UP007, onnxscript reads no other union


# The body below is read by onnxscript's compiler, which takes literals and operators only.
@script(Opset(DOMAIN, VERSION), default_opset=op)
def Correlate(target: Floats, source: Floats, values: Floats, temperature: float) -> Floats:  # noqa: N802
    """Warp `values` (B, Cv, Hs, Ws) by cosine attention of `target` (B, C, H, W) over `source` (B, C, Hs, Ws)."""
    flat = op.Constant(value_ints=[0, 0, -1])
    channels = op.Constant(value_ints=[1])
    last = op.Constant(value_ints=[2])
    smallest = op.Constant(value_float=1e-6)
    # Norms in FP32: the squares of 6e4 overflow FP16.
    target32 = op.Cast(op.Reshape(target, flat), to=1)  # (B, C, N)
    source32 = op.Cast(op.Reshape(source, flat), to=1)  # (B, C, Ns)
    target_norm = op.ReduceL2(target32, channels, keepdims=1)  # (B, 1, N)
    source_norm = op.ReduceL2(source32, channels, keepdims=1)  # (B, 1, Ns)
    present = op.Cast(op.Greater(source_norm, smallest), to=1)  # (B, 1, Ns)
    matched = op.Mul(op.Cast(op.Greater(target_norm, smallest), to=1), op.ReduceMax(present, last, keepdims=1))
    unit = op.Div(target32, op.Max(target_norm, smallest))
    sharpened = op.Div(unit, op.Constant(value_float=temperature))
    one = op.Constant(value_float=1.0)
    # A zero key's logit is less than any other by so much that its weight is 0 in FP32.
    least = op.Neg(op.Add(op.Div(op.Constant(value_float=2.0), op.Constant(value_float=temperature)), 110.0))
    penalty = op.Mul(op.Sub(one, present), least)  # (B, 1, Ns)
    ones = op.Expand(one, op.Shape(target_norm))  # (B, 1, N)
    query = op.Transpose(op.CastLike(op.Concat(sharpened, ones, axis=1), target), perm=[0, 2, 1])  # (B, N, C + 1)
    keys32 = op.Concat(op.Div(source32, op.Max(source_norm, smallest)), penalty, axis=1)
    key = op.Transpose(op.CastLike(keys32, target), perm=[0, 2, 1])  # (B, Ns, C + 1)
    value = op.Transpose(op.Reshape(values, flat), perm=[0, 2, 1])  # (B, Ns, Cv)
    # One width W for all three, by channels of zeros; where C < Cv and Cv is 16 or more, W is Cv.
    narrowest = op.Constant(value_ints=[16])
    keys, outputs = op.Shape(query, start=2, end=3), op.Shape(values, start=1, end=2)
    width = op.Max(op.Max(keys, outputs), narrowest)
    nothing = op.Constant(value_ints=[0])
    key_pads = op.Concat(nothing, op.Sub(width, keys), axis=0)
    value_pads = op.Concat(nothing, op.Sub(width, outputs), axis=0)
    zero = op.CastLike(op.Constant(value_float=0.0), target)
    wide_query = op.Pad(query, key_pads, zero, last)  # (B, N, W)
    wide_key = op.Pad(key, key_pads, zero, last)  # (B, Ns, W)
    wide_value = op.Pad(value, value_pads, zero, last)  # (B, Ns, W)
    wide = op.Attention(wide_query, wide_key, wide_value, scale=1.0, q_num_heads=1, kv_num_heads=1)
    mixed = op.Transpose(op.Slice(wide, nothing, outputs, last), perm=[0, 2, 1])  # (B, Cv, N)
    warped = op.Mul(mixed, op.CastLike(matched, target))
    grid = op.Concat(op.Constant(value_ints=[0, 0]), op.Shape(target, start=2), axis=0)
    return op.Reshape(warped, grid)  # (B, Cv, H, W)


@cache
def correlate_function() -> onnx.FunctionProto:
    """Return the function's proto; `temperature` is its one attribute."""
    proto: onnx.FunctionProto = Correlate.to_function_proto()
    for node in proto.node:
        node.name = f"correlate.{node.name}"  # onnxscript's own names are those of nodes of the graph
    return proto


def correlate_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the `outfitgan::Correlate` nodes of a graph's top level."""
    return [node for node in model.graph.node if (node.domain, node.op_type) == (DOMAIN, NAME)]
