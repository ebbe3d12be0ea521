"""Training of the mask generators, and what a run then holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_cases import TARGETS, batches_of, small, snapshot, stats, unchanged

from outfitgan.errors import ConfigError
from outfitgan.training.device import accelerator_for
from outfitgan.training.mask_trainer import MaskTrainer, overlap
from outfitgan.training.runs import Run
from outfitgan.training.train import train_masks
from outfitgan.training.trained_networks import load_mask_generators

CONFIG = small(data__count=2, training__mask_steps=12, training__mask_batch=2, training__mask_rate=1e-3)


def test_silhouettes_can_be_learned_by_heart() -> None:
    trainer = MaskTrainer(CONFIG, batches_of(CONFIG), accelerator_for(CONFIG.training))
    history = [trainer.step(step) for step in range(1, 61)]
    assert np.mean([losses["l1"] for losses in history[-5:]]) < 0.4 * history[0]["l1"]
    assert np.mean([losses["iou"] for losses in history[-5:]]) > 0.85


def test_each_half_step_trains_its_own_side() -> None:
    trainer = MaskTrainer(CONFIG, batches_of(CONFIG), accelerator_for(CONFIG.training))
    batch = trainer.batches.real(1, 2)
    source, masks = batch.image(CONFIG.model.source), batch.masks_of(TARGETS)
    made = trainer.generator(source)
    generator, discriminator = snapshot(trainer.generator), snapshot(trainer.discriminator)
    trainer._backward_d(batch, source, masks, made)
    assert unchanged(trainer.generator, generator)
    assert not unchanged(trainer.discriminator, discriminator)
    discriminator = snapshot(trainer.discriminator)
    trainer._backward_g(batch, source, masks, made)
    assert unchanged(trainer.discriminator, discriminator)
    assert not unchanged(trainer.generator, generator)


def test_a_run_keeps_its_mask_generators(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    assert load_mask_generators(run) == {}
    train_masks(run)
    assert [line["step"] for line in stats(run)] == list(range(1, 13))
    generators = load_mask_generators(run)
    assert tuple(generators) == TARGETS
    trainer = MaskTrainer(CONFIG, batches_of(CONFIG), accelerator_for(CONFIG.training))
    trainer.restore(run.load("masks"))
    source = batches_of(CONFIG).real(1, 2).image(CONFIG.model.source)
    with torch.inference_mode():
        expected = trainer.generator(source)
        for index, kind in enumerate(TARGETS):
            assert torch.equal(torch.sigmoid(generators[kind](source)), expected[:, index])
            assert not generators[kind].training


def test_overlap_is_the_intersection_over_the_union() -> None:
    one, other = torch.zeros(1, 2, 1, 4, 4), torch.zeros(1, 2, 1, 4, 4)
    one[0, 0, 0, :2] = 0.9  # 8 cells
    other[0, 0, 0, 1:3] = 1.0  # 8 cells, 4 shared
    assert overlap(one, other).item() == pytest.approx((4 / 12 + 0) / 2)  # two empty silhouettes share nothing
    assert overlap(one, one).item() == pytest.approx(0.5)


def test_a_size_that_cannot_be_halved_so_often_is_refused() -> None:
    with pytest.raises(ConfigError, match="image_size 48 must be a multiple of 32"):
        small(model__image_size=48, model__collocation__input_size=16)
