"""What a step of every training does around its losses: the rate, parts of a batch, processes, the average."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from outfitgan.config import Schedule
from outfitgan.training.batches import Batch

Network = TypeVar("Network", bound=nn.Module)

Terms = Mapping[str, Tensor]
Objective = Callable[[Batch], tuple[Terms, Tensor]]
"""Maps a part of a batch to its losses by name, and to what is minimised."""


def descend(
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: Any,  # accelerate's wrapper has no stubs
    parts: Sequence[Batch],
    objective: Objective,
) -> dict[str, Tensor]:
    """Descend one step down the mean of `objective` over the parts; return the mean of each loss, detached."""
    optimizer.zero_grad()
    means: dict[str, Tensor] = {}
    for number, part in enumerate(parts, start=1):
        # Processes exchange gradients once a step, with the last part.
        with nullcontext() if number == len(parts) else accelerator.no_sync(network):
            terms, total = objective(part)
            accelerator.backward(total / len(parts))
        for name, term in terms.items():
            means[name] = means.get(name, 0) + term.detach() / len(parts)
    optimizer.step()
    return means


def as_floats(accelerator: Accelerator, terms: Terms) -> dict[str, float]:
    """Return losses as numbers, the mean over processes; the device is waited for once."""
    values = torch.stack([term.float() for term in terms.values()])
    if accelerator.num_processes > 1:
        values = accelerator.reduce(values, reduction="mean")
    return dict(zip(terms, values.tolist(), strict=True))


def rate_at(schedule: Schedule, rate: float, step: int, steps: int) -> float:
    """Return the learning rate of `step` (from 1): constant, or pix2pix's linear way to zero over the second half."""
    if schedule == "constant":
        return rate
    half = steps // 2
    return rate * min(1.0, (steps - step + 1) / max(1, steps - half))


def set_rate(optimizer: Any, rate: float) -> None:
    """Set the learning rate of every group of an optimiser."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of a network's weights; it follows closely at first, as in stylegan3."""

    @torch.no_grad()
    def follow(means: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
        warm = (1 + int(count)) / (10 + int(count))
        torch._foreach_lerp_(list(means), list(weights), 1 - min(decay, warm))

    return AveragedModel(network, multi_avg_fn=follow)


def adam(network: nn.Module, rate: float, betas: tuple[float, float]) -> torch.optim.Adam:
    """Return Adam for a network, whose step is one pass over its weights."""
    return torch.optim.Adam(network.parameters(), rate, betas, fused=True)


def channels_last(network: Network) -> Network:
    """Return `network` with its convolutions' weights laid out position by position, and hence what it computes."""
    # torch's stubs know the memory format for tensors alone
    return cast(Network, network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
