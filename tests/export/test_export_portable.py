"""The portable form: standard operators of an old opset, the same figures, and never the whole matrix."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from test_export_function import PLUGIN, definition, draw, opposites, run, with_ground

from export.boundary import AlignmentGraph, OutfitGraph
from export.calibration import Calibration
from export.correlate_function import DOMAIN, NAME, VERSION
from export.exported import PRECISIONS, ExportedGraph, find_graphs, load_graph
from export.exporter import export_graph, export_run
from export.forms import PORTABLE, form_of
from export.onnx_runner import onnx_runner
from export.parity import compare, parity_feeds, shortfalls
from export.portable import IR_VERSION, MAX_BATCH, OPSET, write_out
from export.turns import ROWS
from outfitgan.config import ModelConfig, load_preset, override
from outfitgan.errors import GraphError
from outfitgan.items import ItemKind
from outfitgan.model_graphs import alignment_contract, outfit_contract
from outfitgan.networks.alignment import SemanticAlignment
from outfitgan.networks.architectures import OutfitGenerator, build_generator
from outfitgan.networks.collocation import CollocationClassifier
from outfitgan.networks.pix2pix import MaskGenerator
from outfitgan.ops.correlate.reference import reference

Array = NDArray[Any]
SEVERAL_CHUNKS = (32, 40, 33, 41)  # 1280 target positions: a whole chunk and a rest; 1353 source positions
KINDS = ("bag", "lower", "shoes")
ROUNDED = [f"generator_{kind}" for kind in KINDS]
GRAPHS = ["collocation", *(f"{role}_{kind}" for role in ("generator", "alignment", "mask_generator") for kind in KINDS)]
EVERY = [(name, precision) for precision in PRECISIONS for name in (GRAPHS if "int8" not in precision else ROUNDED)]

DOCUMENTED = {
    *("Add", "ArgMax", "Atanh", "AveragePool", "BatchNormalization", "Cast", "CastLike", "Clip", "Concat"),
    *("ConstantOfShape", "Conv", "DequantizeLinear", "Div", "Exp", "Expand", "Floor", "Gather", "Gemm", "Greater"),
    *("GreaterOrEqual", "LSTM", "LeakyRelu", "Less", "LessOrEqual", "MatMul", "Max", "MaxPool", "Min", "Mul", "Not"),
    *("Or", "Pow", "QuantizeLinear", "Reciprocal", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"),
    *("Relu", "Reshape", "Resize", "Round", "Shape", "Sigmoid", "Sign", "Slice", "Softmax", "Split", "Sqrt", "Squeeze"),
    *("Sub", "Tanh", "Transpose", "Unsqueeze", "Where"),
}
"""Operators that onnx-tensorrt's docs/operators.md lists as supported at release 10.1-GA, of opsets up to 20."""


