"""The graphs that a machine with a GPU builds: every role at the smallest preset, and the paper preset's SAM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from export.boundary import AlignmentGraph, CollocationGraph, GeneratorGraph, MaskGraph, OutfitGraph
from export.calibration import open_calibration
from export.exported import CALIBRATED, ExportedGraph
from export.exporter import export_graph
from outfitgan.config import load_preset, override
from outfitgan.contracts import GraphContract
from outfitgan.items import ItemKind
from outfitgan.model_graphs import (
    alignment_contract,
    collocation_contract,
    generator_contract,
    item_graphs,
    mask_generator_contract,
    outfit_contract,
)
from outfitgan.networks.alignment import SemanticAlignment
from outfitgan.networks.architectures import build_generator
from outfitgan.networks.collocation import build_classifier
from outfitgan.networks.norms import convolution_of
from outfitgan.networks.pix2pix import MaskGenerator

Made = tuple[nn.Module, GraphContract]
Exporter = Callable[[str, str], ExportedGraph]

KIND, TINY, PAPER = ItemKind.BAG, load_preset("tiny"), load_preset("paper")


def generator() -> Made:
    return GeneratorGraph(build_generator(TINY.model).items[KIND]), generator_contract(KIND, TINY.model)


def generator_outfit() -> Made:
    """One generator for all kinds."""
    model = override(TINY, {"model.generator.architecture": "shared"}).model
    return OutfitGraph(build_generator(model)), outfit_contract(model)


def alignment() -> Made:
    return AlignmentGraph(SemanticAlignment(TINY.model.generator)), alignment_contract(KIND, TINY.model)


def paper_alignment() -> Made:
    """C = 128 and Cv = 256 on a grid of 64x64 at temperature 0.01: the widest and coldest correlation there is."""
    return AlignmentGraph(SemanticAlignment(PAPER.model.generator)), alignment_contract(KIND, PAPER.model)


def collocation() -> Made:
    return CollocationGraph(build_classifier(TINY.model)), collocation_contract(TINY.model)


def mask_generator() -> Made:
    network = MaskGenerator(TINY.model.mask_generator, convolution_of("instance"))
    return MaskGraph(network), mask_generator_contract(KIND, TINY.model)


ROLES: dict[str, Callable[[], Made]] = {
    make.__name__: make
    for make in (generator, generator_outfit, alignment, paper_alignment, collocation, mask_generator)
}
CORRELATING = ("generator", "generator_outfit", "alignment", "paper_alignment")


def exporter(folder: Path) -> Exporter:
    """Return what exports a role in a precision into `folder`, once, with the weights of one seed."""
    made: dict[tuple[str, str], ExportedGraph] = {}

    def export(role: str, precision: str) -> ExportedGraph:
        if (role, precision) not in made:
            torch.manual_seed(12)
            module, contract = ROLES[role]()
            samples = open_calibration(TINY, 4).samples(item_graphs(TINY.model)[0]) if precision in CALIBRATED else None
            path = folder / f"{role}.{precision}.onnx"
            made[role, precision] = export_graph(module, contract, precision, path, samples)
        return made[role, precision]

    return export
