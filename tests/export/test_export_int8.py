"""INT8 graphs of a tiny run: what is rounded, by how much, and what is refused."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from export import quantise as quantise_module
from export.boundary import GeneratorGraph
from export.calibration import CHECKED, Calibration, Samples, open_calibration
from export.correlate_function import correlate_nodes
from export.exported import ExportedGraph, find_graphs, load_graph
from export.exporter import export_graph
from export.graph_types import check_types
from export.modules import run_module
from export.parity import compare, parity_feeds, tolerance_of
from export.qdq import OUTPUT_RANGES, check_quantised
from export.quantise import PERCENTILE, quantise
from outfitgan.config import Config, ModelConfig, load_preset
from outfitgan.data.open_outfits import open_outfits
from outfitgan.errors import ConfigError, GraphError
from outfitgan.items import ItemKind
from outfitgan.model_graphs import ItemGraph, item_graphs
from outfitgan.networks.architectures import OutfitGenerator

Exported = dict[tuple[str, str], ExportedGraph]
COUNT = 4


@pytest.fixture(scope="module")
def config() -> Config:
    return load_preset("tiny")


@pytest.fixture(scope="module")
def item_graph(tiny: ModelConfig) -> ItemGraph:
    return item_graphs(tiny)[0]


@pytest.fixture(scope="module")
def samples(calibration: Calibration, item_graph: ItemGraph) -> Samples:
    return calibration.samples(item_graph)


@pytest.fixture(scope="module")
def int8(everything: Path) -> dict[str, ExportedGraph]:
    """A whole INT8 export, by graph."""
    return find_graphs(everything, "int8")


@pytest.fixture
def model(int8: dict[str, ExportedGraph]) -> onnx.ModelProto:
    """One generator's INT8 graph, for a test to spoil."""
    return onnx.load(int8["generator_bag"].path)


def weights_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


# Which graphs, from which outfits


def test_generators_are_rounded_and_the_rest_is_the_fp32_export(
    int8: dict[str, ExportedGraph], exported: Exported
) -> None:
    for name, graph in int8.items():
        assert graph.precision == ("int8" if name.startswith("generator_") else "fp32"), name
        if graph.precision == "fp32":
            assert graph == exported[name, "fp32"]
    halves = find_graphs(int8["collocation"].path.parent, "int8-fp16")
    assert {graph.precision for graph in halves.values()} == {"int8-fp16", "fp16"}
    assert halves["collocation"] == exported["collocation", "fp16"]


def test_weights_take_a_quarter_of_the_bytes(int8: dict[str, ExportedGraph], exported: Exported) -> None:
    def bytes_of(graph: ExportedGraph) -> int:
        return sum(array.nbytes for array in weights_of(onnx.load(graph.path)).values() if array.ndim == 4)

    assert bytes_of(int8["generator_bag"]) == bytes_of(exported["generator_bag", "fp32"]) / 4


def test_sidecar_says_which_outfits(int8: dict[str, ExportedGraph], config: Config) -> None:
    graph = int8["generator_lower"]
    assert load_graph(graph.path) == graph
    said = json.loads(graph.path.with_suffix(".json").read_text())["calibration"]
    assert (said["method"], said["count"], len(set(said["outfits"]))) == ("percentile 99.99", COUNT, COUNT)
    source = open_outfits(config.data, config.model.image_size, "train", config.training.seed)
    outfits = {outfit.name: outfit for outfit in (source[index] for index in range(len(source)))}
    digest = hashlib.sha256()
    for name in said["outfits"]:
        items = outfits[name].items
        digest.update(b"MASK" + items[ItemKind.LOWER].mask.tobytes())
        digest.update(b"SOURCE" + items[ItemKind.UPPER].image.tobytes())
    assert said["sha256"] == digest.hexdigest()
    assert "calibration" not in json.loads(int8["collocation"].path.with_suffix(".json").read_text())


def test_no_outfit_both_calibrates_and_checks(config: Config) -> None:
    drawn = open_calibration(config, 10)
    shown, unseen = ({outfit.name for outfit in outfits} for outfits in (drawn.shown, drawn.unseen))
    assert (len(shown), len(unseen)) == (10, CHECKED)
    assert not shown & unseen
    assert [outfit.name for outfit in open_calibration(config, 10).shown] == [outfit.name for outfit in drawn.shown]


