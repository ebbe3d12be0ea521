"""Training of the CCM: compatible outfits against hard negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from outfitgan.config import Config
from outfitgan.networks.collocation import CollocationClassifier
from outfitgan.training.batches import Batches
from outfitgan.training.losses import compatibility
from outfitgan.training.runs import pack, pack_optimizer, unpack, unpack_optimizer


class CollocationTrainer:
    """Binary cross-entropy with Adam."""

    stage = "collocation"

    def __init__(self, config: Config, batches: Batches) -> None:
        self.config, self.batches = config, batches
        torch.manual_seed(config.training.seed)
        self.classifier = CollocationClassifier(config.model)
        self.optimizer = torch.optim.Adam(self.classifier.parameters(), lr=config.training.collocation_rate)

    def step(self, step: int) -> dict[str, float]:
        """Train on as many outfits as negatives of them; return the loss and the accuracy."""
        half = self.config.training.collocation_batch // 2
        outfits = [self.batches.real(step, half).images, self.batches.incompatible(step, half).images]
        # One pass over both, so that batch normalisation cannot tell them apart by their statistics.
        real, broken = self.classifier(torch.cat(outfits)).chunk(2)  # (B / 2,) each
        loss = (compatibility(real, 1.0) + compatibility(broken, 0.0)) / 2
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        accuracy = torch.cat([real > 0, broken <= 0]).float().mean()
        return {"loss": loss.item(), "accuracy": accuracy.item()}

    def state(self) -> dict[str, Tensor]:
        """Return the CCM's weights and its optimiser's state."""
        return pack("collocation", self.classifier) | pack_optimizer("optimizer", self.optimizer)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""
        unpack("collocation", self.classifier, tensors)
        unpack_optimizer("optimizer", self.optimizer, tensors)
