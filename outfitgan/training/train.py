"""The trainings of a run: the CCM first, then the generators against it; and the mask generators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.progress import Progress as Bar
from rich.progress import TaskID
from torch import nn

from outfitgan.config import Config, load_config, load_preset, override
from outfitgan.data.augmentation import augmentation_of
from outfitgan.data.outfit_store import OutfitStore, open_store
from outfitgan.data.store_files import VARIANTS
from outfitgan.errors import ConfigError
from outfitgan.files import partial_file
from outfitgan.networks.efficientnet import load_efficientnet_lite0
from outfitgan.networks.vgg import load_vgg16
from outfitgan.progress import Progress
from outfitgan.training.batches import Batches, batch_of
from outfitgan.training.collocation_trainer import CollocationTrainer
from outfitgan.training.device import accelerator_for
from outfitgan.training.loop import SAME_COMMAND, train_loop, training_progress
from outfitgan.training.mask_trainer import MaskTrainer
from outfitgan.training.outfit_trainer import OutfitTrainer
from outfitgan.training.runs import Run
from outfitgan.training.sample_grid import sample_grid
from outfitgan.training.trained_networks import load_classifier

_SAMPLES = 4  # held-out outfits in each sample grid


def train_run(run: Run, goes_on: str = SAME_COMMAND) -> None:
    """Train `run` from wherever it stands to its last step; raise StoppedError, with `goes_on`, after Ctrl-C."""
    config = run.config
    # Loaded before the first step: missing weights are better heard of now than after the CCM's training.
    features = perceptual_features(config)
    accelerator = accelerator_for(config.training)
    with training_progress(accelerator) as progress:
        small = open_batches(config, config.model.collocation.input_size, accelerator, progress, VARIANTS)
        collocation = CollocationTrainer(config, small, accelerator)
        train_loop(run, collocation, config.training.collocation_steps, progress, accelerator, goes_on=goes_on)
        batches = open_batches(config, config.model.image_size, accelerator, progress)
        trainer = OutfitTrainer(config, batches, load_classifier(run), accelerator, features)
        sampled = _sampler(run, trainer)
        train_loop(run, trainer, config.training.steps, progress, accelerator, sampled, goes_on)


def train_masks(run: Run) -> None:
    """Train the run's mask generators to their last step; raise StoppedError after Ctrl-C."""
    config = run.config
    accelerator = accelerator_for(config.training)
    with training_progress(accelerator) as progress:
        batches = open_batches(config, config.model.image_size, accelerator, progress)
        trainer = MaskTrainer(config, batches, accelerator)
        train_loop(run, trainer, config.training.mask_steps, progress, accelerator)


def perceptual_features(config: Config) -> nn.Module | None:
    """Return the frozen network of the perceptual loss, None at weight 0; raise ConfigError without its weights."""
    if not config.losses.perceptual:
        return None
    if config.losses.perceptual_network == "vgg16":
        return load_vgg16(config.losses.vgg_weights)
    return load_efficientnet_lite0()


def open_split(config: Config, size: int, split: str) -> OutfitStore:
    """Return a run's outfits of `split` at (size, size)."""
    return open_store(config.data, size, split, config.training.seed, variants=0)


def open_batches(config: Config, size: int, accelerator: Accelerator, progress: Bar, variants: int = 0) -> Batches:
    """Return a run's training outfits at (size, size), decoded now if they were not before; see `open_store`."""
    with accelerator.main_process_first():  # which decodes; the others find it done
        store = open_store(config.data, size, "train", config.training.seed, _decoding(progress), variants)
    for note in store.notes if accelerator.is_main_process else ():
        progress.console.print(f"note: {note}", style="dim", markup=False, highlight=False)
    augmentation = augmentation_of(config.data.augmentation)
    return Batches(store, config.training.seed, augmentation, accelerator.process_index, accelerator.num_processes)


def _decoding(progress: Bar) -> Progress:
    """Return what shows outfits being decoded, as a task that appears with the first of them."""
    tasks: list[TaskID] = []

    def show(what: str, done: int, total: int) -> None:
        if not tasks:
            tasks.append(progress.add_task("decoding", losses=""))
        progress.update(tasks[0], completed=done, total=total)

    return show


def _sampler(run: Run, trainer: OutfitTrainer) -> Callable[[int], None]:
    """Return what draws the same held-out outfits with the averaged generators: once an epoch, say, and at the end."""
    config, training = run.config, run.config.training
    every = training.sample_every or trainer.batches.steps_an_epoch(training.batch)
    held_out = open_split(config, config.model.image_size, "test")
    rows = held_out.rows(list(range(min(_SAMPLES, len(held_out)))))
    batch = batch_of(*held_out.gather(rows)).to(trainer.accelerator.device)
    targets = config.model.targets

    def after_step(step: int) -> None:
        if step % every and step != training.steps:
            return
        with torch.inference_mode():
            made = trainer.averaged(batch.image(config.model.source), batch.masks_of(targets))  # (B, T, 3, S, S)
        with partial_file(run.folder / "samples" / f"{step:06d}.png") as partial:
            items = dict(zip(targets, made.unbind(dim=1), strict=True))
            sample_grid(batch, items, config.model.source).save(partial, format="PNG")

    return after_step


def chosen_config(preset: str | None, path: Path | None, changes: dict[str, Any]) -> Config:
    """Return the preset (`small` by default) or the file's config with `changes` applied; see `override`."""
    if preset and path:
        raise ConfigError("Give --preset or --config, not both.")
    return override(load_config(path) if path else load_preset(preset or "small"), changes)
