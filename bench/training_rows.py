"""Rows of a training: a whole step, its passes alone, and what feeds it, without augmentation and with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import torch

from bench.spec import Images, Spec
from outfitgan.data.augmentation import FlipAndShift, augmentation_of
from outfitgan.training.batches import Batches
from outfitgan.training.device import accelerator_for
from outfitgan.training.optimisation import as_floats
from outfitgan.training.outfit_trainer import OutfitTrainer
from outfitgan.training.runs import Run
from outfitgan.training.train import open_split, perceptual_features
from outfitgan.training.trained_networks import load_classifier

GATHERED = 8
"""Outfits that one call of `gathering` or `augmenting` takes from the store."""


@contextmanager
def step(spec: Spec) -> Iterator[Callable[[], Images]]:
    """A step of the generators' training as a run takes it: batch, both passes, optimisers, average."""
    trainer, numbers = _trainer(spec), count(1)

    def call() -> Images:
        trainer.step(next(numbers))
        return {}

    yield call


@contextmanager
def passes(spec: Spec) -> Iterator[Callable[[], Images]]:
    """The same step's forward and backward passes alone, of one batch that is in memory already."""
    trainer = _trainer(spec)
    for optimizer in (trainer.optimizer_d, trainer.optimizer_g):
        optimizer.step = lambda: None  # gradients are taken, and nothing moves
    training = trainer.config.training
    parts = trainer.batches.real(1, training.batch).to(trainer.accelerator.device).parts(training.accumulation)

    def call() -> Images:
        made = trainer.generate(parts[0]) if len(parts) == 1 else None
        as_floats(trainer.accelerator, trainer.backward_d(parts, made) | trainer.backward_g(parts, made))
        return {}

    yield call


@contextmanager
def gathering(spec: Spec) -> Iterator[Callable[[], Images]]:
    """Batches of the training split's outfits, in a training's order, copied out of the store."""
    config = Run.open(spec.run).config
    store = open_split(config, config.model.image_size, "train")
    order = torch.randperm(len(store), generator=torch.Generator().manual_seed(config.training.seed)).tolist()
    starts = count(0, GATHERED)

    def call() -> Images:
        start = next(starts)
        store.gather(store.rows([order[number % len(order)] for number in range(start, start + GATHERED)]))
        return {}

    yield call


@contextmanager
def augmenting(spec: Spec) -> Iterator[Callable[[], Images]]:
    """The same batches as a training's tensors, each item flipped, scaled and shifted."""
    if spec.threads:
        torch.set_num_threads(spec.threads)
    config = Run.open(spec.run).config
    store = open_split(config, config.model.image_size, "train")
    batches, numbers = Batches(store, config.training.seed, FlipAndShift()), count(1)

    def call() -> Images:
        batches.real(next(numbers), GATHERED)
        return {}

    yield call


def _trainer(spec: Spec) -> OutfitTrainer:
    if spec.threads:
        torch.set_num_threads(spec.threads)
    run = Run.open(spec.run)
    config = run.config
    store = open_split(config, config.model.image_size, "train")
    batches = Batches(store, config.training.seed, augmentation_of(config.data.augmentation))
    accelerator = accelerator_for(config.training)
    return OutfitTrainer(config, batches, load_classifier(run), accelerator, perceptual_features(config))
