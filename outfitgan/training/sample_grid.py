"""Generated items beside their masks and the real ones, of a batch: what a training draws as it goes."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from outfitgan.items import ItemKind
from outfitgan.pictures import Pixels
from outfitgan.training.batches import Batch


def sample_grid(batch: Batch, fakes: dict[ItemKind, Tensor], source: ItemKind) -> Image.Image:
    """Return one row an outfit: the source, then mask, generated and real item of each target."""
    rows = []
    for index in range(batch.images.shape[0]):
        tiles = [from_tensor(batch.image(source)[index])]
        for kind, fake in fakes.items():
            mask = batch.mask(kind)[index].expand(3, -1, -1) * 2 - 1  # (3, S, S)
            tiles += [from_tensor(mask), from_tensor(fake[index]), from_tensor(batch.image(kind)[index])]
        rows.append(np.concatenate(tiles, axis=1))
    return Image.fromarray(np.concatenate(rows, axis=0))


def from_tensor(image: Tensor) -> Pixels:
    """Return (S, S, 3) of an image (3, S, S) in [-1, 1]."""
    scaled = ((image.detach().float().clamp(-1, 1) + 1) * 127.5).round()  # (3, S, S)
    return scaled.permute(1, 2, 0).byte().cpu().numpy()  # a training's samples lie on its device
