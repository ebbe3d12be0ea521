"""Augmentation: an item and its mask move together, within the promised range, and as the generator says."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from scipy.ndimage import center_of_mass
from torch import Tensor

from outfitgan.config import Augmentation as AugmentationName
from outfitgan.data.augmentation import Augmentation, Draws, Flip, FlipAndShift, NoAugmentation, augmentation_of

SIDE = 64
BATCH = 24


def rng(seed: int = 0, *share: int) -> Draws:
    return Draws(generator(seed), *share)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def masks() -> Tensor:
    """An L in the middle of each square, so that a mirror image shows: (B, 4, 1, S, S)."""
    masks = torch.zeros(BATCH, 4, 1, SIDE, SIDE)
    masks[..., 16:48, 20:30] = 1
    masks[..., 38:48, 20:44] = 1
    return masks


@pytest.fixture
def images(masks: Tensor) -> Tensor:
    """Black where the mask is, white elsewhere: (B, 4, 3, S, S)."""
    return (1 - 2 * masks).expand(-1, -1, 3, -1, -1).contiguous()


@pytest.mark.parametrize("name", get_args(AugmentationName))
def test_every_name_of_the_config_keeps_a_batchs_form(name: AugmentationName, images: Tensor, masks: Tensor) -> None:
    before = images.clone(), masks.clone()
    changed, moved = augmentation_of(name)(images, masks, rng())
    assert (changed.shape, changed.dtype) == (images.shape, images.dtype)
    assert (moved.shape, moved.dtype) == (masks.shape, masks.dtype)
    assert set(moved.unique().tolist()) == {0, 1}
    assert -1 <= changed.min() <= changed.max() <= 1
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])


def test_names_mean_what_they_say() -> None:
    kinds = {name: type(augmentation_of(name)) for name in get_args(AugmentationName)}
    assert kinds == {"none": NoAugmentation, "flip": Flip, "flip-and-shift": FlipAndShift}


def test_none_is_none(images: Tensor, masks: Tensor) -> None:
    changed, moved = NoAugmentation()(images, masks, rng())
    assert torch.equal(changed, images)
    assert torch.equal(moved, masks)


def test_half_of_the_items_are_mirrored_with_their_masks() -> None:
    images = torch.rand(200, 4, 3, 8, 8, generator=generator(1)) * 2 - 1
    masks = (torch.rand(200, 4, 1, 8, 8, generator=generator(2)) < 0.5).float()
    changed, moved = (array.numpy() for array in Flip()(images, masks, rng()))
    flipped = 0
    for outfit in range(200):
        for kind in range(4):
            image, mask = images[outfit, kind].numpy(), masks[outfit, kind].numpy()
            mirrored = not np.array_equal(changed[outfit, kind], image)
            flipped += mirrored
            np.testing.assert_array_equal(changed[outfit, kind], np.flip(image, 2) if mirrored else image)
            np.testing.assert_array_equal(moved[outfit, kind], np.flip(mask, 2) if mirrored else mask)
    assert 340 < flipped < 460


@pytest.mark.parametrize("augmentation", [Flip(), FlipAndShift()])
def test_the_generator_alone_decides(augmentation: Augmentation, images: Tensor, masks: Tensor) -> None:
    first, again, other = (augmentation(images, masks, rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    torch.rand(5)  # the global generator is not asked
    assert torch.equal(augmentation(images, masks, rng(3))[0], first[0])


@pytest.mark.parametrize("augmentation", [Flip(), FlipAndShift()])
def test_processes_change_their_outfits_as_one_does(augmentation: Augmentation, images: Tensor, masks: Tensor) -> None:
    whole = augmentation(images, masks, rng(5))
    for process in range(3):
        share = augmentation(images[process::3], masks[process::3], rng(5, process, 3))
        for part, tensor in zip(share, whole, strict=True):
            assert torch.equal(part, tensor[process::3])


def test_draws_are_uniform_and_each_items_own() -> None:
    draws = rng(2)
    drawn = draws.uniform(500, 4)
    assert len(drawn.unique()) > 1990
    assert (drawn.min(), drawn.max()) == pytest.approx((0, 1), abs=0.01)
    assert drawn.mean(dim=0).tolist() == pytest.approx([0.5] * 4, abs=0.04)
    assert not torch.equal(draws.uniform(500, 4), drawn)


def test_image_and_mask_stay_aligned(images: Tensor, masks: Tensor) -> None:
    changed, moved = FlipAndShift()(images, masks, rng())
    # Black and white meet at zero exactly where the mask's one and zero meet at a half.
    assert torch.equal(changed <= 0, (moved > 0).expand_as(changed))
    assert not torch.equal(moved, masks)


def test_items_are_scaled_and_moved_as_far_as_promised(images: Tensor, masks: Tensor) -> None:
    _, moved = FlipAndShift()(images, masks, rng())
    original = masks[0, 0, 0].numpy()
    row, column = center_of_mass(original)
    scales, downs, rights, mirrored = [], [], [], 0
    for mask in moved.flatten(0, 2).numpy():
        scale = (mask.sum() / original.sum()) ** 0.5
        left_arm = mask[:, : SIDE // 2].sum() > mask[:, SIDE // 2 :].sum()
        mirrored += not left_arm
        middle = SIDE / 2 - 0.5
        y, x = center_of_mass(mask if left_arm else mask[:, ::-1])
        right = x - (middle + (column - middle) * scale)
        scales.append(scale)
        downs.append((y - (middle + (row - middle) * scale)) / SIDE)
        rights.append((right if left_arm else -right) / SIDE)
    assert 0.90 < min(scales) < 0.945
    assert 1.055 < max(scales) < 1.10
    for shifts in (downs, rights):
        assert -0.05 < min(shifts) < -0.025
        assert 0.025 < max(shifts) < 0.05
    assert 0.25 < mirrored / len(scales) < 0.75
    assert abs(np.corrcoef(scales, downs)[0, 1]) < 0.4
    assert abs(np.corrcoef(rights, downs)[0, 1]) < 0.4


def test_items_of_one_outfit_move_apart(images: Tensor, masks: Tensor) -> None:
    _, moved = FlipAndShift()(images, masks, rng())
    assert len({mask.numpy().tobytes() for mask in moved[0]}) == 4


def test_outside_is_white() -> None:
    black, full = -torch.ones(BATCH, 4, 3, SIDE, SIDE), torch.ones(BATCH, 4, 1, SIDE, SIDE)
    changed, moved = FlipAndShift()(black, full, rng())
    edges = torch.cat([changed[..., 0, :], changed[..., -1, :], changed[..., :, 0], changed[..., :, -1]], dim=-1)
    assert (edges.amax(dim=(2, 3)) == 1).float().mean() > 0.5  # all but the enlarged that hardly moved
    assert ((moved == 0) & (changed.amax(dim=2, keepdim=True) < 0)).sum() == 0
    assert (moved[..., 8:-8, 8:-8] == 1).all()


def test_double_precision_is_kept(images: Tensor, masks: Tensor) -> None:
    single = FlipAndShift()(images, masks, rng())
    double = FlipAndShift()(images.double(), masks.double(), rng())
    assert double[0].dtype == double[1].dtype == torch.float64
    torch.testing.assert_close(single[0].double(), double[0], atol=1e-3, rtol=0)
