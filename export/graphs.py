"""Which graphs a run has, and the contract of each: the one place that says so."""

from __future__ import annotations

from export.contract import GraphContract, TensorSpec
from outfitgan.config import ModelConfig
from outfitgan.items import COLLOCATION_ORDER, ItemKind


def image_spec(name: str, size: int) -> TensorSpec:
    """Return an RGB image boundary, uint8 NHWC."""
    return TensorSpec(name, "uint8", (size, size, 3), 0, 255)


def mask_spec(name: str, size: int) -> TensorSpec:
    """Return a silhouette boundary, uint8 NHWC; the graph thresholds it at 128."""
    return TensorSpec(name, "uint8", (size, size, 1), 0, 255)


def generator_contract(kind: ItemKind, model: ModelConfig) -> GraphContract:
    """Return the contract of the generator of `kind`."""
    size = model.image_size
    inputs = (image_spec("SOURCE", size), mask_spec("MASK", size))
    return GraphContract(f"generator_{kind}", inputs, (image_spec("IMAGE", size),))


def alignment_contract(kind: ItemKind, model: ModelConfig) -> GraphContract:
    """Return the contract of the SAM of `kind`: warped features, best source cell (row, column), its weight."""
    size, grid = model.image_size, model.alignment_grid
    channels = model.generator.alignment.value_channels
    outputs = (
        TensorSpec("WARPED", "float32", (channels, grid, grid), -65504, 65504),
        TensorSpec("MATCH", "int32", (grid, grid, 2), 0, grid - 1),
        TensorSpec("WEIGHT", "float32", (grid, grid), 0, 1),
    )
    return GraphContract(f"alignment_{kind}", (image_spec("SOURCE", size), mask_spec("MASK", size)), outputs)


def collocation_contract(model: ModelConfig) -> GraphContract:
    """Return the contract of the CCM: one image per kind, in collocation order, to a compatibility in [0, 1]."""
    inputs = tuple(image_spec(kind.name, model.image_size) for kind in COLLOCATION_ORDER)
    return GraphContract("collocation", inputs, (TensorSpec("COMPATIBILITY", "float32", (1,), 0, 1),))


def run_contracts(model: ModelConfig) -> dict[str, GraphContract]:
    """Return every graph of a run by name."""
    contracts = [generator_contract(kind, model) for kind in model.targets]
    contracts += [alignment_contract(kind, model) for kind in model.targets]
    contracts.append(collocation_contract(model))
    return {contract.name: contract for contract in contracts}
