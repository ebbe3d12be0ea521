"""Every architecture and CCM as a file: the op's one node, types, a batch that varies, and torch's answers.

Mostly in FP16, the harder precision; tracing is what costs, so each file is exported once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import nn

from export.boundary import CollocationGraph
from export.correlate_function import correlate_nodes
from export.exported import ExportedGraph
from export.exporter import export_graph
from export.modules import run_module, run_modules
from export.parity import adversarial_inputs, compare, shortfalls
from outfitgan.config import ModelConfig, load_preset, override
from outfitgan.contracts import GraphContract
from outfitgan.model_graphs import collocation_contract, run_contracts
from outfitgan.networks.architectures import build_generator
from outfitgan.networks.collocation import CollocationClassifier, NextItemCollocation, build_classifier
from outfitgan.networks.visual_features import load_published

FILES = {  # what is exported: the changes of the model, the graph, the precision
    "shared fp32": ({"generator.architecture": "shared"}, "generator_outfit", "fp32"),
    "shared": ({"generator.architecture": "shared"}, "generator_outfit", "fp16"),
    "shared SAM": ({"generator.architecture": "shared"}, "alignment_lower", "fp16"),
    "hires": ({"generator.architecture": "hires"}, "generator_bag", "fp16"),
    "hires SAM": ({"generator.architecture": "hires"}, "alignment_bag", "fp16"),
    "pix2pix": ({"generator.architecture": "pix2pix", "generator.norm": "instance"}, "generator_bag", "fp16"),
    "pix2pixhd": ({"generator.architecture": "pix2pixhd"}, "generator_bag", "fp16"),
    "concatenation": ({"generator.alignment.kind": "concatenation"}, "generator_bag", "fp16"),
}
CORRELATES = {"shared fp32", "shared", "shared SAM", "hires", "hires SAM"}
CCM = {"collocation.features": "efficientnet-lite0", "collocation.head": "next-item"}


def model_of(changes: dict[str, str]) -> ModelConfig:
    return override(load_preset("tiny"), {f"model.{name}": value for name, value in changes.items()}).model


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[nn.Module, ExportedGraph]]:
    """Made when first asked for, so that one test alone is quick."""
    folder: Path = tmp_path_factory.mktemp("architectures")

    class Files(dict[str, tuple[nn.Module, ExportedGraph]]):
        def __missing__(self, name: str) -> tuple[nn.Module, ExportedGraph]:
            changes, graph, precision = FILES[name]
            model = model_of(changes)
            torch.manual_seed(9)
            module = run_modules(build_generator(model), build_classifier(model), {})[graph].eval()
            exported = export_graph(module, run_contracts(model)[graph], precision, folder / f"{name}.onnx")
            self[name] = module, exported
            return self[name]

    return Files()


def run_file(
    path: Path, contract: GraphContract, feeds: dict[str, NDArray[np.uint8]]
) -> dict[str, NDArray[np.generic]]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [spec.name for spec in contract.outputs]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("name", FILES)
def test_an_architecture_agrees_with_torch_at_every_batch(
    name: str, files: dict[str, tuple[nn.Module, ExportedGraph]]
) -> None:
    module, graph = files[name]
    for batch in (1, 2, 3, 8):
        for label, feeds in adversarial_inputs(graph.contract, batch, seed=13):
            found = run_file(graph.path, graph.contract, feeds)
            figures = compare(run_module(module, graph.contract, feeds), found, graph.contract)
            assert not shortfalls(figures, graph.contract, graph.precision), (batch, label)


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_one_correlation_or_none_and_a_batch_that_varies(
    name: str, files: dict[str, tuple[nn.Module, ExportedGraph]]
) -> None:
    model = onnx.load(files[name][1].path)
    onnx.checker.check_model(model, full_check=True)
    assert len(correlate_nodes(model)) == (1 if name in CORRELATES else 0)
    for info in (*model.graph.input, *model.graph.output):
        assert info.type.tensor_type.shape.dim[0].dim_param == "batch"
    kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) >= 3} - {TensorProto.INT64}
    assert kinds == {TensorProto.FLOAT if files[name][1].precision == "fp32" else TensorProto.FLOAT16}


def test_one_correlation_carries_every_target_of_the_shared_generator(
    files: dict[str, tuple[nn.Module, ExportedGraph]],
) -> None:
    """The queries are the targets under each other: T times g rows, against g of the source's keys."""
    model = onnx.shape_inference.infer_shapes(onnx.load(files["shared fp32"][1].path))
    (node,) = correlate_nodes(model)
    rows = {
        info.name: info.type.tensor_type.shape.dim[2].dim_value
        for info in model.graph.value_info
        if info.name in node.input
    }
    grid = model_of({"generator.architecture": "shared"}).alignment_grid
    assert [rows[name] for name in node.input] == [3 * grid, grid, grid]


def test_an_item_of_the_shared_generator_depends_on_its_own_mask_alone(
    files: dict[str, tuple[nn.Module, ExportedGraph]],
) -> None:
    _, graph = files["shared fp32"]
    feeds = adversarial_inputs(graph.contract, 1, seed=3)[0][1]
    whole = run_file(graph.path, graph.contract, feeds)
    alone = run_file(graph.path, graph.contract, feeds | {name: feeds[name] * 0 for name in ("MASK_BAG", "MASK_LOWER")})
    np.testing.assert_array_equal(alone["SHOES"], whole["SHOES"])
    for kind in ("BAG", "LOWER"):
        assert np.abs(alone[kind].astype(int) - whole[kind]).mean() > 1


@pytest.fixture(scope="module")
def published() -> CollocationClassifier:
    """EfficientNet-Lite0's published weights and a bank as a training leaves it."""
    torch.manual_seed(10)
    classifier = build_classifier(model_of(CCM))
    assert isinstance(classifier, NextItemCollocation)
    load_published(classifier.features, "")
    for tensor in (classifier.bank, classifier.missing, classifier.onward.weight, classifier.back.weight):
        nn.init.normal_(tensor, std=3)  # so that an outfit's score is far from another's
    return classifier.eval()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_frozen_network_and_the_other_head_agree_with_torch(
    precision: str, published: CollocationClassifier, tmp_path: Path
) -> None:
    module, contract = CollocationGraph(published), collocation_contract(model_of(CCM))
    graph = export_graph(module, contract, precision, tmp_path / f"collocation.{precision}.onnx")
    names = {tensor.name for tensor in onnx.load(graph.path).graph.initializer}
    assert "collocation.missing" in names  # the bank is folded into what is compared with it
    rows = adversarial_inputs(contract, 8, seed=17)[0][1]
    for batch in (1, 3, 8):
        feeds = {name: array[:batch] for name, array in rows.items()}
        feeds["SHOES"] = np.full_like(feeds["SHOES"], 255)  # white all over: a missing item
        expected, found = run_module(module, contract, feeds), run_file(graph.path, contract, feeds)
        assert not shortfalls(compare(expected, found, contract), contract, precision)
    assert np.ptp(run_file(graph.path, contract, rows)["COMPATIBILITY"]) > 0.1
