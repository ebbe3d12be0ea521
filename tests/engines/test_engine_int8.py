"""INT8 engines of a tiny generator: what is multiplied in INT8, what stays, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from engines.engine_store import EngineStore
from engines.manifest import read_manifest
from engines.onnxruntime import int8
from engines.onnxruntime.int8 import NARROW, with_integer_convolutions
from engines.onnxruntime.onnxruntime_engine import session_options
from engines.openvino.cpu import core
from engines.openvino.int8 import seven_bits, unsigned
from engines.registry import engine_precision, graph_precision, open_engine
from export.boundary import GeneratorGraph
from export.calibration import Samples, open_calibration
from export.correlate_function import correlate_nodes
from export.exported import ExportedGraph
from export.exporter import export_graph
from export.parity import adversarial_inputs, compare, shortfalls, tolerance_of
from export.qdq import OUTPUT_RANGES, check_quantised
from outfitgan.config import load_preset
from outfitgan.errors import EngineError, GraphError, UnsupportedError
from outfitgan.files import sha256_of
from outfitgan.model_graphs import ItemGraph, item_graphs
from outfitgan.networks.architectures import build_generator

RUNTIMES = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def item_graph() -> ItemGraph:
    return item_graphs(load_preset("tiny").model)[0]


@pytest.fixture(scope="module")
def samples(item_graph: ItemGraph) -> Samples:
    return open_calibration(load_preset("tiny"), 4).samples(item_graph)


@pytest.fixture(scope="module")
def graphs(
    item_graph: ItemGraph, samples: Samples, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ExportedGraph]:
    """One generator in FP32 and in INT8."""
    torch.manual_seed(11)
    module = GeneratorGraph(build_generator(load_preset("tiny").model).items["bag"])
    folder, contract = tmp_path_factory.mktemp("graphs"), item_graph.contract
    return {
        precision: export_graph(module, contract, precision, folder / f"{contract.name}.{precision}.onnx", samples)
        for precision in ("fp32", "int8")
    }


@pytest.fixture
def model(graphs: dict[str, ExportedGraph]) -> onnx.ModelProto:
    """The INT8 graph, for a test to spoil."""
    return onnx.load(graphs["int8"].path)


@pytest.fixture(scope="module")
def engines(graphs: dict[str, ExportedGraph], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    store = EngineStore(tmp_path_factory.mktemp("int8"))
    return {runtime: store.build(graphs["int8"], runtime, "int8") for runtime in RUNTIMES}


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return {"IMAGE": session.run(["IMAGE"], feeds)[0]}


# What an engine is


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_engine_stays_within_what_int8_owes(
    runtime: str, engines: dict[str, Path], graphs: dict[str, ExportedGraph], samples: Samples
) -> None:
    """Against the FP32 graph, on outfits that nothing was calibrated on and on what a careless client sends."""
    exact, contract = onnx.load(graphs["fp32"].path), graphs["int8"].contract
    feeds = [*samples.unseen, *(feed for batch in (1, 3) for _, feed in adversarial_inputs(contract, batch, seed=5))]
    with open_engine(engines[runtime], 1) as engine:
        for feed in feeds:
            made = engine.run(feed)
            figures = compare(run(exact, feed), made, contract)
            assert not shortfalls(figures, contract, "int8")
            assert figures["IMAGE"].psnr_db < 70  # it is no FP32 engine
    manifest = read_manifest(engines[runtime])
    assert (manifest.precision, manifest.graph_sha256) == ("int8", graphs["int8"].sha256)
    assert manifest.parity["IMAGE"]["psnr_db"] > tolerance_of(contract.outputs[0], "int8").psnr_db


def test_openvino_multiplies_every_convolution_in_int8(engines: dict[str, Path], model: onnx.ModelProto) -> None:
    compiled = core().compile_model(engines["openvino"] / "model.xml", "CPU")
    kinds = [
        node.get_rt_info()["primitiveType"].value
        for node in compiled.get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"].value == "Convolution"
    ]
    assert len(kinds) == len(check_quantised(model))
    assert all(kind.endswith("_I8") for kind in kinds)


def test_onnxruntime_multiplies_wide_convolutions_in_int8(engines: dict[str, Path], model: onnx.ModelProto) -> None:
    """Narrow ones, and those that the correlation reads, have the INT8 weights' values in FP32."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    matched = {name for node in correlate_nodes(model) for name in node.input}
    exact = {
        found.node.name
        for found in check_quantised(model)
        if min(stored[found.weight].shape[:2]) < NARROW or found.node.output[0] in matched
    }
    built = onnx.load(engines["onnxruntime"] / "model.onnx")
    assert {node.name for node in built.graph.node if node.op_type == "Conv"} == exact
    assert sum(node.op_type == "QLinearConv" for node in built.graph.node) == len(check_quantised(model)) - len(exact)
    assert matched
    assert [node.SerializeToString() for node in correlate_nodes(built)] == [
        node.SerializeToString() for node in correlate_nodes(model)
    ]
    assert {function.name for function in built.functions} == {"Correlate", "Kept", "Indices"}


