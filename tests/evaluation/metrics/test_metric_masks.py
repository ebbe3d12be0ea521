"""Silhouettes and their IoU with the reference masks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.draw import disk
from torch import Tensor
from torchmetrics.functional.classification import binary_jaccard_index

from outfitgan.data.ccp import CcpOutfits
from outfitgan.errors import InputError
from outfitgan.evaluation.metrics.mask_iou import mask_iou, silhouette
from outfitgan.items import ItemKind

REAL = Path(os.environ.get("OUTFITGAN_CCP", Path(__file__).parents[3].parent / "shared/data/ccp"))
needs_ccp = pytest.mark.skipif(
    not (REAL / "photos").is_dir(),
    reason="The Clothing Co-Parsing data set is not here: set OUTFITGAN_CCP to its folder.",
)


def ring(outer: int, inner: int) -> np.ndarray:
    shape = np.zeros((40, 40), bool)
    shape[disk((20, 20), outer)] = True
    if inner:
        shape[disk((20, 20), inner)] = False
    return shape


def painted(shape: np.ndarray, level: float = -0.5) -> Tensor:
    """Return an item (1, 3, 40, 40) on white."""
    return torch.from_numpy(np.where(shape, level, 1.0)).float().expand(1, 3, -1, -1)


def as_mask(shape: np.ndarray) -> Tensor:
    return torch.from_numpy(shape)[None, None].float()


def test_a_silhouette_has_no_holes_and_leaves_near_white_out() -> None:
    np.testing.assert_array_equal(silhouette(painted(ring(12, 5)))[0], ring(12, 0))
    assert not silhouette(torch.full((1, 3, 40, 40), 246 / 127.5 - 1)).any()
    cream = torch.ones(1, 3, 40, 40)
    cream[:, 2, ring(8, 0)] = 244 / 127.5 - 1  # one channel is enough
    np.testing.assert_array_equal(silhouette(cream)[0], ring(8, 0))
    open_ring = ring(12, 5)
    open_ring[20, :] = False  # a gap to the ground: no hole
    np.testing.assert_array_equal(silhouette(painted(open_ring))[0], open_ring)


def test_iou_is_that_of_torchmetrics_per_image() -> None:
    draw = np.random.default_rng(0)
    shapes = [ring(int(draw.integers(3, 18)), 0) for _ in range(6)]
    wanted = [np.roll(shape, int(draw.integers(0, 6)), axis=0) for shape in shapes]
    images, masks = torch.cat([painted(shape) for shape in shapes]), torch.cat([as_mask(shape) for shape in wanted])
    expected = [
        binary_jaccard_index(torch.from_numpy(shape), torch.from_numpy(other).int()).item()
        for shape, other in zip(shapes, wanted, strict=True)
    ]
    np.testing.assert_allclose(mask_iou(images, masks), expected, atol=1e-6)


def test_holes_cost_nothing_and_empty_shapes_agree() -> None:
    assert mask_iou(painted(ring(12, 0)), as_mask(ring(12, 5))) == 1
    assert mask_iou(painted(ring(12, 5)), as_mask(ring(12, 0))) == 1
    nothing = np.zeros((40, 40), bool)
    assert mask_iou(painted(nothing), as_mask(nothing)) == 1
    assert mask_iou(painted(nothing), as_mask(ring(12, 0))) == 0


def test_masks_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"give \(1, 1, 40, 40\), one a picture"):
        mask_iou(painted(ring(12, 0)), torch.ones(1, 40, 40))


@needs_ccp
def test_real_items_fill_their_own_masks_and_not_their_neighbours() -> None:
    source = CcpOutfits(REAL, 64, "test")
    items = [source[index].items[ItemKind.SHOES] for index in range(12)]
    images = torch.from_numpy(np.stack([item.image for item in items])).permute(0, 3, 1, 2).float() / 127.5 - 1
    masks = torch.from_numpy(np.stack([item.mask for item in items]) > 127)[:, None].float()
    own, others = mask_iou(images, masks), mask_iou(images, masks.roll(1, 0))
    assert own.mean() > 0.9
    assert (own > others).all()
