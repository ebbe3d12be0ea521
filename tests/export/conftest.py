from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from export.exporter import ExportedGraph, export_run
from outfitgan.config import ModelConfig, load_preset
from outfitgan.items import ItemKind
from outfitgan.networks.collocation import CollocationClassifier
from outfitgan.networks.generator import Generator

KINDS = (ItemKind.BAG, ItemKind.SHOES)


@pytest.fixture(scope="session")
def tiny() -> ModelConfig:
    return load_preset("tiny").model


@pytest.fixture(scope="session")
def generators(tiny: ModelConfig) -> dict[ItemKind, Generator]:
    torch.manual_seed(3)
    networks = {kind: Generator(tiny).eval() for kind in KINDS}
    for network in networks.values():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):  # trained biases are not zero
                nn.init.normal_(parameter, std=0.1)
    return networks


@pytest.fixture(scope="session")
def collocation(tiny: ModelConfig) -> CollocationClassifier:
    torch.manual_seed(4)
    return CollocationClassifier(tiny).eval()


@pytest.fixture(scope="session")
def exported(
    tiny: ModelConfig,
    generators: dict[ItemKind, Generator],
    collocation: CollocationClassifier,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, str], ExportedGraph]:
    folder: Path = tmp_path_factory.mktemp("graphs")
    graphs = export_run(generators, collocation, tiny, folder)
    return {(graph.name, graph.precision): graph for graph in graphs}