@pytest.mark.parametrize("count", [0, 45])
def test_a_count_that_the_run_has_not_is_refused(config: Config, count: int) -> None:
    with pytest.raises(ConfigError, match=f"has 48 training outfits, 4 of .* calibrate on 1 to 44, not on {count}"):
        open_calibration(config, count)


# What is rounded


def fp32_reads(model: onnx.ModelProto, samples: Samples) -> tuple[list[str], list[np.ndarray]]:
    """Return what convolutions of an FP32 graph read, and its values over all samples that are shown."""
    names = list(dict.fromkeys(node.input[0] for node in model.graph.node if node.op_type == "Conv"))
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    wider.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(wider.SerializeToString(), providers=["CPUExecutionProvider"])
    runs = [session.run(names, feed) for feed in samples.shown]
    return names, [np.concatenate([np.ravel(array) for array in tensor]) for tensor in zip(*runs, strict=True)]


def test_every_tensor_keeps_all_but_its_farthest_values(
    exported: Exported, int8: dict[str, ExportedGraph], samples: Samples, model: onnx.ModelProto
) -> None:
    names, values = fp32_reads(onnx.load(exported["generator_bag", "fp32"].path), samples)
    scales = weights_of(model)
    convolutions = check_quantised(model)
    assert {found.data for found in convolutions} == set(names)
    for name, array in zip(names, values, strict=True):
        reach = 127 * float(scales[f"{name}.scale"])
        assert (np.abs(array) <= reach * 1.001).mean() > PERCENTILE / 100 - 1e-3, name
        assert reach <= np.abs(array).max() * 1.001, name


def test_weights_are_those_of_torchs_own_rounding(exported: Exported, model: onnx.ModelProto) -> None:
    exact, stored = weights_of(onnx.load(exported["generator_bag", "fp32"].path)), weights_of(model)
    for found in check_quantised(model):
        original = torch.from_numpy(exact[found.weight.removesuffix(".int8")].copy())  # (O, I, kH, kW)
        scale = original.abs().amax(dim=(1, 2, 3)) / 127
        scale[scale == 0] = 1
        rounded = torch.fake_quantize_per_channel_affine(original, scale, torch.zeros(len(scale)), 0, -127, 127)
        found_values = stored[found.weight].astype(np.float32) * stored[found.weight_scale][:, None, None, None]
        np.testing.assert_allclose(found_values, rounded.numpy(), rtol=1e-5, atol=1e-7)


