"""The networks that a run's checkpoints hold, ready for inference."""

from __future__ import annotations

from outfitgan.items import ItemKind
from outfitgan.networks.architectures import OutfitGenerator
from outfitgan.networks.collocation import CollocationClassifier, build_classifier
from outfitgan.networks.pix2pix import MaskGenerator
from outfitgan.training.mask_trainer import MaskGenerators
from outfitgan.training.outfit_trainer import averaged_generator
from outfitgan.training.runs import Run, unpack


def load_generator(run: Run) -> OutfitGenerator:
    """Return the run's generators, their averaged weights; raise RunError if there are none yet."""
    return averaged_generator(run.config, run.load("outfit"))


def load_classifier(run: Run, stage: str = "collocation") -> CollocationClassifier:
    """Return the run's trained CCM, or the scorer of another stage; raise RunError if there is none yet."""
    classifier = build_classifier(run.config.model)
    unpack("collocation", classifier, run.load(stage))
    return classifier.eval()


def load_mask_generators(run: Run) -> dict[ItemKind, MaskGenerator]:
    """Return the run's mask generators by kind; empty if the run has none."""
    if not run.step("masks"):
        return {}
    generators = MaskGenerators(run.config)
    unpack("mask_generator", generators, run.load("masks"))
    return {ItemKind(kind): network.eval() for kind, network in generators.items.items()}  # type: ignore[misc]
