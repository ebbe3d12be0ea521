"""The terms of the paper's objective: LSGAN, L1, perceptual (VGG-16), collocation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PERCEPTUAL_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # pix2pixHD


def lsgan(scores: Sequence[Tensor], goal: float) -> Tensor:
    """Return the mean squared distance of every scale's patch scores from `goal` (Mao et al. 2017)."""
    return torch.stack([(score - goal).square().mean() for score in scores]).mean()


def perceptual(network: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
    """Return the weighted L1 distance of VGG features of (B, 3, S, S) images in [-1, 1]."""
    with torch.no_grad():
        goals = network(real)
    pairs = zip(_PERCEPTUAL_WEIGHTS, network(fake), goals, strict=True)
    return torch.stack([weight * F.l1_loss(feature, goal) for weight, feature, goal in pairs]).sum()


def compatibility(logits: Tensor, compatible: float) -> Tensor:
    """Return the cross-entropy of the CCM's logits (B,) against one label."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, compatible))
