"""First weights against the definitions of their papers: mean, spread and shape of the distribution."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from network_cases import tiny
from scipy.stats import kurtosis
from torch import nn

from outfitgan.config import Architecture, Initialisation, ModelConfig
from outfitgan.networks.alignment import SemanticAlignment, SimpleConcatenation
from outfitgan.networks.architectures import build_generator
from outfitgan.networks.initialisation import initialiser_of
from outfitgan.networks.norms import InstanceNorm

INPUTS, OUTPUTS, TAPS = 64, 96, 9


def spread(name: str, taps: int) -> float:
    """Return the standard deviation of a layer of INPUTS and OUTPUTS channels, each read `taps` times."""
    return {
        "he": math.sqrt(2 / ((1 + 0.2**2) * INPUTS * taps)),  # for a leaky ReLU of slope 0.2
        "normal": 0.02,
        "xavier": math.sqrt(2 / ((INPUTS + OUTPUTS) * taps)),
    }[name]


@pytest.mark.parametrize("name", get_args(Initialisation))
@pytest.mark.parametrize("kind", ["convolution", "linear"])
def test_weights_have_the_moments_of_their_definition(name: Initialisation, kind: str) -> None:
    layer = nn.Conv2d(INPUTS, OUTPUTS, 3) if kind == "convolution" else nn.Linear(INPUTS, OUTPUTS)
    torch.manual_seed(0)
    draws = torch.cat([_drawn(layer, name) for _ in range(1 if kind == "convolution" else TAPS)])
    count, expected = draws.numel(), spread(name, TAPS if kind == "convolution" else 1)
    assert count == INPUTS * OUTPUTS * TAPS
    assert abs(draws.mean().item()) < 4 * expected / math.sqrt(count)
    assert draws.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * count))
    assert abs(kurtosis(draws.numpy())) < 4 * math.sqrt(24 / count)  # a uniform draw has -1.2


def _drawn(layer: nn.Conv2d | nn.Linear, name: Initialisation) -> torch.Tensor:
    assert layer.bias is not None
    nn.init.ones_(layer.bias)
    layer.apply(initialiser_of(name))
    assert not layer.bias.any()
    return layer.weight.detach().flatten().double()


@pytest.mark.parametrize("name", get_args(Initialisation))
def test_layers_without_a_bias_and_norms_are_left_in_peace(name: Initialisation) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), InstanceNorm(4), nn.BatchNorm2d(4))
    network.apply(initialiser_of(name))
    assert (network[1].gain == 1).all()
    assert (network[2].weight == 1).all()
    assert not network[1].shift.any()


NETWORKS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    **dict.fromkeys(get_args(Architecture), build_generator),
    "SAM": lambda model: SemanticAlignment(model.generator),
    "concatenation": lambda model: SimpleConcatenation(model.generator),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_draws_as_its_config_says(network: str) -> None:
    """The widest convolution's draws are many enough to tell the three apart."""
    architecture = network if network in get_args(Architecture) else "outfitgan"
    spreads = {}
    for name in get_args(Initialisation):
        torch.manual_seed(0)
        model = tiny(generator__architecture=architecture, generator__initialisation=name)
        spreads[name] = _widest_spread(NETWORKS[network](model))
    assert spreads["normal"] == pytest.approx(0.02, rel=0.1)
    assert spreads["he"] > 1.2 * spreads["xavier"] > 1.2 * spreads["normal"]


def _widest_spread(network: nn.Module) -> float:
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    return max(layers, key=lambda layer: layer.weight.numel()).weight.std().item()
