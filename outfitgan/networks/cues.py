"""What the SAM's correlation sees beside learned features: where a cell lies and how much garment it holds. Ours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from outfitgan.white_ground import PRESENCE_GAIN

_OCTAVES = (1, 2, 4, 8)
CUES = 4 * len(_OCTAVES) + 1
"""Channels that `with_cues` appends."""


def with_cues(x: Tensor, presence: Tensor) -> Tensor:
    """Append presence and the sines and cosines of each cell's row and column: (B, C, H, W) -> (B, C + CUES, H, W)."""
    height, width = x.shape[2:]
    rows, columns = (torch.linspace(-1, 1, n, device=x.device, dtype=x.dtype) for n in (height, width))
    axes = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))  # (2, H, W)
    waves = [wave(axes * (torch.pi / 2 * octave)) for octave in _OCTAVES for wave in (torch.sin, torch.cos)]
    places = torch.cat(waves).expand(x.shape[0], -1, -1, -1)  # (B, CUES - 1, H, W)
    return torch.cat([x, places, 2 * presence - 1], dim=1)


def presence_of(image: Tensor, cell: int) -> Tensor:
    """Return how much garment each cell of an image (B, 3, S, S) in [-1, 1] holds: (B, 1, S / cell, S / cell)."""
    darkness = (1 - image.amin(dim=1, keepdim=True)) * PRESENCE_GAIN  # (B, 1, S, S) 0 on the white ground
    return F.avg_pool2d(darkness.clamp(max=1), cell)
