"""Outfits as tensors; the batch of a step depends on the seed and the step alone, so a resumed run sees the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from outfitgan.data.augmentation import Augmentation, Draws
from outfitgan.data.outfit_store import OutfitStore
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.masks import THRESHOLD


@dataclass(frozen=True)
class Batch:
    """B outfits."""

    images: Tensor  # (B, 4, 3, S, S) in [-1, 1], collocation order
    masks: Tensor  # (B, 4, 1, S, S) 0 or 1

    def image(self, kind: ItemKind) -> Tensor:
        """Return the items of one kind, (B, 3, S, S)."""
        return self.images[:, COLLOCATION_ORDER.index(kind)]

    def mask(self, kind: ItemKind) -> Tensor:
        """Return the masks of one kind, (B, 1, S, S)."""
        return self.masks[:, COLLOCATION_ORDER.index(kind)]

    def images_of(self, kinds: tuple[ItemKind, ...]) -> Tensor:
        """Return the items of some kinds, (B, T, 3, S, S)."""
        return torch.stack([self.image(kind) for kind in kinds], dim=1)

    def masks_of(self, kinds: tuple[ItemKind, ...]) -> Tensor:
        """Return the masks of some kinds, (B, T, 1, S, S)."""
        return torch.stack([self.mask(kind) for kind in kinds], dim=1)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        return Batch(self.images.to(device), self.masks.to(device))

    def first(self, count: int) -> Batch:
        """Return the first outfits of the batch."""
        return Batch(self.images[:count], self.masks[:count])

    def parts(self, count: int) -> list[Batch]:
        """Return the batch in `count` equal parts."""
        images, masks = self.images.chunk(count), self.masks.chunk(count)
        return [Batch(image, mask) for image, mask in zip(images, masks, strict=True)]


class Batches:
    """Draws batches from a store, each outfit once an epoch; of several processes each takes its own share."""

    def __init__(
        self,
        store: OutfitStore,  # the outfits
        seed: int,  # of their order
        augmentation: Augmentation,  # of each batch
        process: int = 0,  # this process's number ...
        processes: int = 1,  # ... of so many
    ) -> None:
        self.store, self.seed, self._augmentation = store, seed, augmentation
        self._process, self._processes = process, processes

    def steps_an_epoch(self, batch: int) -> int:
        """Return how many steps of `batch` outfits see every outfit once."""
        return -(-len(self.store) // batch)

    def real(self, step: int, batch: int) -> Batch:
        """Return this process's share of the `batch` outfits of `step`."""
        return self._augmented(self.store.rows(self._draw(step, batch)), step, 0)

    def incompatible(self, step: int, batch: int) -> Batch:
        """Return hard negatives of the outfits that `real` draws for `step`."""
        return self._augmented(self._negatives(step, batch), step, 1)

    def replaced(self, step: int, batch: int) -> Tensor:
        """Return in which items, (B, 4) bool, `incompatible` is not `real`."""
        return torch.from_numpy(self._negatives(step, batch) != self.store.rows(self._draw(step, batch)))

    def random(self, step: int) -> Draws:
        """Return the random numbers of this process's outfits of `step`."""
        words = np.random.SeedSequence([self.seed, step]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))
        return Draws(generator, self._process, self._processes)

    def _negatives(self, step: int, batch: int) -> NDArray[np.int64]:
        return np.stack([self.store.negative_rows(index, step) for index in self._draw(step, batch)])  # (B, 4)

    def _augmented(self, rows: NDArray[np.int64], step: int, stream: int) -> Batch:
        batch = batch_of(*self.store.gather(rows))
        return Batch(*self._augmentation(batch.images, batch.masks, self.random(2 * step + stream)))

    def _draw(self, step: int, batch: int) -> list[int]:
        first = (step - 1) * batch
        mine = [divmod(p, len(self.store)) for p in range(first + self._process, first + batch, self._processes)]
        orders = {epoch: self._shuffled(epoch) for epoch in {epoch for epoch, _ in mine}}
        return [orders[epoch][place] for epoch, place in mine]

    def _shuffled(self, epoch: int) -> list[int]:
        order: list[int] = np.random.default_rng([self.seed, epoch]).permutation(len(self.store)).tolist()
        return order


def batch_of(images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> Batch:
    """Return images (B, 4, S, S, 3) and masks (B, 4, S, S) as tensors."""
    pixels = torch.from_numpy(images).permute(0, 1, 4, 2, 3).float()  # (B, 4, 3, S, S)
    return Batch(pixels / 127.5 - 1, torch.from_numpy(masks >= THRESHOLD).unsqueeze(2).float())
