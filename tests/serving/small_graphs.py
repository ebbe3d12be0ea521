"""Small real ONNX graphs that honour every contract: a server test needs boundaries, not trained weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.exported import ExportedGraph, graph_path, save_index, save_sidecar
from outfitgan.config import ModelConfig, load_preset, save_config
from outfitgan.contracts import GraphContract, TensorSpec
from outfitgan.files import sha256_of
from outfitgan.items import ItemKind
from outfitgan.model_graphs import item_graphs, mask_contracts, run_contracts
from outfitgan.run_folder import RunFolder

TYPES = {"uint8": TensorProto.UINT8, "int32": TensorProto.INT32, "float32": TensorProto.FLOAT}
SHIFTS = {kind: 40 * (index + 1) for index, kind in enumerate(ItemKind)}
CHANNELS = {ItemKind.UPPER: 0, ItemKind.BAG: 0, ItemKind.LOWER: 1, ItemKind.SHOES: 2}
"""Of the source: the small mask generator of a kind hands one out."""


def expected_image(kind: ItemKind, source: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What the small generator of `kind` makes: the source, its colours shifted, where the mask is set."""
    shifted = (source.astype(np.int32) + SHIFTS[kind]) % 256
    return np.where(mask >= 128, shifted, 255).astype(np.uint8)


def small_graphs(model: ModelConfig) -> dict[str, onnx.ModelProto]:
    """Every graph of a run of `model` that has mask generators."""
    graphs = {}
    for item_graph in item_graphs(model):
        nodes = [node for kind in item_graph.images.values() for node in _item(kind, *_ends(item_graph.contract, kind))]
        graphs[item_graph.contract.name] = _model(item_graph.contract, nodes)
    for name, contract in (run_contracts(model) | mask_contracts(model)).items():
        if name not in graphs:
            role, _, kind = name.rpartition("_")
            nodes = {"alignment": _alignment, "mask_generator": _mask, "": _collocation}[role](contract, kind)
            graphs[name] = _model(contract, nodes)
    return graphs


def small_run(path: Path, precision: str) -> RunFolder:
    """A run of the tiny preset whose small graphs were exported in one precision."""
    folder, config = RunFolder(path), load_preset("tiny")
    save_config(config, path / "config.toml")
    folder.graphs.mkdir()
    contracts = run_contracts(config.model) | mask_contracts(config.model)
    exported = []
    for name, graph in small_graphs(config.model).items():
        file = graph_path(folder.graphs, name, precision)
        onnx.save(graph, file)
        digest = sha256_of(file)
        exported.append(ExportedGraph(file, contracts[name], precision, digest, digest, {}, {}))
        save_sidecar(exported[-1])
    save_index(folder.graphs, precision, exported, "")
    return folder


def _model(contract: GraphContract, nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    inputs = [_value(spec) for spec in contract.inputs]
    outputs = [_value(spec) for spec in contract.outputs]
    graph = helper.make_graph(nodes, contract.name, inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _ends(contract: GraphContract, kind: ItemKind) -> tuple[str, str]:
    """The mask and the image of `kind`, as its graph calls them."""
    alone = contract.name != "generator_outfit"
    return ("MASK", "IMAGE") if alone else (f"MASK_{kind.name}", kind.name)


def _item(kind: ItemKind, mask: str, image: str) -> list[onnx.NodeProto]:
    return [
        _constant(f"{kind}_shift", np.int32(SHIFTS[kind])),
        _constant(f"{kind}_levels", np.int32(256)),
        _constant(f"{kind}_half", np.int32(128)),
        _constant(f"{kind}_white", np.int32(255)),
        helper.make_node("Cast", ["SOURCE"], [f"{kind}_source"], to=TensorProto.INT32),
        helper.make_node("Cast", [mask], [f"{kind}_mask"], to=TensorProto.INT32),
        helper.make_node("Add", [f"{kind}_source", f"{kind}_shift"], [f"{kind}_sum"]),
        helper.make_node("Mod", [f"{kind}_sum", f"{kind}_levels"], [f"{kind}_shifted"]),
        helper.make_node("GreaterOrEqual", [f"{kind}_mask", f"{kind}_half"], [f"{kind}_inside"]),
        helper.make_node("Where", [f"{kind}_inside", f"{kind}_shifted", f"{kind}_white"], [f"{kind}_image"]),
        helper.make_node("Cast", [f"{kind}_image"], [image], to=TensorProto.UINT8),
    ]


def _mask(contract: GraphContract, kind: str) -> list[onnx.NodeProto]:
    channel = np.array([CHANNELS[ItemKind(kind)]], np.int64)
    return [
        _constant("channel", channel),
        helper.make_node("Cast", ["SOURCE"], ["source"], to=TensorProto.INT32),  # TensorRT gathers no bytes
        helper.make_node("Gather", ["source", "channel"], ["mask"], axis=3),
        helper.make_node("Cast", ["mask"], ["MASK"], to=TensorProto.UINT8),
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