@pytest.fixture(scope="module")
def folder(
    tiny: ModelConfig,
    generator: OutfitGenerator,
    collocation: CollocationClassifier,
    mask_generators: dict[ItemKind, MaskGenerator],
    calibration: Calibration,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder of every portable graph in every precision, each within its tolerance of torch."""
    output: Path = tmp_path_factory.mktemp("portable")
    networks = generator, collocation, mask_generators
    export_run(*networks, tiny, output, PRECISIONS, calibration=calibration, form=PORTABLE)
    return output


@pytest.fixture(scope="module")
def portable(folder: Path) -> dict[tuple[str, str], ExportedGraph]:
    return {
        (name, graph.precision): graph
        for precision in PRECISIONS
        for name, graph in find_graphs(folder, precision).items()
    }


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def chunked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    """A SAM of 4096 positions on each side, which both the correlation and the best match take in four chunks."""
    model = override(load_preset("tiny"), {"model.image_size": 128, "model.generator.alignment.downsamples": 1}).model
    torch.manual_seed(7)
    contract = alignment_contract(ItemKind.BAG, model)
    path = tmp_path_factory.mktemp("chunked") / f"alignment_bag.{request.param}.onnx"
    module = AlignmentGraph(SemanticAlignment(model.generator))
    return export_graph(module, contract, request.param, path, form=PORTABLE)


def one_node(dtype: type, grid: tuple[int, ...], temperature: float) -> onnx.ModelProto:
    """A graph of one correlation, written out."""
    kind = TensorProto.FLOAT16 if dtype is np.float16 else TensorProto.FLOAT
    shapes = {"target": grid[:2], "source": grid[2:], "values": grid[2:], "warped": grid[:2]}
    channels = {"target": "c", "source": "c", "values": "v", "warped": "v"}
    infos = {
        name: helper.make_tensor_value_info(name, kind, ["b", channels[name], *sides]) for name, sides in shapes.items()
    }
    warped = infos.pop("warped")
    node = helper.make_node(NAME, list(infos), ["warped"], domain=DOMAIN, temperature=temperature, **PLUGIN)
    graph = helper.make_graph([node], "one", list(infos.values()), [warped])
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    model = write_out(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    onnx.checker.check_model(model, full_check=True)
    return model


def largest_matrix(model: onnx.ModelProto) -> int:
    """Return the elements a row of the batch of the largest tensor that onnx infers the shape of."""
    sizes = []
    for info in onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info:
        dims = info.type.tensor_type.shape.dim
        sizes.append(math.prod(dim.dim_value for dim in dims if dim.HasField("dim_value")))
    return max(sizes)


@pytest.mark.parametrize(("name", "precision"), EVERY)
def test_every_graph_is_of_documented_operators_alone(
    name: str, precision: str, portable: dict[tuple[str, str], ExportedGraph]
) -> None:
    graph = portable[name, precision]
    model = onnx.load(graph.path)
    onnx.checker.check_model(model, full_check=True)
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": OPSET}
    assert OPSET <= 20
    assert (len(model.functions), model.ir_version) == (0, IR_VERSION)
    assert {node.domain for node in model.graph.node} == {""}
    assert {node.op_type for node in model.graph.node} <= DOCUMENTED
    assert graph.form == "portable"
    assert graph.contract.max_batch == MAX_BATCH
    assert load_graph(graph.path) == graph


def test_what_tensorrt_wants_constant_is(portable: dict[tuple[str, str], ExportedGraph]) -> None:
    """Axes and pieces, by its documentation."""
    for graph in portable.values():
        model = onnx.load(graph.path)
        constants = {tensor.name for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type.startswith("Reduce") or node.op_type == "Split":
                assert set(node.input[1:]) <= constants, (graph.name, node.name)


@pytest.mark.parametrize(("name", "precision"), EVERY)
def test_it_agrees_with_the_standard_graph(
    name: str, precision: str, portable: dict[tuple[str, str], ExportedGraph], everything: Path
) -> None:
    graph, standard = portable[name, precision], find_graphs(everything, precision)[name]
    assert dataclasses.replace(standard.contract, max_batch=MAX_BATCH) == graph.contract
    assert standard.weights_sha256 == graph.weights_sha256
    assert standard.form == "standard"
    expected, found = onnx_runner(standard.path, standard.contract), onnx_runner(graph.path, graph.contract)
    for feeds in parity_feeds(graph.contract, seed=5):
        assert not shortfalls(compare(expected(feeds), found(feeds), graph.contract), graph.contract, precision)


def test_one_generator_for_all_kinds_has_the_form_too(tmp_path: Path) -> None:
    model = override(load_preset("tiny"), {"model.generator.architecture": "shared"}).model
    torch.manual_seed(9)
    module, contract = OutfitGraph(build_generator(model)), outfit_contract(model)
    graph = export_graph(module, contract, "fp16", tmp_path / "generator_outfit.fp16.onnx", form=PORTABLE)
    assert {node.op_type for node in onnx.load(graph.path).graph.node} <= DOCUMENTED


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 2e-5), (np.float16, 2e-2)])
@pytest.mark.parametrize("temperature", [1.0, 0.05, 0.01])
def test_chunks_follow_the_definition(dtype: type, limit: float, temperature: float) -> None:
    arrays = draw(dtype, grid=SEVERAL_CHUNKS)
    found = run(one_node(dtype, SEVERAL_CHUNKS, temperature), *arrays)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, definition(*arrays, temperature), atol=limit, rtol=0)
    whole = reference(*(torch.from_numpy(array).float() for array in arrays), temperature).numpy()
    np.testing.assert_allclose(found, whole, atol=limit, rtol=0)


def test_onnx_own_evaluator_agrees() -> None:
    arrays, model = draw(np.float32, grid=SEVERAL_CHUNKS), one_node(np.float32, SEVERAL_CHUNKS, 0.05)
    evaluated = ReferenceEvaluator(model).run(None, dict(zip(("target", "source", "values"), arrays, strict=True)))[0]
    np.testing.assert_allclose(run(model, *arrays), evaluated, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_adversarial_features_stay_finite_and_right(dtype: type) -> None:
    model = one_node(dtype, SEVERAL_CHUNKS, 0.01)
    target, source, values = draw(np.float32, grid=SEVERAL_CHUNKS)
    huge = [x / np.abs(x).max() * 6e4 for x in (target, source)]
    flat, empty, hollow = source.copy(), target.copy(), source.copy()
    flat[:] = source[:, :, :1, :1]
    empty[:, :, 8:] = 0  # a binary mask's ground: of one chunk in part, and of the next
    hollow[:, :, 3:30] = 0
    cases = {
        "6e4": (*huge, values),
        "values of 6e4": (target, source, values / np.abs(values).max() * 6e4),
        "flat": (target, flat, values),
        "partly zero": (empty, hollow, values),
        "one image's source": (empty, hollow * np.arange(2)[:, None, None, None], values),
        "zero target": (target * 0, source, values),
        "zero source": (target, source * 0, values),
        "zero": (target * 0, source * 0, values),
        "tiny": (target * 1e-7, source, values),
    }
    for label, case in cases.items():
        arrays = [x.astype(dtype) for x in case]
        found = run(model, *arrays)
        assert np.isfinite(found).all(), label
        expected = definition(*arrays, 0.01)
        scale = float(np.abs(arrays[2]).max())
        np.testing.assert_allclose(found / scale, expected / scale, atol=2e-2, err_msg=label)
        assert not found[expected == 0].any(), label


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 2e-5), (np.float16, 2e-3)])
def test_zero_vectors_take_no_part_in_any_chunk(dtype: type, limit: float) -> None:
    """At temperature 1, at which all weights are of one order."""
    target, source, values = with_ground(draw(dtype, grid=SEVERAL_CHUNKS), 0.8)
    model = one_node(dtype, SEVERAL_CHUNKS, 1.0)
    found, expected = run(model, target, source, values), definition(target, source, values, 1.0)
    np.testing.assert_allclose(found, expected, atol=limit, rtol=0)
    assert not found[expected == 0].any()
    wild = np.where(source.any(1, keepdims=True), values, dtype(6e4))  # a weight of 0 takes any value
    np.testing.assert_array_equal(run(model, target, source, wild), found)
    assert (run(one_node(dtype, SEVERAL_CHUNKS, 0.01), *opposites(dtype)) == 0.5).all()


def test_the_whole_matrix_is_in_no_tensor(chunked: ExportedGraph) -> None:
    model = onnx.load(chunked.path)
    positions = 64 * 64
    assert largest_matrix(model) == ROWS * positions < positions**2
    splits = [len(node.output) for node in model.graph.node if node.op_type == "Split"]
    assert splits.count(positions // ROWS) == 2  # of the correlation and of the best match


def test_each_chunk_waits_for_the_one_before(chunked: ExportedGraph) -> None:
    model = onnx.load(chunked.path)
    origins: dict[str, set[str]] = {}
    for node in model.graph.node:
        reached = set().union({*node.input}, *(origins.get(name, set()) for name in node.input))
        for name in node.output:
            origins[name] = reached
    for split in (node for node in model.graph.node if node.op_type == "Split"):
        chunks = list(split.output)
        products = [
            node
            for node in model.graph.node
            if node.op_type == "MatMul" and {*chunks} & origins[node.output[0]] and "Softmax" not in node.name
        ]
        assert products
        for product in products:
            reached = sorted(chunks.index(name) for name in origins[product.output[0]] if name in chunks)
            assert reached == list(range(len(reached)))  # its own chunk, and all before it


def test_an_unknown_grid_and_an_unknown_form_are_said() -> None:
    with pytest.raises(GraphError, match="cannot infer the grid of"):
        one_node(np.float32, ("h", "w", "x", "y"), 0.05)  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="There is no graph form 'compact'; choose from standard, portable"):
        form_of("compact")


@pytest.fixture(scope="module")
def trt() -> ModuleType:
    return pytest.importorskip(
        "tensorrt_rtx", reason="TensorRT for RTX is not installed; pip install tensorrt-rtx-cu13"
    )


def compiled(trt: ModuleType, graph: ExportedGraph) -> tuple[int, str]:
    """Return the bytes of a graph's activations in TensorRT for RTX, and the table of its layers."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            self.lines.append(msg)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse(graph.path.read_bytes()), [parser.get_error(index).desc() for index in range(parser.num_errors)]
    profile, config = builder.create_optimization_profile(), builder.create_builder_config()
    for spec in graph.contract.inputs:
        profile.set_shape(spec.name, *((batch, *spec.shape) for batch in (1, 1, graph.contract.max_batch)))
    config.add_optimization_profile(profile)
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    assert builder.build_serialized_network(network, config) is not None, log.lines[-5:]
    said = "\n".join(log.lines)
    found = re.search(r"Total Activation Memory: (\d+) bytes", said)
    assert found
    return int(found[1]), said


@pytest.mark.parametrize(("name", "precision"), [case for case in EVERY if case[1] in ("fp16", "int8-fp16")])
def test_a_real_parser_and_compiler_take_every_graph(
    name: str, precision: str, portable: dict[tuple[str, str], ExportedGraph], trt: ModuleType
) -> None:
    compiled(trt, portable[name, precision])


def test_a_real_compiler_does_not_join_the_chunks(chunked: ExportedGraph, trt: ModuleType) -> None:
    """Chunks that need not take turns it does: a tensor of 4096 by 4096, and three times the memory."""
    memory, table = compiled(trt, chunked)
    assert "Layers:" in table
    assert "Dimensions: [-1,1024,4096]" in table
    assert "4096,4096]" not in table
    assert memory < 110e6
