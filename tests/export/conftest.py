from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from export.calibration import Calibration, open_calibration
from export.exported import FLOATS, PRECISIONS, ExportedGraph, find_graphs
from export.exporter import export_run
from outfitgan.config import ModelConfig, load_preset
from outfitgan.items import ItemKind
from outfitgan.networks.architectures import OutfitGenerator, build_generator
from outfitgan.networks.collocation import CollocationClassifier, build_classifier
from outfitgan.networks.norms import convolution_of
from outfitgan.networks.pix2pix import MaskGenerator


def as_if_trained(network: nn.Module) -> nn.Module:
    """Trained biases are not zero."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.fixture(scope="session")
def tiny() -> ModelConfig:
    return load_preset("tiny").model


@pytest.fixture(scope="session")
def generator(tiny: ModelConfig) -> OutfitGenerator:
    torch.manual_seed(3)
    network = build_generator(tiny)
    as_if_trained(network)
    return network


@pytest.fixture(scope="session")
def collocation(tiny: ModelConfig) -> CollocationClassifier:
    torch.manual_seed(4)
    return build_classifier(tiny).eval()


@pytest.fixture(scope="session")
def mask_generators(tiny: ModelConfig) -> dict[ItemKind, MaskGenerator]:
    torch.manual_seed(5)
    networks = {kind: MaskGenerator(tiny.mask_generator, convolution_of("instance")).eval() for kind in tiny.targets}
    for network in networks.values():
        nn.init.normal_(network.network.ups[-1].weight, std=0.2)  # silhouettes reach black and white
    return networks


@pytest.fixture(scope="session")
def calibration() -> Calibration:
    return open_calibration(load_preset("tiny"), 4)


@pytest.fixture(scope="session")
def everything(
    tiny: ModelConfig,
    generator: OutfitGenerator,
    collocation: CollocationClassifier,
    mask_generators: dict[ItemKind, MaskGenerator],
    calibration: Calibration,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder of every graph in every precision."""
    folder: Path = tmp_path_factory.mktemp("graphs")
    networks = generator, collocation, mask_generators
    export_run(*networks, tiny, folder, PRECISIONS, calibration=calibration)
    return folder


@pytest.fixture(scope="session")
def exported(everything: Path) -> dict[tuple[str, str], ExportedGraph]:
    """The graphs of both floating-point exports."""
    return {(name, kind): graph for kind in FLOATS for name, graph in find_graphs(everything, kind).items()}
