"""Training of the generators: LSGAN, L1, perceptual, and the frozen CCM over the whole outfit."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outfitgan.config import Config
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.networks.collocation import CollocationClassifier
from outfitgan.networks.discriminator import MultiScaleDiscriminator
from outfitgan.networks.generator import Generator
from outfitgan.networks.vgg import Vgg16
from outfitgan.training.batches import Batch, Batches
from outfitgan.training.losses import compatibility, lsgan, perceptual
from outfitgan.training.runs import pack, pack_optimizer, unpack, unpack_optimizer

Items = dict[ItemKind, Tensor]


class OutfitTrainer:
    """One generator and one discriminator per target kind, trained together."""

    stage = "outfit"

    def __init__(
        self, config: Config, batches: Batches, classifier: CollocationClassifier, vgg: Vgg16 | None = None
    ) -> None:
        self.config, self.batches, self.vgg = config, batches, vgg
        self.classifier = classifier.eval().requires_grad_(requires_grad=False)
        torch.manual_seed(config.training.seed)
        targets = config.model.targets
        self.generators = nn.ModuleDict({kind: Generator(config.model) for kind in targets})
        self.discriminators = nn.ModuleDict({k: MultiScaleDiscriminator(config.model.discriminator) for k in targets})
        rate, betas = config.training.rate, (config.training.beta1, 0.999)
        self.optimizer_g = torch.optim.Adam(self.generators.parameters(), rate, betas)
        self.optimizer_d = torch.optim.Adam(self.discriminators.parameters(), rate, betas)

    def step(self, step: int) -> dict[str, float]:
        """Train discriminators, then generators, on the batch of `step`."""
        batch = self.batches.real(step, self.config.training.batch)
        fakes = self.generate(batch)
        return self.backward_d(batch, fakes) | self.backward_g(batch, fakes)

    def generate(self, batch: Batch) -> Items:
        """Return the target items, (B, 3, S, S) each."""
        source = batch.image(self.config.model.source)
        return {kind: self.generators[kind](source, batch.mask(kind)) for kind in self.config.model.targets}

    def backward_d(self, batch: Batch, fakes: Items) -> dict[str, float]:
        """Teach the discriminators real from generated."""
        losses = []
        for kind, fake in fakes.items():
            real = lsgan(self.discriminators[kind](batch.image(kind), batch.mask(kind)), 1.0)
            made = lsgan(self.discriminators[kind](fake.detach(), batch.mask(kind)), 0.0)
            losses.append((real + made) / 2)
        loss = torch.stack(losses).mean()
        self.optimizer_d.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer_d.step()
        return {"d": loss.item()}

    def backward_g(self, batch: Batch, fakes: Items) -> dict[str, float]:
        """Teach the generators all terms of the objective."""
        terms = self._terms(batch, fakes)
        weights = self.config.losses
        total = weights.adversarial * terms["adversarial"] + weights.l1 * terms["l1"]
        total = total + weights.collocation * terms["collocation"]
        if "perceptual" in terms:
            total = total + weights.perceptual * terms["perceptual"]
        self.optimizer_g.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self.optimizer_g.step()
        return {name: term.item() for name, term in terms.items()}

    def _terms(self, batch: Batch, fakes: Items) -> dict[str, Tensor]:
        kinds = list(fakes)
        self.discriminators.requires_grad_(requires_grad=False)
        scores = [lsgan(self.discriminators[kind](fakes[kind], batch.mask(kind)), 1.0) for kind in kinds]
        self.discriminators.requires_grad_(requires_grad=True)
        outfit = torch.stack([fakes.get(kind, batch.image(kind)) for kind in COLLOCATION_ORDER], dim=1)
        terms = {
            "adversarial": torch.stack(scores).mean(),
            "l1": torch.stack([F.l1_loss(fakes[kind], batch.image(kind)) for kind in kinds]).mean(),
            "collocation": compatibility(self.classifier(outfit), 1.0),  # outfit (B, 4, 3, S, S)
        }
        if self.vgg is not None:
            distances = [perceptual(self.vgg, fakes[kind], batch.image(kind)) for kind in kinds]
            terms["perceptual"] = torch.stack(distances).mean()
        return terms

    def state(self) -> dict[str, Tensor]:
        """Return every network's weights and the optimisers' states."""
        tensors = pack("generator", self.generators) | pack("discriminator", self.discriminators)
        tensors |= pack_optimizer("optimizer_g", self.optimizer_g)
        return tensors | pack_optimizer("optimizer_d", self.optimizer_d)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""
        unpack("generator", self.generators, tensors)
        unpack("discriminator", self.discriminators, tensors)
        unpack_optimizer("optimizer_g", self.optimizer_g, tensors)
        unpack_optimizer("optimizer_d", self.optimizer_d, tensors)
