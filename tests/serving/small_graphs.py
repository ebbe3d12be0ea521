"""Small real ONNX graphs that honour every contract: a server test needs boundaries, not trained weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.contract import GraphContract, TensorSpec
from export.graphs import run_contracts
from outfitgan.config import ModelConfig
from outfitgan.items import ItemKind

TYPES = {"uint8": TensorProto.UINT8, "int32": TensorProto.INT32, "float32": TensorProto.FLOAT}
SHIFTS = {kind: 40 * (index + 1) for index, kind in enumerate(ItemKind)}


def expected_image(kind: ItemKind, source: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What the small generator of `kind` makes: the source, its colours shifted, where the mask is set."""
    shifted = (source.astype(np.int32) + SHIFTS[kind]) % 256
    return np.where(mask >= 128, shifted, 255).astype(np.uint8)


def small_graph(contract: GraphContract) -> onnx.ModelProto:
    role, _, kind = contract.name.partition("_")
    nodes = {"generator": _generator, "alignment": _alignment, "collocation": _collocation}[role](contract, kind)
    inputs = [_value(spec) for spec in contract.inputs]
    outputs = [_value(spec) for spec in contract.outputs]
    graph = helper.make_graph(nodes, contract.name, inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def small_graphs(model: ModelConfig) -> dict[str, onnx.ModelProto]:
    return {name: small_graph(contract) for name, contract in run_contracts(model).items()}


def _generator(contract: GraphContract, kind: str) -> list[onnx.NodeProto]:
    return [
        _constant("shift", np.int32(SHIFTS[ItemKind(kind)])),
        _constant("levels", np.int32(256)),
        _constant("half", np.int32(128)),
        _constant("white", np.int32(255)),
        helper.make_node("Cast", ["SOURCE"], ["source"], to=TensorProto.INT32),
        helper.make_node("Cast", ["MASK"], ["mask"], to=TensorProto.INT32),
        helper.make_node("Add", ["source", "shift"], ["sum"]),
        helper.make_node("Mod", ["sum", "levels"], ["shifted"]),
        helper.make_node("GreaterOrEqual", ["mask", "half"], ["inside"]),
        helper.make_node("Where", ["inside", "shifted", "white"], ["image"]),
        helper.make_node("Cast", ["image"], ["IMAGE"], to=TensorProto.UINT8),
    ]


def _alignment(contract: GraphContract, kind: str) -> list[onnx.NodeProto]:
    warped, match, _ = contract.outputs
    grid, stride = match.shape[0], contract.inputs[0].shape[0] // match.shape[0]
    corner = np.stack(np.meshgrid(np.arange(grid), np.arange(grid), indexing="ij"), -1).astype(np.int32)
    return [
        _constant("cells", corner[None]),
        _constant("range", np.float32(255)),
        _constant("channels", np.array([1, warped.shape[0], 1, 1], np.int64)),
        _constant("none", np.float32(0)),
        _constant("rgb", np.array([1], np.int64)),
        helper.make_node("Cast", ["SOURCE"], ["source"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["source", "range"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["pooled"], kernel_shape=[stride] * 2, strides=[stride] * 2),
        helper.make_node("ReduceMean", ["pooled", "rgb"], ["grey"], keepdims=1),
        helper.make_node("Tile", ["grey", "channels"], ["WARPED"]),
        helper.make_node("Transpose", ["grey"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Mul", ["last", "none"], ["zero"]),
        helper.make_node("Cast", ["zero"], ["start"], to=TensorProto.INT32),
        helper.make_node("Add", ["start", "cells"], ["MATCH"]),
        helper.make_node("Squeeze", ["grey", "rgb"], ["WEIGHT"]),
    ]


def _collocation(contract: GraphContract, kind: str) -> list[onnx.NodeProto]:
    images = [spec.name for spec in contract.inputs]
    nodes = [_constant("range", np.float32(255)), _constant("axes", np.array([1, 2, 3], np.int64))]
    for name in images:
        nodes.append(helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Mean", [f"{name}_float" for name in images], ["mean"]))
    nodes.append(helper.make_node("ReduceMean", ["mean", "axes"], ["level"], keepdims=0))
    nodes.append(helper.make_node("Div", ["level", "range"], ["share"]))
    nodes.append(_constant("column", np.array([-1, 1], np.int64)))
    nodes.append(helper.make_node("Reshape", ["share", "column"], ["COMPATIBILITY"]))
    return nodes


def _constant(name: str, value: np.ndarray | np.generic) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value)))


def _value(spec: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(spec.name, TYPES[spec.dtype], ["B", *spec.shape])
