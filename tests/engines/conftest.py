from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from engines.store import EngineStore
from export.boundary import AlignmentGraph, CollocationGraph, MaskGraph, OutfitGraph
from export.exporter import ExportedGraph, export_graph
from export.graphs import alignment_contract, collocation_contract, mask_generator_contract, outfit_contract
from outfitgan.config import load_preset, override
from outfitgan.items import ItemKind
from outfitgan.networks.alignment import SemanticAlignment
from outfitgan.networks.architectures import build_generator
from outfitgan.networks.collocation import build_classifier
from outfitgan.networks.norms import norm_of
from outfitgan.networks.pix2pix import MaskGenerator


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def alignment(tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    model = load_preset("tiny").model
    torch.manual_seed(7)
    module = AlignmentGraph(SemanticAlignment(model.generator))
    contract = alignment_contract(ItemKind.BAG, model)
    return export_graph(module, contract, "fp32", tmp_path_factory.mktemp("graph") / f"{contract.name}.fp32.onnx")


@pytest.fixture(scope="session")
def collocation_graph(tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    model = load_preset("tiny").model
    torch.manual_seed(8)
    module, contract = CollocationGraph(build_classifier(model)), collocation_contract(model)
    return export_graph(module, contract, "fp32", tmp_path_factory.mktemp("graph") / "collocation.fp32.onnx")


@pytest.fixture(scope="session")
def outfit_graph(tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    """One generator for all kinds."""
    model = override(load_preset("tiny"), {"model.generator.architecture": "shared"}).model
    torch.manual_seed(9)
    module, contract = OutfitGraph(build_generator(model)), outfit_contract(model)
    return export_graph(module, contract, "fp32", tmp_path_factory.mktemp("graph") / f"{contract.name}.fp32.onnx")


@pytest.fixture(scope="session")
def mask_graph(tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    model = load_preset("tiny").model
    torch.manual_seed(10)
    module = MaskGraph(MaskGenerator(model.mask_generator, norm_of("instance")))
    contract = mask_generator_contract(ItemKind.SHOES, model)
    return export_graph(module, contract, "fp32", tmp_path_factory.mktemp("graph") / f"{contract.name}.fp32.onnx")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> EngineStore:
    """A store that tests share; what they build in it stays."""
    return EngineStore(tmp_path_factory.mktemp("engines"))
