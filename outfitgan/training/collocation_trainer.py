"""Training of the CCM: compatible outfits, and hard negatives of them."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from outfitgan.config import Config
from outfitgan.data.augmentation import Draws
from outfitgan.networks.collocation import (
    BinaryCollocation,
    CollocationClassifier,
    NextItemCollocation,
    build_classifier,
    pairs,
)
from outfitgan.networks.visual_features import load_published
from outfitgan.training.batches import Batch, Batches
from outfitgan.training.device import require_even_shares
from outfitgan.training.losses import compatibility
from outfitgan.training.optimisation import as_floats, descend, rate_at, set_rate
from outfitgan.training.runs import pack, pack_optimizer, unpack, unpack_optimizer

_LEAST = 2  # items that hiding leaves of an outfit


class BinaryObjective(nn.Module):
    """Cross-entropy of outfits against 1 and of their hard negatives against 0."""

    def __init__(
        self,
        classifier: BinaryCollocation,  # to train
    ) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the accuracy of images (2B, 4, 3, S, S), B outfits and then their negatives."""
        # One pass over both, so that batch normalisation cannot tell them apart by their statistics.
        real, fake = self.classifier(images).chunk(2)  # (B,) each
        loss = (compatibility(real, 1.0) + compatibility(fake, 0.0)) / 2
        return loss, torch.cat([real > 0, fake <= 0]).float().mean()


class NextItemObjective(nn.Module):
    """Each item of an outfit among the same kind's items of the batch, onward and backward (Han et al. 2017)."""

    def __init__(
        self,
        classifier: NextItemCollocation,  # to train
    ) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, and how many outfits outscore their negatives, of images (2B, 4, 3, S, S); see above."""
        embeddings, present = self.classifier.embed(images)
        context = self.classifier.read(embeddings)
        real, fake = self.classifier.judge(embeddings, context, present).chunk(2)  # (B,) each
        count = len(real)
        expected, known = self.classifier.expect(context[:count], present[:count])  # (B, 2, 3, E), (B, 2, 3)
        actual = pairs(embeddings[:count])  # (B, 2, 3, E)
        logits = torch.einsum("bdte,kdte->dtbk", expected, actual) * expected.shape[-1] ** -0.5  # (2, 3, B, B)
        there = known.permute(1, 2, 0)  # (2, 3, B)
        logits = logits.masked_fill(there.unsqueeze(2) == 0, -1e4)  # a missing item is no candidate
        goals = torch.arange(count, device=logits.device).expand(2, 3, count)
        entropies = F.cross_entropy(logits.flatten(0, 2), goals.flatten(), reduction="none")  # (6B,)
        loss = (entropies * there.flatten()).sum() / there.sum().clamp(min=1)
        self._remember(embeddings[:count])
        return loss, (real > fake).float().mean()

    @torch.no_grad()
    def _remember(self, embeddings: Tensor) -> None:
        """Push a batch into the bank, the oldest out."""
        bank = self.classifier.bank
        bank.copy_(torch.cat([embeddings.detach().to(bank.dtype), bank])[: len(bank)])


def objective_of(classifier: CollocationClassifier) -> nn.Module:
    """Return how a classifier is trained."""
    if isinstance(classifier, BinaryCollocation):
        return BinaryObjective(classifier)
    return NextItemObjective(cast(NextItemCollocation, classifier))


class CollocationTrainer:
    """Adam on the objective of the config's head, with a share of the items hidden."""

    def __init__(
        self,
        config: Config,  # of the run
        batches: Batches,  # of its training outfits
        accelerator: Accelerator,  # of this process
        stage: str = "collocation",  # name of the checkpoint; the scorer has another
    ) -> None:
        self.stage, self.config, self.batches, self.accelerator = stage, config, batches, accelerator
        self.half = config.training.collocation_batch // 2
        require_even_shares(self.half, 1, accelerator.num_processes, "training.collocation_batch / 2 =")
        torch.manual_seed(config.training.seed)
        self.classifier = build_classifier(config.model)
        load_published(self.classifier.features, config.losses.vgg_weights)
        learning = [weight for weight in self.classifier.parameters() if weight.requires_grad]
        optimizer = torch.optim.Adam(learning, lr=config.training.collocation_rate)
        # accelerate's prepare has no stubs
        self.objective, self.optimizer = cast(
            tuple[nn.Module, Any], accelerator.prepare(objective_of(self.classifier), optimizer)
        )

    def step(self, step: int) -> dict[str, float]:
        """Train on as many outfits as negatives of them; return the loss and the accuracy."""
        training = self.config.training
        rate = rate_at(training.schedule, training.collocation_rate, step, training.collocation_steps)
        set_rate(self.optimizer, rate)
        self.objective.train()
        outfits = [self.batches.real(step, self.half), self.batches.incompatible(step, self.half)]
        images = torch.cat([part.images for part in outfits])  # (2B, 4, 3, S, S)
        replaced = self.batches.replaced(step, self.half)  # (B, 4)
        images = hide(images, replaced, self.config.model.collocation.missing, self.batches.random(step))
        batch = Batch(images, torch.empty(0)).to(self.accelerator.device)

        def objective(part: Batch) -> tuple[dict[str, Tensor], Tensor]:
            loss, accuracy = self.objective(part.images)
            return {"loss": loss, "accuracy": accuracy}, loss

        terms = descend(self.accelerator, self.objective, self.optimizer, [batch], objective)
        return as_floats(self.accelerator, terms)

    def state(self) -> dict[str, Tensor]:
        """Return the CCM's weights and its optimiser's state."""
        return pack("collocation", self.classifier) | pack_optimizer("optimizer", self.optimizer)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load what `state` returned."""
        unpack("collocation", self.classifier, tensors)
        unpack_optimizer("optimizer", self.optimizer, tensors)


def hide(images: Tensor, replaced: Tensor, share: float, rng: Draws) -> Tensor:
    """Blank about a `share` of the items of images (2B, 4, 3, S, S), B outfits and then their negatives.

    Both of a pair lose the same items: what is missing must not tell them apart. Each keeps at least two, and of those
    that are `replaced` in the negative (B, 4) at least one: without it the two would be one outfit with two labels.
    """
    draws = rng.uniform(*replaced.shape)  # (B, 4)
    ranks = draws.argsort(dim=1).argsort(dim=1)  # an outfit's likeliest to be hidden first
    last = draws.masked_fill(~replaced, -1).argmax(dim=1, keepdim=True)  # (B, 1) of the replaced the likeliest to stay
    hidden = ((draws < share) & (ranks < images.shape[1] - _LEAST)).scatter(1, last, value=False)  # (B, 4)
    return images.masked_fill(hidden.repeat(2, 1)[:, :, None, None, None], 1.0)