def test_unsigned_rounding_gives_the_same_values(model: onnx.ModelProto, samples: Samples) -> None:
    shifted = unsigned(model)
    for feed in samples.unseen:
        assert np.array_equal(run(shifted, feed)["IMAGE"], run(model, feed)["IMAGE"])
    assert shifted.graph.initializer != model.graph.initializer


def integer_convolution(built: onnx.ModelProto, data: str, name: str) -> onnx.ModelProto:
    """Cut one convolution, the rounding of its `data` and the way back to its output `name` out of an engine."""
    wanted = (f"{data}.uint8", f"{name}.uint8", name)
    nodes = [node for node in built.graph.node if node.output[0] in wanted]
    read = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in built.graph.initializer if tensor.name in read]
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, None) for end in (data, name)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def test_a_convolution_errs_by_half_a_step_of_its_output(model: onnx.ModelProto) -> None:
    """Against torch, in FP64, on the rounded operands; a CPU without VNNI would overflow by default."""
    reach = json.loads({entry.key: entry.value for entry in model.metadata_props}[OUTPUT_RANGES])
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    built = with_integer_convolutions(model)
    integer = {node.output[0] for node in built.graph.node if node.op_type == "QLinearConv"}
    found_all = [found for found in check_quantised(model) if f"{found.node.output[0]}.uint8" in integer]
    assert len(found_all) == len(integer) > 5
    rng = np.random.default_rng(3)
    for found in found_all:
        name, step = found.node.output[0], stored[found.data_scale]
        weight = stored[found.weight] * stored[found.weight_scale].astype(np.float64)[:, None, None, None]
        data = rng.normal(0, 25 * step, (1, weight.shape[1], 9, 9)).astype(np.float32)
        session = onnxruntime.InferenceSession(
            integer_convolution(built, found.data, name).SerializeToString(),
            session_options(1),
            providers=["CPUExecutionProvider"],
        )
        (made,) = session.run([name], {found.data: data})
        levels = np.clip(np.round(data / step), -128, 127).astype(np.float64)
        attributes = {entry.name: list(entry.ints) for entry in found.node.attribute}
        expected = F.conv2d(
            torch.from_numpy(levels * float(step)),
            torch.from_numpy(weight),
            torch.from_numpy(stored[found.node.input[2]].astype(np.float64)) if len(found.node.input) > 2 else None,
            stride=attributes["strides"],
            padding=attributes["pads"][:2],
        ).numpy()
        out = reach[name] / 127
        assert np.abs(made - np.clip(expected, -128 * out, 127 * out)).max() <= 0.51 * out, name
        assert len(np.unique(made)) > 10


