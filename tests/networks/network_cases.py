"""What the tests of networks share: small configs, weights as a training leaves them, and pictures to feed in."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from outfitgan.config import ModelConfig, load_preset, override
from outfitgan.networks.generator import Generator

Module = TypeVar("Module", bound=nn.Module)

_LEARNED_OFFSETS = ("bias", "gain", "shift", "missing")

SHAPES: dict[str, dict[str, object]] = {
    "as deep as the SAM": {"generator__downsamples": 2, "generator__alignment__downsamples": 2},
    "deeper than the SAM": {"generator__downsamples": 3, "generator__alignment__downsamples": 2},
    "a fine SAM": {"generator__downsamples": 3, "generator__alignment__downsamples": 1},
    "values wider than keys": {
        "generator__alignment__match_channels": 12,
        "generator__alignment__value_channels": 20,
        "generator__residual_blocks": 2,
    },
    "small pictures": {"image_size": 32},
    "instance norm": {"generator__norm": "instance"},
    "concatenation": {"generator__alignment__kind": "concatenation"},
}
"""Generators of one target kind, by how they differ from the tiny preset's."""


def tiny(**changes: object) -> ModelConfig:
    """Return the tiny preset's model; keyword arguments are its fields with __ for the dot."""
    return override(
        load_preset("tiny"), {f"model.{name.replace('__', '.')}": value for name, value in changes.items()}
    ).model


def trained(module: Module, seed: int = 0) -> Module:
    """Give biases, gains and statistics other values than the fresh ones, as a training would."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(_LEARNED_OFFSETS):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.1 * torch.randn(buffer.shape, generator=draw))
            if name.endswith("running_var"):
                buffer.mul_(0.5 + torch.rand(buffer.shape, generator=draw))
            if name.endswith("bank"):
                buffer.add_(torch.randn(buffer.shape, generator=draw))
    return module.eval().requires_grad_(requires_grad=False)


def generator_of(model: ModelConfig, seed: int = 0) -> Generator:
    """Return a generator whose answer is not lost in a faint head."""
    torch.manual_seed(seed)
    network = trained(Generator(model.generator))
    nn.init.normal_(network.head.weight, std=0.3)
    return network


def photos(batch: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return sources in [-1, 1] and masks of 0 and 1, each an upright ellipse of its own."""
    draw = np.random.default_rng(seed)
    source = torch.from_numpy(draw.uniform(-1, 1, (batch, 3, size, size))).float()
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radii = draw.uniform(0.3, 0.9, (batch, 2, 1, 1))
    mask = (rows / radii[:, :1]) ** 2 + (columns / radii[:, 1:]) ** 2 < 1
    return source, torch.from_numpy(mask).float()


def outfit_photos(batch: int, size: int, targets: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return sources (B, 3, S, S) and a mask of its own for each target (B, T, 1, S, S)."""
    source, _ = photos(batch, size, seed)
    _, masks = photos(batch * targets, size, seed + 100)
    return source, masks.reshape(batch, targets, 1, size, size)


def outfits(batch: int, size: int) -> Tensor:
    """Return four items each (B, 4, 3, S, S) in [-1, 1]."""
    return torch.from_numpy(np.random.default_rng(4).uniform(-1, 1, (batch, 4, 3, size, size))).float()


def idle(network: nn.Module, loss: Tensor) -> list[str]:
    """Return the names of the weights that a loss teaches nothing."""
    loss.backward()
    return [name for name, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
