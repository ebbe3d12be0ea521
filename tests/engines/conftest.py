from __future__ import annotations

import pytest
import torch

from engines.store import EngineStore
from export.boundary import AlignmentGraph, CollocationGraph
from export.exporter import ExportedGraph, export_graph
from export.graphs import alignment_contract, collocation_contract
from outfitgan.config import load_preset
from outfitgan.items import ItemKind
from outfitgan.networks.alignment import SemanticAlignment
from outfitgan.networks.collocation import CollocationClassifier


@pytest.fixture(scope="session")
def alignment(tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    model = load_preset("tiny").model
    torch.manual_seed(7)
    module = AlignmentGraph(SemanticAlignment(model.generator.alignment))
    contract = alignment_contract(ItemKind.BAG, model)
    return export_graph(module, contract, "fp32", tmp_path_factory.mktemp("graph") / f"{contract.name}.fp32.onnx")


@pytest.fixture(scope="session")
def collocation_graph(tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    model = load_preset("tiny").model
    torch.manual_seed(8)
    module, contract = CollocationGraph(CollocationClassifier(model)), collocation_contract(model)
    return export_graph(module, contract, "fp32", tmp_path_factory.mktemp("graph") / "collocation.fp32.onnx")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> EngineStore:
    """A store that tests share; what they build in it stays."""
    return EngineStore(tmp_path_factory.mktemp("engines"))
