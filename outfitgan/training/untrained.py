"""Checkpoints of networks with their first weights: enough to export and to measure, without data or a training."""

from __future__ import annotations

import torch

from outfitgan.networks.architectures import build_generator
from outfitgan.networks.collocation import build_classifier
from outfitgan.networks.visual_features import load_published
from outfitgan.training.mask_trainer import MaskGenerators
from outfitgan.training.optimisation import averaged
from outfitgan.training.runs import Run, pack


def save_untrained(run: Run) -> None:
    """Write what `load_generator` and `load_classifier` read; raise ConfigError without published weights it needs."""
    config = run.config
    torch.manual_seed(config.training.seed)
    classifier = build_classifier(config.model)
    load_published(classifier.features, config.losses.vgg_weights)
    run.save("collocation", 1, pack("collocation", classifier))
    run.save("outfit", 1, pack("averaged", averaged(build_generator(config.model), config.training.ema)))


def save_untrained_masks(run: Run) -> None:
    """Write what `load_mask_generators` reads."""
    torch.manual_seed(run.config.training.seed)
    run.save("masks", 1, pack("mask_generator", MaskGenerators(run.config)))
