"""A tiny run exported for real: every graph in both precisions against torch, onnxruntime running the files."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from torch import nn

from export import exporter, traces
from export.boundary import AlignmentGraph, CollocationGraph, GeneratorGraph
from export.correlate_function import correlate_nodes
from export.exported import ExportedGraph, find_graphs, load_graph
from export.exporter import export_graph
from export.graph_types import check_types
from export.modules import run_modules
from export.parity import adversarial_inputs, compare, shortfalls
from outfitgan.config import ModelConfig, load_preset, override
from outfitgan.errors import GraphError
from outfitgan.items import ItemKind
from outfitgan.model_graphs import alignment_contract, collocation_contract, generator_contract
from outfitgan.networks.alignment import SemanticAlignment
from outfitgan.networks.architectures import OutfitGenerator, alignments_of
from outfitgan.networks.collocation import CollocationClassifier
from outfitgan.networks.pix2pix import MaskGenerator

Exported = dict[tuple[str, str], ExportedGraph]
KINDS = ("bag", "lower", "shoes")
WHOLE = {"collocation"} | {f"{role}_{kind}" for role in ("generator", "alignment", "mask_generator") for kind in KINDS}
GRAPHS = ("generator_bag", "generator_shoes", "alignment_bag", "alignment_shoes", "collocation", "mask_generator_bag")
PRECISIONS = ("fp32", "fp16")


@pytest.fixture(scope="module")
def modules(
    generator: OutfitGenerator, collocation: CollocationClassifier, mask_generators: dict[ItemKind, MaskGenerator]
) -> dict[str, nn.Module]:
    return run_modules(generator, collocation, mask_generators)


def run_torch(module: nn.Module, graph: ExportedGraph, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        found = module(*(torch.from_numpy(feeds[spec.name]) for spec in graph.contract.inputs))
    tensors = found if isinstance(found, tuple) else (found,)
    names = [spec.name for spec in graph.contract.outputs]
    return {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}


def run_file(graph: ExportedGraph, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(graph.path), providers=["CPUExecutionProvider"])
    names = [spec.name for spec in graph.contract.outputs]
    return dict(zip(names, session.run(names, feeds), strict=True))


def test_a_run_has_its_graphs_in_both_precisions(exported: Exported) -> None:
    assert set(exported) == {(name, precision) for name in WHOLE for precision in PRECISIONS}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("batch", [1, 2, 8])
def test_every_adversarial_row_agrees_with_torch(
    name: str, precision: str, batch: int, exported: Exported, modules: dict[str, nn.Module]
) -> None:
    graph, module = exported[name, precision], modules[name]
    for label, feeds in adversarial_inputs(graph.contract, batch, seed=11):
        found = run_file(graph, feeds)
        figures = compare(run_torch(module, graph, feeds), found, graph.contract)
        assert not shortfalls(figures, graph.contract, precision), label
        for spec in graph.contract.outputs:
            assert found[spec.name].shape == (batch, *spec.shape)


def test_matches_agree_on_a_random_row_wherever_the_weight_lies(
    exported: Exported, modules: dict[str, nn.Module]
) -> None:
    graph = exported["alignment_bag", "fp32"]
    feeds = adversarial_inputs(graph.contract, 1, 11)[0][1]
    expected = run_torch(modules["alignment_bag"], graph, feeds)["MATCH"]
    assert (run_file(graph, feeds)["MATCH"] == expected).mean() > 0.99


@pytest.mark.parametrize(("role", "output"), [("generator", "IMAGE"), ("mask_generator", "MASK")])
def test_kinds_keep_their_own_weights(role: str, output: str, exported: Exported) -> None:
    graphs = [exported[f"{role}_{kind}", "fp32"] for kind in ("bag", "shoes")]
    feeds = adversarial_inputs(graphs[0].contract, 1, 0)[0][1]
    bag, shoes = (run_file(graph, feeds)[output] for graph in graphs)
    assert np.abs(bag.astype(int) - shoes).mean() > 1
    assert graphs[0].weights_sha256 != graphs[1].weights_sha256


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", GRAPHS)
def test_file_is_sound_and_holds_one_correlate_per_sam(name: str, precision: str, exported: Exported) -> None:
    model = onnx.load(exported[name, precision].path)
    onnx.checker.check_model(model, full_check=True)
    nodes = correlate_nodes(model)
    assert len(nodes) == (1 if name.startswith(("generator", "alignment")) else 0)
    assert len(model.functions) == len(nodes)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 23
    for node in nodes:
        attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        assert attributes.pop("temperature") == pytest.approx(load_preset("tiny").model.generator.alignment.temperature)
        assert attributes == {"plugin_namespace": b"outfitgan", "plugin_version": b"1", "aot": 1}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", GRAPHS)
def test_no_exponential_is_left_to_the_engine_to_keep_finite(name: str, precision: str, exported: Exported) -> None:
    """TensorRT reads a logarithm of a sum of exponentials literally: FP32 overflows above 88.7, FP16 above 11."""
    model = onnx.load(exported[name, precision].path)
    kinds = {node.op_type for nodes in (model.graph.node, *(f.node for f in model.functions)) for node in nodes}
    assert not kinds & {"ReduceLogSumExp", "ReduceLogSum", "LogSoftmax"}


def test_a_cold_sam_exponentiates_nothing_above_zero(tmp_path: Path) -> None:
    """At the coldest temperature of the presets, where logits reach 100."""
    config = load_preset("tiny").model
    alignment = dataclasses.replace(config.generator.alignment, temperature=0.01)
    torch.manual_seed(0)
    sam = SemanticAlignment(dataclasses.replace(config.generator, alignment=alignment))
    contract = alignment_contract(ItemKind.BAG, config)
    model = onnx.load(export_graph(AlignmentGraph(sam), contract, "fp32", tmp_path / "cold.fp32.onnx").path)
    (exponential,) = (node for node in model.graph.node if node.op_type == "Exp")
    (shifted,) = (node for node in model.graph.node if node.output[0] == exponential.input[0])
    inner = (shifted.input[0], exponential.input[0])  # the logits, and what is exponentiated
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = adversarial_inputs(contract, 1, 0)[0][1]
    feeds["MASK"] = np.zeros_like(feeds["MASK"])
    feeds["MASK"][:, 16:48, 16:48] = 255
    logits, exponents, weight = session.run([*inner, "WEIGHT"], feeds)
    assert logits.max() > 88.7  # or this test shows nothing
    assert exponents.max() == 0
    wide = torch.from_numpy(logits).double()
    expected = (wide.amax(-1) - wide.logsumexp(-1)).exp().reshape(weight.shape)
    matched = weight > 0  # the others' vectors are zero, and match nothing
    assert matched.any()
    assert np.abs(weight - expected.numpy())[matched].max() < 1e-5


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", GRAPHS)
def test_file_declares_the_contract(name: str, precision: str, exported: Exported) -> None:
    graph = exported[name, precision]
    model = onnx.load(graph.path)
    for infos, specs in ((model.graph.input, graph.contract.inputs), (model.graph.output, graph.contract.outputs)):
        assert [info.name for info in infos] == [spec.name for spec in specs]
        for info, spec in zip(infos, specs, strict=True):
            batch, *rest = info.type.tensor_type.shape.dim
            assert batch.dim_param == "batch"
            assert tuple(dim.dim_value for dim in rest) == spec.shape
            assert info.type.tensor_type.elem_type == onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))


@pytest.mark.parametrize("name", GRAPHS)
def test_fp16_weights_are_half_and_fp32_ones_are_not(name: str, exported: Exported) -> None:
    for precision, wanted in (("fp32", TensorProto.FLOAT), ("fp16", TensorProto.FLOAT16)):
        model = onnx.load(exported[name, precision].path)
        weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) >= 3]
        assert weights
        assert {tensor.data_type for tensor in weights} - {TensorProto.INT64} == {wanted}
        check_types(model, precision)
        with pytest.raises(GraphError, match="cast it"):
            check_types(model, "fp16" if precision == "fp32" else "fp32")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_wide_weights_that_follow_from_others_are_constants_too(tmp_path: Path, precision: str) -> None:
    """The SAM's centred projections: computed in the graph they would cost time, and INT8 would not take them."""
    model = override(load_preset("tiny"), {"model.generator.alignment.match_channels": 300}).model
    contract = alignment_contract(ItemKind.BAG, model)
    module = AlignmentGraph(SemanticAlignment(model.generator))
    graph = onnx.load(export_graph(module, contract, precision, tmp_path / "wide.onnx").path).graph
    constants = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    weights = [constants.get(node.input[1]) for node in graph.node if node.op_type == "Conv"]
    assert None not in weights
    assert any(dims[0] * dims[1] > 8192 and dims[2:] == [1, 1] for dims in weights if dims)


