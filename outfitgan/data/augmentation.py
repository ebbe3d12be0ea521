"""Changes of a batch that leave its outfits what they are; an item's image and mask always move together."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from outfitgan.config import Augmentation as AugmentationName

_SCALE = (0.92, 1.08)
_SHIFT = 0.04  # of the side, each way


class Draws:
    """Random numbers of a batch's items. Of several processes each draws the whole batch's and keeps its outfits'."""

    def __init__(
        self,
        generator: torch.Generator,  # of the whole batch's numbers, the same in every process
        process: int = 0,  # this process's number ...
        processes: int = 1,  # ... of so many, which take the batch's outfits in turn
    ) -> None:
        self._generator, self._process, self._processes = generator, process, processes

    def uniform(self, outfits: int, items: int) -> Tensor:
        """Return a number from 0 to 1 for each of (outfits, items) of this process, on the generator's device."""
        whole = outfits * self._processes, items
        drawn = torch.rand(whole, generator=self._generator, device=self._generator.device)
        return drawn[self._process :: self._processes]


class Augmentation(Protocol):
    """Takes images (B, 4, 3, S, S) in [-1, 1] and masks (B, 4, 1, S, S) of 0 and 1; returns the same, changed."""

    def __call__(self, images: Tensor, masks: Tensor, rng: Draws) -> tuple[Tensor, Tensor]:
        """Return the changed batch; what `rng` draws decides."""
        ...


class NoAugmentation:
    """Leaves a batch as it is."""

    def __call__(self, images: Tensor, masks: Tensor, rng: Draws) -> tuple[Tensor, Tensor]:
        """Return the batch itself."""
        return images, masks


class Flip:
    """Mirrors each item, left to right, or does not, with equal chance."""

    def __call__(self, images: Tensor, masks: Tensor, rng: Draws) -> tuple[Tensor, Tensor]:
        """Return the batch with some of its items mirrored."""
        chosen = _uniform(images, rng, 0, 1)[..., None, None, None] < 0.5  # (B, 4, 1, 1, 1)
        return torch.where(chosen, images.flip(-1), images), torch.where(chosen, masks.flip(-1), masks)


class FlipAndShift:
    """Mirrors each item or does not, then scales it by 0.92 to 1.08 and moves it by up to 4 % of the side each way."""

    def __init__(self) -> None:
        self._flip = Flip()

    def __call__(self, images: Tensor, masks: Tensor, rng: Draws) -> tuple[Tensor, Tensor]:
        """Return the batch with its items moved, on white."""
        images, masks = self._flip(images, masks, rng)
        side = images.shape[-1]
        layers = torch.cat([images - 1, masks], dim=2).flatten(0, 1)  # (4B, 4, S, S); zero is white, and outside
        grid = F.affine_grid(_placements(images, rng), list(layers.shape), align_corners=False)  # (4B, S, S, 2)
        moved = F.grid_sample(layers, grid, align_corners=False).view(*images.shape[:2], 4, side, side)
        return moved[:, :, :3] + 1, (moved[:, :, 3:] >= 0.5).to(masks.dtype)


def augmentation_of(name: AugmentationName) -> Augmentation:
    """Return the augmentation that DataConfig.augmentation names."""
    match name:
        case "none":
            return NoAugmentation()
        case "flip":
            return Flip()
        case "flip-and-shift":
            return FlipAndShift()


def _placements(images: Tensor, rng: Draws) -> Tensor:
    """Return, for each item, the affine map (4B, 2, 3) from where a pixel is to where it comes from, in -1 to 1."""
    scale = _uniform(images, rng, *_SCALE)  # (B, 4)
    right, down = (2 * _uniform(images, rng, -_SHIFT, _SHIFT) for _ in range(2))
    zero = torch.zeros_like(scale)
    rows = [torch.stack([1 / scale, zero, -right / scale], -1), torch.stack([zero, 1 / scale, -down / scale], -1)]
    return torch.stack(rows, dim=-2).flatten(0, 1)


def _uniform(images: Tensor, rng: Draws, low: float, high: float) -> Tensor:
    """Return a number for each item, (B, 4), drawn on the generator's device so that every device sees the same."""
    return (low + (high - low) * rng.uniform(*images.shape[:2])).to(images.device, images.dtype)
