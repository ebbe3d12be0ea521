"""What the SAM's correlation sees beside learned features: where a cell lies and how much garment it holds. Ours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from outfitgan.white_ground import PRESENCE_GAIN

_OCTAVES = (1, 2, 4, 8)
CUES = 4 * len(_OCTAVES) + 1
"""Channels that `with_cues` appends."""

_FAINT = 1e-3
"""Presence below this is ground; one pixel of 4x4 that is one level off white gives 2.5e-3."""


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
    red, green, blue = image.chunk(3, dim=1)  # (B, 1, S, S) each
    darkness = (1 - red.minimum(green).minimum(blue)) * PRESENCE_GAIN  # (B, 1, S, S) 0 on the white ground
    return F.avg_pool2d(darkness.clamp(max=1), cell)


def within(presence: Tensor) -> Tensor:
    """Return 1 for cells between garment on all four sides (B, 1, H, W): white in a pattern is no ground.

    Args:
        presence: (B, 1, H, W) how much garment each cell holds, 0 on ground.

    """
    held = _held(presence)
    return _between(held) * _between(held.mT).mT


def around(presence: Tensor) -> Tensor:
    """Return 1 for cells that hold garment or touch one that does (B, 1, H, W): what an interpolation reads."""
    return _held(F.max_pool2d(presence, 3, stride=1, padding=1))


def _held(presence: Tensor) -> Tensor:
    """Return 0 or 1 for presence, without a detour over booleans; an engine's ground may be 1e-7 off 0."""
    return F.relu(presence - _FAINT).sign()


def _between(held: Tensor) -> Tensor:
    """Return 1 from the first to the last 1 of each row of held (B, 1, H, W) of 0 and 1."""
    ones = held.new_ones(held.shape[-1], held.shape[-1])
    before, after = held @ ones.triu(), held @ ones.tril()  # counts up to each cell, exact in FP16
    return before.clamp(max=1) * after.clamp(max=1)
