"""The whole training of a run: the CCM first, then the generators against it; and the networks it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from outfitgan.config import Config, load_config, load_preset, override
from outfitgan.data.outfits import open_outfits
from outfitgan.errors import ConfigError
from outfitgan.evaluation.pictures import sample_grid
from outfitgan.files import partial_file
from outfitgan.items import ItemKind
from outfitgan.networks.collocation import CollocationClassifier
from outfitgan.networks.generator import Generator
from outfitgan.networks.vgg import load_vgg16
from outfitgan.training.batches import Batches, as_batch
from outfitgan.training.collocation import CollocationTrainer
from outfitgan.training.loop import train_loop, training_progress
from outfitgan.training.outfit import OutfitTrainer
from outfitgan.training.runs import Run, unpack

_SAMPLES = 4  # held-out outfits in each sample grid


def train_run(run: Run) -> None:
    """Train `run` from wherever it stands to its last step; raise StoppedError after Ctrl-C."""
    config = run.config
    # Loaded before the first step: missing weights are better heard of now than after the CCM's training.
    vgg = load_vgg16(config.losses.vgg_weights) if config.losses.perceptual > 0 else None
    with training_progress() as progress:
        collocation = CollocationTrainer(config, _batches(config, config.model.collocation.input_size))
        train_loop(run, collocation, config.training.collocation_steps, progress)
        trainer = OutfitTrainer(config, _batches(config, config.model.image_size), load_classifier(run), vgg)
        sampler = _Sampler(run, trainer)
        train_loop(run, trainer, config.training.steps, progress, sampler.after_step)


def _batches(config: Config, size: int) -> Batches:
    return Batches(open_outfits(config.data, size, "train", config.training.seed), size, config.training.seed)


class _Sampler:
    """Draws the same held-out outfits every `sample_every` steps and after the last."""

    def __init__(self, run: Run, trainer: OutfitTrainer) -> None:
        self.run, self.trainer = run, trainer
        config = run.config
        held_out = open_outfits(config.data, config.model.image_size, "test", config.training.seed)
        self.batch = as_batch([held_out[index] for index in range(min(_SAMPLES, len(held_out)))])

    def after_step(self, step: int) -> None:
        training = self.run.config.training
        if step % training.sample_every and step != training.steps:
            return
        with torch.inference_mode():
            fakes = self.trainer.generate(self.batch)
        with partial_file(self.run.folder / "samples" / f"{step:06d}.png") as partial:
            sample_grid(self.batch, fakes, self.run.config.model.source).save(partial, format="PNG")


def load_generators(run: Run) -> dict[ItemKind, Generator]:
    """Return the run's trained generators, ready for inference."""
    generators = nn.ModuleDict({kind: Generator(run.config.model) for kind in run.config.model.targets})
    unpack("generator", generators, run.load("outfit"))
    return {ItemKind(kind): network.eval() for kind, network in generators.items()}  # type: ignore[misc]


def load_classifier(run: Run) -> CollocationClassifier:
    """Return the run's trained CCM, ready for inference."""
    classifier = CollocationClassifier(run.config.model)
    unpack("collocation", classifier, run.load("collocation"))
    return classifier.eval()


def chosen_config(preset: str | None, path: Path | None, changes: dict[str, Any]) -> Config:
    """Return the preset (`small` if nothing is said) or the file's config with `changes` applied; see `override`."""
    if preset and path:
        raise ConfigError("Give --preset or --config, not both.")
    return override(load_config(path) if path else load_preset(preset or "small"), changes)
