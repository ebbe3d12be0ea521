"""Training of the generators: LSGAN, L1, perceptual, and the frozen CCM over the whole outfit."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from outfitgan.config import Config
from outfitgan.items import COLLOCATION_ORDER
from outfitgan.networks.architectures import OutfitGenerator, build_generator
from outfitgan.networks.collocation import CollocationClassifier
from outfitgan.networks.discriminator import OutfitDiscriminator
from outfitgan.training.batches import Batch, Batches
from outfitgan.training.device import require_even_shares
from outfitgan.training.losses import compatibility, lsgan, perceptual
from outfitgan.training.optimisation import adam, as_floats, averaged, channels_last, descend, rate_at, set_rate
from outfitgan.training.runs import pack, pack_optimizer, unpack, unpack_optimizer


class OutfitTrainer:
    """The generators of a config and one discriminator per target kind, trained together."""

    stage = "outfit"

    def __init__(
        self,
        config: Config,  # of the run
        batches: Batches,  # of its training outfits
        classifier: CollocationClassifier,  # is frozen
        accelerator: Accelerator,  # of this process
        features: nn.Module | None = None,  # of the perceptual loss
    ) -> None:
        self.config, self.batches, self.accelerator = config, batches, accelerator
        training = config.training
        require_even_shares(training.batch, training.accumulation, accelerator.num_processes, "training.batch")
        self.classifier = classifier.eval().requires_grad_(requires_grad=False).to(accelerator.device)
        self.features = None if features is None else features.to(accelerator.device)
        torch.manual_seed(training.seed)
        # Convolutions of few channels take a fifth less time so, on a CPU.
        self.generator = channels_last(build_generator(config.model))
        self.discriminator = channels_last(OutfitDiscriminator(config.model))
        self.averaged = averaged(self.generator, training.ema).to(accelerator.device)
        betas = (training.beta1, 0.999)
        networks = (self.generator, self.discriminator)
        self._rates = (training.rate, training.discriminator_rate)
        optimizers = [adam(network, rate, betas) for network, rate in zip(networks, self._rates, strict=True)]
        # accelerate's prepare has no stubs; over several processes it wraps the networks to exchange gradients
        self._generate, self._discriminate, self.optimizer_g, self.optimizer_d = cast(
            tuple[nn.Module, nn.Module, Any, Any],
            accelerator.prepare(*networks, *optimizers),
        )

    def step(self, step: int) -> dict[str, float]:
        """Train discriminators, then generators, on the batch of `step`, then move the average."""
        training = self.config.training
        for optimizer, rate in zip((self.optimizer_g, self.optimizer_d), self._rates, strict=True):
            set_rate(optimizer, rate_at(training.schedule, rate, step, training.steps))
        parts = self.batches.real(step, training.batch).to(self.accelerator.device).parts(training.accumulation)
        # One part's items serve both; of several none are kept, for memory is what parts are for.
        made = self.generate(parts[0]) if len(parts) == 1 else None
        terms = self.backward_d(parts, made) | self.backward_g(parts, made)
        self.averaged.update_parameters(self.generator)
        return as_floats(self.accelerator, terms)

    def generate(self, batch: Batch) -> Tensor:
        """Return the target items, (B, T, 3, S, S)."""
        targets = self.config.model.targets
        made: Tensor = self._generate(batch.image(self.config.model.source), batch.masks_of(targets))
        return made

    def backward_d(self, parts: list[Batch], made: Tensor | None = None) -> dict[str, Tensor]:
        """Teach the discriminators real from generated."""

        def objective(part: Batch) -> tuple[dict[str, Tensor], Tensor]:
            with torch.no_grad():
                fake = self.generate(part) if made is None else made.detach()
            targets = self.config.model.targets
            images, masks = part.images_of(targets), part.masks_of(targets)  # (B, T, 3, S, S), (B, T, 1, S, S)
            scores_by_kind = self._discriminate(torch.cat([images, fake]), torch.cat([masks, masks]))
            losses = []
            for scales in scores_by_kind:
                real, generated = zip(*(scores.chunk(2) for scores in scales), strict=True)
                losses.append((lsgan(real, 1.0) + lsgan(generated, 0.0)) / 2)
            loss = torch.stack(losses).mean()
            return {"d": loss}, loss

        return descend(self.accelerator, self._discriminate, self.optimizer_d, parts, objective)

    def backward_g(self, parts: list[Batch], made: Tensor | None = None) -> dict[str, Tensor]:
        """Teach the generators all terms of the objective."""
        self.discriminator.requires_grad_(requires_grad=False)

        def objective(part: Batch) -> tuple[dict[str, Tensor], Tensor]:
            terms = self.terms(part, self.generate(part) if made is None else made)
            weights = self.config.losses
            return terms, torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()

        try:
            return descend(self.accelerator, self._generate, self.optimizer_g, parts, objective)
        finally:
            self.discriminator.requires_grad_(requires_grad=True)

    def terms(self, batch: Batch, made: Tensor) -> dict[str, Tensor]:
        """Return each loss of items (B, T, 3, S, S), before its weight; the names are those of `LossConfig`."""
        targets = self.config.model.targets
        scores = [lsgan(scales, 1.0) for scales in self.discriminator(made, batch.masks_of(targets))]
        images = batch.images_of(targets)  # (B, T, 3, S, S)
        fakes = dict(zip(targets, made.unbind(dim=1), strict=True))
        outfit = torch.stack([fakes.get(kind, batch.image(kind)) for kind in COLLOCATION_ORDER], dim=1)
        terms = {
            "adversarial": torch.stack(scores).mean(),
            "l1": F.l1_loss(made, images),
            "collocation": compatibility(self.classifier(outfit), 1.0),  # outfit (B, 4, 3, S, S)
        }
        if self.features is not None:
            terms["perceptual"] = perceptual(self.features, made.flatten(0, 1), images.flatten(0, 1))
        return terms

    def state(self) -> dict[str, Tensor]:
        """Return every network's weights, the generators' average and the optimisers' states."""
        tensors = pack("generator", self.generator) | pack("discriminator", self.discriminator)
        tensors |= pack("averaged", self.averaged)
        tensors |= pack_optimizer("optimizer_g", self.optimizer_g)
        return tensors | pack_optimizer("optimizer_d", self.optimizer_d)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load what `state` returned."""
        unpack("generator", self.generator, tensors)
        unpack("discriminator", self.discriminator, tensors)
        unpack("averaged", self.averaged, tensors)
        unpack_optimizer("optimizer_g", self.optimizer_g, tensors)
        unpack_optimizer("optimizer_d", self.optimizer_d, tensors)


def averaged_generator(config: Config, tensors: dict[str, Tensor]) -> OutfitGenerator:
    """Return the averaged generators of a checkpoint, ready for inference."""
    network = averaged(build_generator(config.model), config.training.ema)
    unpack("averaged", network, tensors)
    return cast(OutfitGenerator, network.module.eval())