def test_a_convolution_fed_in_fp32_is_found(exported: Exported) -> None:
    model = onnx.load(exported["generator_bag", "fp16"].path)
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    cast = onnx.helper.make_node("Cast", [convolution.input[0]], ["wide"], to=TensorProto.FLOAT)
    convolution.input[0] = "wide"
    model.graph.node.insert(list(model.graph.node).index(convolution), cast)
    with pytest.raises(GraphError, match="input wide of Conv"):
        check_types(model, "fp16")


def test_an_operand_whose_type_is_unknown_is_refused(exported: Exported) -> None:
    model = onnx.load(exported["generator_bag", "fp16"].path)
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    unknown = onnx.helper.make_node("Mystery", [convolution.input[0]], ["vague"], domain="elsewhere")
    convolution.input[0] = "vague"
    model.opset_import.append(onnx.helper.make_opsetid("elsewhere", 1))
    model.graph.node.insert(list(model.graph.node).index(convolution), unknown)
    with pytest.raises(GraphError, match=r"input vague of Conv .* whose type onnx cannot infer"):
        check_types(model, "fp16")


def test_onnx_own_evaluator_agrees(exported: Exported) -> None:
    graph = exported["alignment_bag", "fp32"]
    feeds = adversarial_inputs(graph.contract, 2, 5)[0][1]
    names = [spec.name for spec in graph.contract.outputs]
    found = ReferenceEvaluator(onnx.load(graph.path)).run(names, feeds)
    figures = compare(dict(zip(names, found, strict=True)), run_file(graph, feeds), graph.contract)
    assert not shortfalls(figures, graph.contract, "fp32")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_file_says_nothing_of_where_it_was_made(precision: str, exported: Exported) -> None:
    content = exported["generator_bag", precision].path.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert b"site-packages" not in content


