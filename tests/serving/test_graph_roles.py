"""Roles read from contracts are those that the model's config says."""

from __future__ import annotations

import dataclasses

import pytest

from outfitgan.config import ModelConfig, load_preset, override
from outfitgan.contracts import GraphContract
from outfitgan.errors import GraphError
from outfitgan.items import ItemKind
from outfitgan.model_graphs import aligned_kinds, item_graphs, mask_contracts, run_contracts
from serving.graph_roles import roles_of

TINY = load_preset("tiny").model
LARGER = override(load_preset("tiny"), {"model.image_size": 128}).model


def chosen(architecture: str, source: ItemKind) -> ModelConfig:
    changes = {"model.source": str(source), "model.generator.architecture": architecture}
    return override(load_preset("small"), changes).model


@pytest.mark.parametrize("source", ItemKind)
@pytest.mark.parametrize("architecture", ["outfitgan", "shared", "hires", "pix2pix", "pix2pixhd"])
def test_contracts_say_what_the_config_says(architecture: str, source: ItemKind) -> None:
    model = chosen(architecture, source)
    contracts = run_contracts(model)
    roles = roles_of(contracts)
    assert roles.item_graphs == item_graphs(model)
    assert (roles.image_size, roles.targets) == (model.image_size, model.targets)
    assert (roles.aligned, roles.masked) == (aligned_kinds(model), ())
    assert roles_of(contracts | mask_contracts(model)).masked == model.targets
    assert dict(reversed(contracts.items())) == contracts
    assert roles_of(dict(sorted(contracts.items(), reverse=True))).targets == model.targets  # whatever the order


def without(*names: str) -> dict[str, GraphContract]:
    contracts = run_contracts(TINY) | mask_contracts(TINY)
    return {name: contract for name, contract in contracts.items() if name not in names}


@pytest.mark.parametrize(
    ("contracts", "message"),
    [
        ({}, r"no whole run \(none\): export and build every graph"),
        (without("collocation"), "no whole run"),
        (without("generator_bag"), r"no whole run \(alignment_bag, .*generator_lower"),
        (without("alignment_lower"), "^alignment_lower is missing"),
        (without("mask_generator_bag", "mask_generator_shoes"), "^mask_generator_bag, mask_generator_shoes is missing"),
        (
            without() | {"alignment_upper": without()["alignment_bag"]},
            "alignment_upper is no graph of a run that makes bag, lower, shoes",
        ),
        (
            without() | {"generator_hat": dataclasses.replace(without()["generator_bag"], name="generator_hat")},
            "No item kind is called 'hat'",
        ),
        (
            without() | {"collocation": run_contracts(LARGER)["collocation"]},
            r"several image sizes \(generator_bag 64, .*collocation 128",
        ),
    ],
)
def test_what_is_no_whole_run_is_refused(contracts: dict[str, GraphContract], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        roles_of(contracts)
