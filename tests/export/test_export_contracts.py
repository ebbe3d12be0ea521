"""Which graphs each model has, and that its networks keep their contracts before anything is traced."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.exporter import export_run
from export.modules import run_module, run_modules
from export.parity import adversarial_inputs
from outfitgan.config import ModelConfig, load_preset, override
from outfitgan.errors import GraphError
from outfitgan.items import ItemKind, targets_of
from outfitgan.model_graphs import aligned_kinds, contracts_of, item_graphs, mask_contracts, run_contracts
from outfitgan.networks.architectures import alignments_of, build_generator
from outfitgan.networks.collocation import CollocationClassifier, build_classifier
from outfitgan.networks.norms import convolution_of
from outfitgan.networks.pix2pix import MaskGenerator

MODELS: dict[str, dict[str, str]] = {
    **{name: {"generator.architecture": name} for name in ("outfitgan", "shared", "hires", "pix2pix", "pix2pixhd")},
    "concatenation": {"generator.alignment.kind": "concatenation"},
    "shared, of shoes": {"generator.architecture": "shared", "source": "shoes"},
}
GENERATORS = {f"generator_{kind}" for kind in targets_of(ItemKind.UPPER)}
ALIGNMENTS = {f"alignment_{kind}" for kind in targets_of(ItemKind.UPPER)}
MASKS = {f"mask_generator_{kind}" for kind in targets_of(ItemKind.UPPER)}
GRAPHS = {
    "outfitgan": GENERATORS | ALIGNMENTS,
    "shared": {"generator_outfit"} | ALIGNMENTS,
    "hires": GENERATORS | ALIGNMENTS,
    "pix2pix": GENERATORS,
    "pix2pixhd": GENERATORS,
    "concatenation": GENERATORS,
    "shared, of shoes": {"generator_outfit", "alignment_upper", "alignment_bag", "alignment_lower"},
}


def model_of(name: str) -> ModelConfig:
    return override(load_preset("tiny"), {f"model.{field}": value for field, value in MODELS[name].items()}).model


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_its_graphs(name: str) -> None:
    model = model_of(name)
    contracts = run_contracts(model)
    assert set(contracts) == GRAPHS[name] | {"collocation"}
    assert all(contract.name == graph for graph, contract in contracts.items())
    assert set(mask_contracts(model)) == {f"mask_generator_{kind}" for kind in model.targets}


@pytest.mark.parametrize("name", MODELS)
def test_every_item_is_made_once_from_its_own_mask(name: str) -> None:
    model = model_of(name)
    made = [kind for item_graph in item_graphs(model) for kind in item_graph.images.values()]
    assert made == list(model.targets)
    for item_graph in item_graphs(model):
        assert list(item_graph.masks.values()) == list(item_graph.images.values())
        assert {"SOURCE", *item_graph.masks} == {spec.name for spec in item_graph.contract.inputs}
        assert set(item_graph.images) == {spec.name for spec in item_graph.contract.outputs}


@pytest.mark.parametrize("name", MODELS)
def test_networks_keep_their_contracts(name: str) -> None:
    model = model_of(name)
    torch.manual_seed(0)
    generator = build_generator(model).eval()
    masks = {kind: MaskGenerator(model.mask_generator, convolution_of("instance")) for kind in model.targets}
    modules = run_modules(generator, build_classifier(model).eval(), masks)
    contracts = contracts_of(model, modules)
    assert set(contracts) == set(modules)
    assert set(alignments_of(generator)) == set(aligned_kinds(model))
    for graph, contract in contracts.items():
        found = run_module(modules[graph], contract, adversarial_inputs(contract, 2, 0)[0][1])
        for spec in contract.outputs:
            assert (found[spec.name].dtype, found[spec.name].shape) == (np.dtype(spec.dtype), (2, *spec.shape))
            assert found[spec.name].min() >= spec.low
            assert found[spec.name].max() <= spec.high
            assert found[spec.name].std() > 0


def test_the_sam_of_a_high_resolution_model_sees_half_of_it() -> None:
    grids = {name: model_of(name).alignment_grid for name in ("outfitgan", "hires")}
    assert grids["hires"] == grids["outfitgan"] / 2
    match = run_contracts(model_of("hires"))["alignment_bag"].outputs[1]
    assert (match.shape, match.high) == ((grids["hires"], grids["hires"], 2), grids["hires"] - 1)


@pytest.mark.parametrize("name", ["outfitgan", "shared"])
def test_a_set_of_graphs_is_whole_with_its_mask_generators_or_without(name: str) -> None:
    model = model_of(name)
    plain, masked = set(run_contracts(model)), set(run_contracts(model)) | set(mask_contracts(model))
    assert set(contracts_of(model, plain)) == plain
    assert set(contracts_of(model, masked)) == masked
    with pytest.raises(GraphError, match=r"mask_generator_bag is missing: export and build every graph"):
        contracts_of(model, masked - {"mask_generator_bag"})
    with pytest.raises(GraphError, match=r"collocation is missing"):
        contracts_of(model, plain - {"collocation"})
    with pytest.raises(GraphError, match=r"no graph called generator_hat: it has"):
        contracts_of(model, plain | {"generator_hat"})


def test_graphs_of_another_architecture_are_refused() -> None:
    with pytest.raises(GraphError, match="no graph called generator_bag, generator_lower, generator_shoes"):
        contracts_of(model_of("shared"), run_contracts(model_of("outfitgan")))


def test_networks_of_another_model_are_not_exported(collocation: CollocationClassifier, tmp_path) -> None:  # type: ignore[no-untyped-def]
    generator = build_generator(model_of("pix2pix"))
    with pytest.raises(GraphError, match="alignment_bag, alignment_lower, alignment_shoes is missing"):
        export_run(generator, collocation, {}, model_of("outfitgan"), tmp_path)
    assert not list(tmp_path.iterdir())