@pytest.fixture
def rounding_torch(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let torch round what its convolutions multiply, by the scales of the graph; returns how many it did."""
    convolutions, scales, done = check_quantised(model), weights_of(model), itertools.count()
    exact, calls = F.conv2d, []

    def rounding(x: Tensor, weight: Tensor, *rest: object, **options: object) -> Tensor:
        found = convolutions[next(done) % len(convolutions)]
        scale = torch.from_numpy(scales[found.weight_scale].copy())
        assert len(scale) == len(weight)
        calls.append(found)
        x = torch.fake_quantize_per_tensor_affine(x, float(scales[found.data_scale]), 0, -128, 127)
        weight = torch.fake_quantize_per_channel_affine(weight, scale, torch.zeros(len(scale)), 0, -127, 127)
        return exact(x, weight, *rest, **options)

    monkeypatch.setattr(F, "conv2d", rounding)
    return lambda: len(calls)


def test_the_graph_computes_what_torch_does_with_rounded_operands(
    int8: dict[str, ExportedGraph],
    generator: OutfitGenerator,
    samples: Samples,
    rounding_torch: Callable[[], int],
) -> None:
    graph = int8["generator_bag"]
    session = onnxruntime.InferenceSession(str(graph.path), providers=["CPUExecutionProvider"])
    module = GeneratorGraph(generator.items[ItemKind.BAG]).eval()
    for feed in (samples.unseen[0], parity_feeds(graph.contract)[1]):
        expected = run_module(module, graph.contract, feed)
        figures = compare(expected, {"IMAGE": session.run(["IMAGE"], feed)[0]}, graph.contract)
        # A value on the edge between two levels may round either way, and the softmax passes it on.
        assert figures["IMAGE"].psnr_db > 50
    assert rounding_torch() == 2 * 24


def test_rounding_costs_something_and_less_than_is_allowed(int8: dict[str, ExportedGraph]) -> None:
    for name in ("generator_bag", "generator_lower", "generator_shoes"):
        graph = int8[name]
        allowed = tolerance_of(graph.contract.outputs[0], "int8").psnr_db
        assert allowed < graph.parity["IMAGE"]["psnr_db"] < 60


def test_the_correlation_is_left_alone(exported: Exported, model: onnx.ModelProto) -> None:
    before = onnx.load(exported["generator_bag", "fp32"].path)
    assert [node.SerializeToString() for node in correlate_nodes(model)] == [
        node.SerializeToString() for node in correlate_nodes(before)
    ]
    assert [function.SerializeToString() for function in model.functions] == [
        function.SerializeToString() for function in before.functions
    ]
    assert not [name for name in correlate_nodes(model)[0].input if name.endswith(".rounded")]


def test_output_ranges_cover_every_convolution(model: onnx.ModelProto) -> None:
    said = json.loads({entry.key: entry.value for entry in model.metadata_props}[OUTPUT_RANGES])
    assert set(said) == {found.node.output[0] for found in check_quantised(model)}
    assert min(said.values()) > 0


def test_int8_in_fp16_is_typed_for_tensorrt(everything: Path) -> None:
    model = onnx.load(find_graphs(everything, "int8-fp16")["generator_bag"].path)
    check_types(model, "fp16")
    stored, convolutions = weights_of(model), check_quantised(model)
    scales = {name for found in convolutions for name in (found.data_scale, found.weight_scale)}
    assert {stored[name].dtype for name in scales} == {np.dtype(np.float16)}
    assert {stored[found.weight].dtype for found in convolutions} == {np.dtype(np.int8)}
    inferred = onnx.shape_inference.infer_shapes(model).graph
    kinds = {info.name: info.type.tensor_type.elem_type for info in inferred.value_info}
    assert {kinds[name] for name in correlate_nodes(model)[0].input} == {TensorProto.FLOAT16}


def test_rounding_repeats_to_the_byte(exported: Exported, model: onnx.ModelProto, samples: Samples) -> None:
    again = quantise(onnx.load(exported["generator_bag", "fp32"].path), samples.shown)
    assert again.graph.SerializeToString(deterministic=True) == model.graph.SerializeToString(deterministic=True)


# What is refused


def edge(model: onnx.ModelProto, kind: str, index: int, name: str) -> None:
    """Let the first node of a kind read another tensor."""
    next(node for node in model.graph.node if node.op_type == kind).input[index] = name


def first(model: onnx.ModelProto) -> str:
    """Return what the first convolution reads, before it is rounded."""
    return check_quantised(model)[0].data


def tensor(model: onnx.ModelProto, suffix: str, array: np.ndarray) -> None:
    """Replace the first initializer whose name ends so."""
    found = next(tensor for tensor in model.graph.initializer if tensor.name.endswith(suffix))
    found.CopyFrom(numpy_helper.from_array(array, found.name))


def round_correlation(model: onnx.ModelProto) -> None:
    correlate = correlate_nodes(model)[0]
    place = list(model.graph.node).index(correlate)
    source, scale = correlate.input[0], f"{first(model)}.scale"
    model.graph.node.insert(place, helper.make_node("DequantizeLinear", ["c8", scale, "int8.zero"], ["c.rounded"]))
    model.graph.node.insert(place, helper.make_node("QuantizeLinear", [source, scale, "int8.zero"], ["c8"]))
    correlate_nodes(model)[0].input[0] = "c.rounded"


def wide_scale(model: onnx.ModelProto) -> None:
    tensor(model, "weight.scale", np.array(0.01, np.float32))


MUTANTS: list[tuple[Callable[[onnx.ModelProto], None], str]] = [
    (round_correlation, "Correlate .* reads c.rounded, which is rounded to INT8"),
    (lambda m: edge(m, "Conv", 0, first(m)), "does not read a tensor that was rounded to INT8"),
    (lambda m: edge(m, "Conv", 0, f"{first(m)}.int8"), "does not read a tensor that was rounded to INT8"),
    (lambda m: edge(m, "Conv", 1, "generator.head.weight.int8"), "does not read weights in INT8"),
    (lambda m: edge(m, "Add", 0, f"{first(m)}.rounded"), "Add .* reads .*rounded, which is rounded to INT8"),
    (lambda m: edge(m, "Conv", 2, f"{first(m)}.rounded"), "Conv .* reads .*rounded, which is rounded to INT8"),
    (lambda m: tensor(m, "int8.zero", np.array(3, np.int8)), "was not rounded to INT8 about 0"),
    (lambda m: tensor(m, "int8.zero", np.array(0, np.uint8)), "was not rounded to INT8 about 0"),
    (lambda m: tensor(m, "weight.int8", np.zeros((8, 1, 3, 3), np.uint8)), "no INT8 weights with a scale"),
    (wide_scale, "no INT8 weights with a scale for each output channel"),
    (
        lambda m: edge(m, "DequantizeLinear", 1, "generator.head.weight.scale"),
        "not rounded to INT8 about 0|no INT8 weights",
    ),
    (lambda m: setattr(m.graph.output[0], "name", f"{first(m)}.rounded"), "The output .*rounded is rounded to INT8"),
    (lambda m: m.functions[0].node.pop(), "The correlation of this graph was changed"),
    (lambda m: m.functions.pop(), "The correlation of this graph was changed"),
]


@pytest.mark.parametrize(("spoil", "message"), MUTANTS)
def test_another_rounding_is_refused(
    spoil: Callable[[onnx.ModelProto], None], message: str, model: onnx.ModelProto
) -> None:
    check_quantised(model)
    spoil(model)
    with pytest.raises(GraphError, match=message):
        check_quantised(model)


def test_a_graph_without_convolutions_is_refused() -> None:
    with pytest.raises(GraphError, match="no convolution to quantise"):
        check_quantised(onnx.ModelProto())


def test_fp32_and_fp16_graphs_are_no_int8_graphs(exported: Exported) -> None:
    for precision in ("fp32", "fp16"):
        with pytest.raises(GraphError, match="does not read a tensor that was rounded"):
            check_quantised(onnx.load(exported["generator_bag", precision].path))


def test_ranges_that_are_too_narrow_fail_the_export(
    generator: OutfitGenerator, item_graph: ItemGraph, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantise_module, "PERCENTILE", 60)  # two of five values are cut off
    module, path = GeneratorGraph(generator.items[ItemKind.BAG]), tmp_path / "g.int8.onnx"
    with pytest.raises(GraphError, match=r"int8 graph generator_bag is out of tolerance .*IMAGE: PSNR .* dB"):
        export_graph(module, item_graph.contract, "int8", path, samples)
    assert not list(tmp_path.iterdir())


def test_an_export_without_outfits_is_refused(
    generator: OutfitGenerator, item_graph: ItemGraph, tmp_path: Path
) -> None:
    with pytest.raises(GraphError, match="int8 graph generator_bag needs outfits to calibrate on"):
        export_graph(GeneratorGraph(generator.items[ItemKind.BAG]), item_graph.contract, "int8", tmp_path / "g.onnx")


# Any convolution


def convolution(weight: np.ndarray) -> onnx.ModelProto:
    """Return a graph of one 3x3 convolution."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv", pads=[1, 1, 1, 1])
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", channels, 6, 6])
        for name, channels in (("x", weight.shape[1]), ("y", weight.shape[0]))
    ]
    graph = helper.make_graph([node], "g", infos[:1], infos[1:], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


@settings(max_examples=12, deadline=None)
@given(
    arrays(np.float32, (3, 2, 3, 3), elements=st.floats(-1e4, 1e4, width=32)),
    arrays(np.float32, (1, 2, 6, 6), elements=st.floats(-1e4, 1e4, width=32)),
)
def test_any_convolution_errs_by_half_a_step_an_operand(weight: np.ndarray, x: np.ndarray) -> None:
    model = quantise(convolution(weight), [{"x": x}])
    (found,) = check_quantised(model)
    stored = weights_of(model)
    step, steps = float(stored[found.data_scale]), stored[found.weight_scale]
    rebuilt = stored[found.weight] * steps[:, None, None, None]
    assert np.isfinite(rebuilt).all()
    assert (np.abs(rebuilt - weight) <= steps[:, None, None, None] * 0.5001 + 1e-6).all()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rounded = np.clip(np.round(x / np.float32(step)), -128, 127) * np.float32(step)
    expected = F.conv2d(torch.from_numpy(rounded).double(), torch.from_numpy(rebuilt).double(), padding=1).numpy()
    bound = float(np.abs(rebuilt).sum(axis=(1, 2, 3)).max() * np.abs(rounded).max())
    np.testing.assert_allclose(session.run(["y"], {"x": x})[0], expected, atol=1e-5 * bound + 1e-6)
