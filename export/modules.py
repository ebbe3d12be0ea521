"""A run's networks behind the boundary of each of its graphs, by the graph's name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from export.boundary import AlignmentGraph, CollocationGraph, GeneratorGraph, MaskGraph, OutfitGraph
from outfitgan.contracts import Arrays, GraphContract
from outfitgan.items import ItemKind
from outfitgan.model_graphs import COLLOCATION, OUTFIT_GENERATOR, alignment_name, generator_name, mask_generator_name
from outfitgan.networks.architectures import OutfitGenerator, alignments_of
from outfitgan.networks.collocation import CollocationClassifier
from outfitgan.networks.pix2pix import MaskGenerator
from outfitgan.networks.shared import SharedGenerator


def run_modules(
    generator: OutfitGenerator, collocation: CollocationClassifier, mask_generators: Mapping[ItemKind, MaskGenerator]
) -> dict[str, nn.Module]:
    """Return a boundary module for each graph of a run; `mask_generators` may be empty."""
    modules = generator_modules(generator)
    modules |= {alignment_name(kind): AlignmentGraph(module) for kind, module in alignments_of(generator).items()}
    modules[COLLOCATION] = CollocationGraph(collocation)
    return modules | {mask_generator_name(kind): MaskGraph(network) for kind, network in mask_generators.items()}


def generator_modules(generator: OutfitGenerator) -> dict[str, nn.Module]:
    """Return a boundary module for each graph that makes items; `item_graphs` has what each takes."""
    if isinstance(generator, SharedGenerator):
        return {OUTFIT_GENERATOR: OutfitGraph(generator)}
    return {generator_name(kind): GeneratorGraph(generator.items[kind]) for kind in generator.targets}


def run_module(module: nn.Module, contract: GraphContract, feeds: Arrays) -> Arrays:
    """Return a boundary module's outputs by name, computed by torch."""
    with torch.inference_mode():
        found = module(*(torch.from_numpy(feeds[spec.name]) for spec in contract.inputs))
    tensors = found if isinstance(found, tuple) else (found,)
    return {spec.name: tensor.numpy() for spec, tensor in zip(contract.outputs, tensors, strict=True)}
