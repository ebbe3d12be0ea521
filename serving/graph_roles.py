"""What each graph of a run is for, read from names and contracts alone: an edge box has no model config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from outfitgan.contracts import GraphContract
from outfitgan.errors import GraphError
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.model_graphs import ALIGNMENT, COLLOCATION, GENERATOR, MASK_GENERATOR, ItemGraph

_MASK = "MASK"


@dataclass(frozen=True)
class Roles:
    """The graphs of one run by what they do."""

    image_size: int  # S, the side of every image and mask
    item_graphs: tuple[ItemGraph, ...]
    targets: tuple[ItemKind, ...]  # what is made, in collocation order: every kind but the source's
    aligned: tuple[ItemKind, ...]  # the kinds that have a SAM
    masked: tuple[ItemKind, ...]  # the kinds whose reference mask can be generated


def roles_of(contracts: Mapping[str, GraphContract]) -> Roles:
    """Sort the graphs of one run, given by name.

    Raises:
        GraphError: if they are no whole run, or are of different image sizes.

    """
    item_graphs = tuple(_item_graph(contract) for name, contract in contracts.items() if name.startswith(GENERATOR))
    made = {kind for graph in item_graphs for kind in graph.images.values()}
    targets = tuple(kind for kind in COLLOCATION_ORDER if kind in made)
    if COLLOCATION not in contracts or len(targets) != len(COLLOCATION_ORDER) - 1:
        found = ", ".join(sorted(contracts)) or "none"
        raise GraphError(f"These graphs are no whole run ({found}): export and build every graph of the run.")
    named = {f"{role}{kind}" for role in (ALIGNMENT, MASK_GENERATOR) for kind in targets}
    if unknown := sorted(set(contracts) - {COLLOCATION, *named, *(graph.contract.name for graph in item_graphs)}):
        makes = ", ".join(targets)
        raise GraphError(f"{', '.join(unknown)} is no graph of a run that makes {makes}: keep one run's alone.")
    aligned, masked = (_all_or_none(role, targets, contracts) for role in (ALIGNMENT, MASK_GENERATOR))
    return Roles(_image_size(contracts), item_graphs, targets, aligned, masked)


def _item_graph(contract: GraphContract) -> ItemGraph:
    kind = contract.name.removeprefix(GENERATOR)
    mask_inputs = [spec.name for spec in contract.inputs if spec.name != "SOURCE"]
    masks = {name: _kind(name.removeprefix(f"{_MASK}_"), _MASK, kind) for name in mask_inputs}
    images = {spec.name: _kind(spec.name, "IMAGE", kind) for spec in contract.outputs}
    return ItemGraph(contract, masks, images)


def _kind(tensor: str, plain: str, kind: str) -> ItemKind:
    """Return the kind in a tensor's name, or the graph's where the tensor has the `plain` name."""
    text = kind if tensor == plain else tensor.lower()
    if text not in set(ItemKind):
        raise GraphError(f"No item kind is called '{text}', as a generator's graph says; export and build the run.")
    return ItemKind(text)


def _all_or_none(
    role: str, targets: tuple[ItemKind, ...], contracts: Mapping[str, GraphContract]
) -> tuple[ItemKind, ...]:
    found = tuple(kind for kind in targets if f"{role}{kind}" in contracts)
    if found and found != targets:
        missing = ", ".join(f"{role}{kind}" for kind in targets if kind not in found)
        raise GraphError(f"{missing} is missing: export and build every graph of the run.")
    return found


def _image_size(contracts: Mapping[str, GraphContract]) -> int:
    sizes = {name: contract.inputs[0].shape[0] for name, contract in contracts.items()}  # each takes an image first
    if len(set(sizes.values())) > 1:
        listing = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise GraphError(f"The graphs are of several image sizes ({listing}): export and build them alike.")
    return next(iter(sizes.values()))
