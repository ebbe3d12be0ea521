"""Which graphs a model has, and the contract of each; nothing else defines them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outfitgan.contracts import Arrays, GraphContract, TensorSpec
from outfitgan.errors import GraphError
from outfitgan.items import COLLOCATION_ORDER, ItemKind

if TYPE_CHECKING:
    from outfitgan.config import ModelConfig  # the rest is read on an edge box, which has no pydantic

GENERATOR, ALIGNMENT, MASK_GENERATOR = "generator_", "alignment_", "mask_generator_"
"""How the names of graphs begin that there are several of; an item's kind follows."""

OUTFIT_GENERATOR, COLLOCATION = f"{GENERATOR}outfit", "collocation"
"""The names of the graphs of one generator for all kinds, and of the CCM."""

_WITHOUT_SAM = ("pix2pix", "pix2pixhd")  # architectures; of the others the ablation has none either


@dataclass(frozen=True)
class ItemGraph:
    """A graph that makes items: from SOURCE and `masks` to `images`."""

    contract: GraphContract
    masks: dict[str, ItemKind]  # input -> the kind whose reference mask it takes
    images: dict[str, ItemKind]  # output -> the kind of the item

    def feeds(self, source: NDArray[np.uint8], masks: Mapping[ItemKind, NDArray[np.uint8]]) -> Arrays:
        """Return the graph's inputs (1, S, S, C) for a source (S, S, 3) and masks (S, S, 1)."""
        return {"SOURCE": source[None], **{name: masks[kind][None] for name, kind in self.masks.items()}}

    def items(self, outputs: Mapping[str, NDArray[Any]]) -> dict[ItemKind, NDArray[Any]]:
        """Return the items (B, S, S, 3) among the graph's outputs, by kind."""
        return {kind: outputs[name] for name, kind in self.images.items()}


def image_spec(name: str, size: int) -> TensorSpec:
    """Return an RGB image boundary, uint8 NHWC."""
    return TensorSpec(name, "uint8", (size, size, 3), 0, 255)


def mask_spec(name: str, size: int) -> TensorSpec:
    """Return a silhouette boundary, uint8 NHWC; graphs threshold it at `masks.THRESHOLD`."""
    return TensorSpec(name, "uint8", (size, size, 1), 0, 255)


def generator_name(kind: ItemKind) -> str:
    """Return the name of the graph that generates items of `kind` alone."""
    return f"{GENERATOR}{kind}"


def alignment_name(kind: ItemKind) -> str:
    """Return the name of the graph of the SAM of `kind`."""
    return f"{ALIGNMENT}{kind}"


def mask_generator_name(kind: ItemKind) -> str:
    """Return the name of the graph that generates reference masks of `kind`."""
    return f"{MASK_GENERATOR}{kind}"


def mask_name(kind: ItemKind) -> str:
    """Return what the reference mask of `kind` is called where a tensor's name has to say its kind."""
    return f"MASK_{kind.name}"


def item_graphs(model: ModelConfig) -> tuple[ItemGraph, ...]:
    """Return the graphs that make a model's items: one a target kind, or one for all of them."""
    if model.generator.architecture != "shared":
        return tuple(
            ItemGraph(generator_contract(kind, model), masks={"MASK": kind}, images={"IMAGE": kind})
            for kind in model.targets
        )
    masks = {mask_name(kind): kind for kind in model.targets}
    return (ItemGraph(outfit_contract(model), masks, images={kind.name: kind for kind in model.targets}),)


def generator_contract(kind: ItemKind, model: ModelConfig) -> GraphContract:
    """Return the contract of the generator of `kind`."""
    size = model.image_size
    inputs = (image_spec("SOURCE", size), mask_spec("MASK", size))
    return GraphContract(generator_name(kind), inputs, (image_spec("IMAGE", size),))


def outfit_contract(model: ModelConfig) -> GraphContract:
    """Return the contract of one generator for all kinds, which reads the source once: MASK_<KIND> to <KIND>."""
    size = model.image_size
    masks = [mask_spec(mask_name(kind), size) for kind in model.targets]
    images = tuple(image_spec(kind.name, size) for kind in model.targets)
    return GraphContract(OUTFIT_GENERATOR, (image_spec("SOURCE", size), *masks), images)


def alignment_contract(kind: ItemKind, model: ModelConfig) -> GraphContract:
    """Return the contract of the SAM of `kind`: warped features, best source cell (row, column), its weight."""
    size, grid = model.image_size, model.alignment_grid
    channels = model.generator.alignment.value_channels
    outputs = (
        TensorSpec("WARPED", "float32", (channels, grid, grid), -65504, 65504),
        TensorSpec("MATCH", "int32", (grid, grid, 2), 0, grid - 1),
        TensorSpec("WEIGHT", "float32", (grid, grid), 0, 1),
    )
    return GraphContract(alignment_name(kind), (image_spec("SOURCE", size), mask_spec("MASK", size)), outputs)


def collocation_contract(model: ModelConfig) -> GraphContract:
    """Return the contract of the CCM: one image per kind, in collocation order, to a compatibility in [0, 1]."""
    inputs = tuple(image_spec(kind.name, model.image_size) for kind in COLLOCATION_ORDER)
    return GraphContract(COLLOCATION, inputs, (TensorSpec("COMPATIBILITY", "float32", (1,), 0, 1),))


def mask_generator_contract(kind: ItemKind, model: ModelConfig) -> GraphContract:
    """Return the contract of the mask generator of `kind`: a soft silhouette, garment from `masks.THRESHOLD` on."""
    size = model.image_size
    return GraphContract(mask_generator_name(kind), (image_spec("SOURCE", size),), (mask_spec("MASK", size),))


def run_contracts(model: ModelConfig) -> dict[str, GraphContract]:
    """Return the graphs that every run of `model` has, by name: generators, a SAM a kind if there is one, the CCM."""
    contracts = [item_graph.contract for item_graph in item_graphs(model)]
    contracts += [alignment_contract(kind, model) for kind in aligned_kinds(model)]
    contracts.append(collocation_contract(model))
    return _by_name(contracts)


def mask_contracts(model: ModelConfig) -> dict[str, GraphContract]:
    """Return the graphs, by name, that a run has besides once its mask generators are trained."""
    return _by_name([mask_generator_contract(kind, model) for kind in model.targets])


def aligned_kinds(model: ModelConfig) -> tuple[ItemKind, ...]:
    """Return the kinds that have a SAM: all targets, or none."""
    generator = model.generator
    if generator.architecture in _WITHOUT_SAM:
        return ()
    # One generator for all kinds has no ablation: it always correlates.
    return model.targets if generator.architecture == "shared" or generator.alignment.kind == "semantic" else ()


def contracts_of(model: ModelConfig, names: Collection[str]) -> dict[str, GraphContract]:
    """Return the contracts of the graphs called `names`, all of a run with or without its mask generators.

    Raises:
        GraphError: if they are not whole, or one is no graph of this model.

    """
    masks = mask_contracts(model)
    contracts = run_contracts(model) | (masks if set(names) & set(masks) else {})
    if unknown := sorted(set(names) - set(contracts)):
        raise GraphError(f"This model has no graph called {', '.join(unknown)}: it has {', '.join(contracts)}.")
    if missing := sorted(set(contracts) - set(names)):
        raise GraphError(f"This model's {', '.join(missing)} is missing: export and build every graph of the run.")
    return contracts


def _by_name(contracts: list[GraphContract]) -> dict[str, GraphContract]:
    return {contract.name: contract for contract in contracts}
