"""Which outfits a step sees, and how they become tensors."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from training_cases import CONFIG, batches_of, small, store_of

from outfitgan.items import COLLOCATION_ORDER
from outfitgan.training.batches import batch_of


def test_a_batch_holds_the_outfits_in_collocation_order() -> None:
    store = store_of(CONFIG)
    outfits = [store.outfit(index) for index in (3, 0, 3)]
    batch = batch_of(*store.gather(store.rows([3, 0, 3])))
    assert (batch.images.shape, batch.masks.shape) == ((3, 4, 3, 32, 32), (3, 4, 1, 32, 32))
    for row, outfit in enumerate(outfits):
        for column, kind in enumerate(COLLOCATION_ORDER):
            pixels = outfit.items[kind].image.astype(np.float64) / 127.5 - 1
            np.testing.assert_allclose(batch.images[row, column].numpy(), pixels.transpose(2, 0, 1), atol=1e-6)
            assert np.array_equal(batch.masks[row, column, 0].numpy(), outfit.items[kind].mask // 255)
            assert torch.equal(batch.image(kind)[row], batch.images[row, column])
            assert torch.equal(batch.mask(kind)[row], batch.masks[row, column])
    kinds = (COLLOCATION_ORDER[3], COLLOCATION_ORDER[1])
    assert torch.equal(batch.images_of(kinds), batch.images[:, [3, 1]])
    assert torch.equal(batch.masks_of(kinds), batch.masks[:, [3, 1]])


@pytest.mark.parametrize("augmentation", ["none", "flip-and-shift"])
def test_a_batch_depends_on_seed_and_step_alone(augmentation: str) -> None:
    config = small(data__augmentation=augmentation)
    used = batches_of(config, seed=4)
    seen = [(used.real(step, 4).images, used.incompatible(step, 4).images) for step in range(1, 9)]
    for step in (8, 3, 1):
        fresh = batches_of(config, seed=4)
        for batches in (fresh, used):
            assert torch.equal(batches.incompatible(step, 4).images, seen[step - 1][1])
            assert torch.equal(batches.real(step, 4).images, seen[step - 1][0])
    assert len({images.numpy().tobytes() for images, _ in seen}) == 8
    assert not torch.equal(batches_of(config, seed=6).real(1, 4).images, seen[0][0])


def test_an_epoch_sees_every_outfit_once_in_an_order_of_its_own() -> None:
    store = store_of(CONFIG)
    batches = batches_of(CONFIG, seed=1)
    assert (batches.steps_an_epoch(4), batches.steps_an_epoch(5), batches.steps_an_epoch(20)) == (3, 2, 1)
    names = {batch_of(*store.gather(store.rows([i]))).images.numpy().tobytes(): i for i in range(len(store))}
    seen = [names[image[None].numpy().tobytes()] for step in (1, 2, 3, 4) for image in batches.real(step, 5).images]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    counted = Counter(names[image[None].numpy().tobytes()] for image in batches.real(1, 20).images)
    assert set(counted.values()) == {2}  # a batch of two epochs


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("augmentation", ["none", "flip-and-shift"])
def test_processes_share_a_step_without_overlap(processes: int, augmentation: str) -> None:
    config = small(data__augmentation=augmentation)
    whole = batches_of(config, seed=2)
    for number in range(processes):
        part = batches_of(config, seed=2, process=number, processes=processes)
        for drawn, all_drawn in ((part.real, whole.real), (part.incompatible, whole.incompatible)):
            assert len(drawn(3, 8).images) == 8 // processes
            assert torch.equal(drawn(3, 8).images, all_drawn(3, 8).images[number::processes])
            assert torch.equal(drawn(3, 8).masks, all_drawn(3, 8).masks[number::processes])
        assert torch.equal(part.replaced(3, 8), whole.replaced(3, 8)[number::processes])
        shares = part.random(3).uniform(8 // processes, 4), whole.random(3).uniform(8, 4)[number::processes]
        assert torch.equal(*shares)


def test_parts_are_the_batch_in_order() -> None:
    batch = batches_of(CONFIG).real(1, 8)
    parts = batch.parts(4)
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert torch.equal(torch.cat([part.masks for part in parts]), batch.masks)


def test_negatives_are_the_same_outfits_with_an_item_replaced() -> None:
    batches = batches_of(CONFIG)
    for step in range(1, 7):
        same = (batches.real(step, 4).images == batches.incompatible(step, 4).images).all(dim=(2, 3, 4))  # (B, 4)
        assert same.any(dim=1).all()
        assert not same.all(dim=1).any()
        assert torch.equal(batches.replaced(step, 4), ~same)


def test_augmentation_moves_a_batch_and_its_negatives_apart() -> None:
    batches = batches_of(small(data__augmentation="flip-and-shift"))
    real, broken = batches.real(1, 8), batches.incompatible(1, 8)
    same = (real.images == broken.images).all(dim=(2, 3, 4))
    assert not same.any()
    assert set(real.masks.unique().tolist()) == {0.0, 1.0}