# What is refused


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_int8_takes_the_int8_graph_and_fp32_the_other(
    runtime: str, graphs: dict[str, ExportedGraph], tmp_path: Path
) -> None:
    store = EngineStore(tmp_path)
    for precision, other in (("int8", "fp32"), ("fp32", "int8")):
        says = f"{runtime} {precision} takes the {precision} graph of generator_bag, not the {other} one; export it"
        with pytest.raises(UnsupportedError, match=says):
            store.build(graphs[other], runtime, precision)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_graph_that_rounds_otherwise_is_refused(
    runtime: str, graphs: dict[str, ExportedGraph], model: onnx.ModelProto, tmp_path: Path
) -> None:
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    convolution.input[0] = check_quantised(model)[0].data
    onnx.save(model, path := tmp_path / "spoilt.onnx")
    graph = dataclasses.replace(graphs["int8"], path=path, sha256=sha256_of(path))
    with pytest.raises(GraphError, match="does not read a tensor that was rounded to INT8"):
        EngineStore(tmp_path / "engines").build(graph, runtime, "int8")
    assert not list((tmp_path / "engines").iterdir())


def test_a_convolution_that_openvino_keeps_in_fp32_is_noticed(
    graphs: dict[str, ExportedGraph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a CPU whose INT8 it has no kernels for."""
    monkeypatch.setattr("engines.openvino.cpu.unsigned", lambda _: onnx.load(graphs["fp32"].path))
    with pytest.raises(
        EngineError, match=r"openvino runs .* of generator_bag as .*, not in INT8 on this CPU; use fp32"
    ):
        EngineStore(tmp_path).build(graphs["int8"], "openvino", "int8")
    assert not list(tmp_path.iterdir())


def test_a_convolution_that_onnxruntime_does_not_keep_is_noticed(engines: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(engines["onnxruntime"] / "model.onnx")
    total = sum(node.op_type == "QLinearConv" for node in model.graph.node)
    unread = next(node for node in model.graph.node if node.op_type == "QLinearConv")
    extra = onnx.NodeProto()
    extra.CopyFrom(unread)
    extra.name, extra.output[0] = "unread", "unread"
    model.graph.node.append(extra)  # which the optimiser drops
    onnx.save(model, path := tmp_path / "model.onnx")
    says = f"onnxruntime keeps {total} of the {total + 1} INT8 convolutions of generator_bag; use fp32"
    with pytest.raises(EngineError, match=says):
        int8.check_int8(path, "generator_bag")


def test_a_graph_of_narrow_convolutions_is_refused(
    graphs: dict[str, ExportedGraph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "NARROW", 10_000)
    with pytest.raises(UnsupportedError, match="Every convolution of generator_bag is too narrow for INT8 here"):
        EngineStore(tmp_path).build(graphs["int8"], "onnxruntime", "int8")
    assert not list(tmp_path.iterdir())


def test_an_engine_that_rounds_wrongly_is_out_of_tolerance(
    graphs: dict[str, ExportedGraph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "_LEVELS", 1)  # three levels are left
    with pytest.raises(EngineError, match="onnxruntime int8 engine of generator_bag is out of tolerance: IMAGE: PSNR"):
        EngineStore(tmp_path).build(graphs["int8"], "onnxruntime", "int8")
    assert not list(tmp_path.iterdir())


# Which engines a run has


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_only_generators_are_int8(runtime: str) -> None:
    assert graph_precision(runtime, "int8") == "int8"
    assert engine_precision("generator_bag", runtime, "int8") == "int8"
    for name in ("alignment_bag", "collocation", "mask_generator_bag"):
        assert engine_precision(name, runtime, "int8") == "fp32"
        assert engine_precision(name, runtime, "fp32") == "fp32"
    assert engine_precision("collocation", "openvino", "bf16") == "bf16"


def test_no_two_products_pass_sixteen_bits_in_openvino(model: onnx.ModelProto) -> None:
    """What a CPU without VNNI adds them up in; the weights stay within half a step of what they were."""
    made = seven_bits(model)
    before, after = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer} for graph in (model, made)
    )
    for found in check_quantised(made):
        weights, scale = after[found.weight], after[found.weight_scale]
        assert 2 * 255 * int(np.abs(weights.astype(int)).max()) < 2**15
        exact = before[found.weight] * before[found.weight_scale].reshape(-1, 1, 1, 1)
        assert (np.abs(weights * scale.reshape(-1, 1, 1, 1) - exact) <= 0.501 * scale.reshape(-1, 1, 1, 1)).all()
    assert np.abs(before[found.weight].astype(int)).max() > 64