def test_sidecar_round_trip(exported: Exported) -> None:
    for graph in exported.values():
        assert load_graph(graph.path) == graph
    assert set(find_graphs(exported["collocation", "fp16"].path.parent, "fp16")) == WHOLE


def copied(graph: ExportedGraph, folder: Path) -> Path:
    for file in (graph.path, graph.path.with_suffix(".json")):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder / graph.path.name


def test_altered_file_is_refused(exported: Exported, tmp_path: Path) -> None:
    path = copied(exported["collocation", "fp32"], tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(GraphError, match="was altered after its export"):
        load_graph(path)


def test_missing_or_broken_sidecar_is_refused(exported: Exported, tmp_path: Path) -> None:
    path = copied(exported["collocation", "fp32"], tmp_path)
    sidecar = path.with_suffix(".json")
    data = json.loads(sidecar.read_text())
    for text, message in (("{", "not JSON"), ("[]", "not a graph's sidecar"), ("{}", "not a graph's sidecar")):
        sidecar.write_text(text)
        with pytest.raises(GraphError, match=message):
            load_graph(path)
    sidecar.write_text(json.dumps({**data, "contract": {}}))
    with pytest.raises(GraphError, match="contract is not readable"):
        load_graph(path)
    sidecar.unlink()
    with pytest.raises(GraphError, match="No such file"):
        load_graph(path)


def test_no_graphs_and_unknown_precision_are_said(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="no finished fp32 export"):
        find_graphs(tmp_path, "fp32")
    with pytest.raises(GraphError, match="no graph precision 'int4'"):
        find_graphs(tmp_path, "int4")


def test_out_of_tolerance_fails_and_leaves_nothing(
    tiny: ModelConfig, collocation: CollocationClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = exporter._references

    def shifted(*arguments: object) -> list[dict[str, np.ndarray]]:
        return [{name: array + np.float32(0.01) for name, array in row.items()} for row in references(*arguments)]

    monkeypatch.setattr(exporter, "_references", shifted)
    with pytest.raises(GraphError, match=r"collocation is out of tolerance .*COMPATIBILITY: max abs 0\.01"):
        export_graph(CollocationGraph(collocation), collocation_contract(tiny), "fp32", tmp_path / "c.fp32.onnx")
    assert not list(tmp_path.iterdir())


def test_export_repeats_to_the_byte_and_leaves_the_network_alone(
    tiny: ModelConfig, collocation: CollocationClassifier, exported: Exported, tmp_path: Path
) -> None:
    before = copy.deepcopy(collocation.state_dict())
    contract = collocation_contract(tiny)
    again = export_graph(CollocationGraph(collocation), contract, "fp16", tmp_path / "collocation.fp16.onnx")
    first = exported["collocation", "fp16"]
    assert again.sha256 == first.sha256
    assert again == dataclasses.replace(first, path=again.path)
    for name, tensor in collocation.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_temperature_is_not_shared_between_architectures(tiny: ModelConfig, generator: OutfitGenerator) -> None:
    alignments = alignments_of(generator)
    sharp = copy.deepcopy(alignments[ItemKind.BAG])
    sharp.temperature = 0.01  # type: ignore[assignment]
    contract = alignment_contract(ItemKind.BAG, tiny)
    keys = {
        traces.architecture(AlignmentGraph(network), contract, "fp32")
        for network in (alignments[ItemKind.BAG], alignments[ItemKind.SHOES], sharp)
    }
    assert len(keys) == 2


def test_missing_weights_are_said(generator: OutfitGenerator) -> None:
    with pytest.raises(GraphError, match=r"lacks \d+ weights, generator\.alignment"):
        traces.put_weights(onnx.ModelProto(), GeneratorGraph(generator.items[ItemKind.BAG]))


def test_unknown_precision_is_refused(tiny: ModelConfig, generator: OutfitGenerator, tmp_path: Path) -> None:
    module, contract = GeneratorGraph(generator.items[ItemKind.BAG]), generator_contract(ItemKind.BAG, tiny)
    with pytest.raises(GraphError, match="no graph precision 'int4'"):
        export_graph(module, contract, "int4", tmp_path / "g.onnx")
