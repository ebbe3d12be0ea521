"""Training of the mask generators: pix2pix from a source item to each target kind's silhouette."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from outfitgan.config import Config
from outfitgan.networks.discriminator import PatchDiscriminator
from outfitgan.networks.initialisation import normal
from outfitgan.networks.norms import convolution_of
from outfitgan.networks.pix2pix import MaskGenerator
from outfitgan.training.batches import Batch, Batches
from outfitgan.training.device import require_even_shares
from outfitgan.training.losses import lsgan
from outfitgan.training.optimisation import as_floats, descend, rate_at, set_rate
from outfitgan.training.runs import pack, pack_optimizer, unpack, unpack_optimizer


class MaskGenerators(nn.Module):
    """One mask generator per target kind."""

    def __init__(
        self,
        config: Config,  # of the run
    ) -> None:
        super().__init__()
        self.targets = config.model.targets
        # Instance normalisation as in pix2pix at batch 1: a silhouette has no brightness to lose.
        convolution, shape = convolution_of("instance"), config.model.mask_generator
        self.items = nn.ModuleDict({kind: MaskGenerator(shape, convolution) for kind in self.targets})

    def forward(self, source: Tensor) -> Tensor:
        """Return silhouettes (B, T, 1, S, S), 0 to 1, of source (B, 3, S, S) in [-1, 1]."""
        return torch.stack([torch.sigmoid(self.items[kind](source)) for kind in self.targets], dim=1)


class MaskDiscriminators(nn.Module):
    """One PatchGAN per target kind, over the source item and the silhouette."""

    def __init__(
        self,
        config: Config,  # of the run
    ) -> None:
        super().__init__()
        self.targets = config.model.targets
        self.items = nn.ModuleDict({kind: PatchDiscriminator(config.model.discriminator) for kind in self.targets})
        self.apply(normal)

    def forward(self, source: Tensor, masks: Tensor) -> list[Tensor]:
        """Return patch scores (B, 1, h, w) a kind, of source (B, 3, S, S) and masks (B, T, 1, S, S)."""
        return [
            self.items[kind](torch.cat([source - 1, masks[:, index]], dim=1)) for index, kind in enumerate(self.targets)
        ]


class MaskTrainer:
    """pix2pix's objective, L1 and a conditional PatchGAN. Ours: least squares for its cross-entropy."""

    stage = "masks"

    def __init__(
        self,
        config: Config,  # of the run
        batches: Batches,  # of its training outfits
        accelerator: Accelerator,  # of this process
    ) -> None:
        self.config, self.batches, self.accelerator = config, batches, accelerator
        training = config.training
        require_even_shares(training.mask_batch, 1, accelerator.num_processes, "training.mask_batch")
        torch.manual_seed(training.seed)
        self.generator, self.discriminator = MaskGenerators(config), MaskDiscriminators(config)
        betas = (training.beta1, 0.999)
        networks = (self.generator, self.discriminator)
        optimizers = [torch.optim.Adam(network.parameters(), training.mask_rate, betas) for network in networks]
        self._generate, self._discriminate, self.optimizer_g, self.optimizer_d = cast(
            tuple[nn.Module, nn.Module, Any, Any], accelerator.prepare(*networks, *optimizers)
        )

    def step(self, step: int) -> dict[str, float]:
        """Train discriminators, then generators, on the batch of `step`."""
        training = self.config.training
        for optimizer in (self.optimizer_g, self.optimizer_d):
            set_rate(optimizer, rate_at(training.schedule, training.mask_rate, step, training.mask_steps))
        batch = self.batches.real(step, training.mask_batch).to(self.accelerator.device)
        source, masks = batch.image(self.config.model.source), batch.masks_of(self.config.model.targets)
        made = self._generate(source)  # (B, T, 1, S, S)
        return as_floats(
            self.accelerator,
            self._backward_d(batch, source, masks, made) | self._backward_g(batch, source, masks, made),
        )

    def _backward_d(self, batch: Batch, source: Tensor, masks: Tensor, made: Tensor) -> dict[str, Tensor]:
        def objective(_: Batch) -> tuple[dict[str, Tensor], Tensor]:
            scores_by_kind = self._discriminate(torch.cat([source, source]), torch.cat([masks, made.detach()]))
            halves = [scores.chunk(2) for scores in scores_by_kind]
            loss = torch.stack([lsgan([real], 1.0) + lsgan([fake], 0.0) for real, fake in halves]).mean() / 2
            return {"d": loss}, loss

        return descend(self.accelerator, self._discriminate, self.optimizer_d, [batch], objective)

    def _backward_g(self, batch: Batch, source: Tensor, masks: Tensor, made: Tensor) -> dict[str, Tensor]:
        def objective(_: Batch) -> tuple[dict[str, Tensor], Tensor]:
            scores = self.discriminator(source, made)
            terms = {"adversarial": lsgan(scores, 1.0), "l1": F.l1_loss(made, masks), "iou": overlap(made, masks)}
            weights = self.config.losses
            return terms, weights.adversarial * terms["adversarial"] + weights.l1 * terms["l1"]

        self.discriminator.requires_grad_(requires_grad=False)
        try:
            return descend(self.accelerator, self._generate, self.optimizer_g, [batch], objective)
        finally:
            self.discriminator.requires_grad_(requires_grad=True)

    def state(self) -> dict[str, Tensor]:
        """Return both networks' weights and the optimisers' states."""
        tensors = pack("mask_generator", self.generator) | pack("discriminator", self.discriminator)
        tensors |= pack_optimizer("optimizer_g", self.optimizer_g)
        return tensors | pack_optimizer("optimizer_d", self.optimizer_d)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load what `state` returned."""
        unpack("mask_generator", self.generator, tensors)
        unpack("discriminator", self.discriminator, tensors)
        unpack_optimizer("optimizer_g", self.optimizer_g, tensors)
        unpack_optimizer("optimizer_d", self.optimizer_d, tensors)


def overlap(made: Tensor, masks: Tensor) -> Tensor:
    """Return the mean intersection over union of silhouettes (B, T, 1, S, S), thresholded at a half."""
    one, other = made >= 0.5, masks >= 0.5
    both = (one & other).sum(dim=(2, 3, 4)).float()
    return (both / (one | other).sum(dim=(2, 3, 4)).clamp(min=1)).mean()
