"""SSIM: structural similarity of a generated item and the real one (Wang et al. 2004)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from outfitgan.errors import InputError
from outfitgan.evaluation.metrics.arrays import Scores, check_pictures, slices

WINDOW = 11  # pixels: a Gaussian of deviation 1.5, cut at 3.5 deviations
_CHUNK = 32  # pictures at a time: five filtered copies of each are held


def ssim(generated: Tensor, real: Tensor) -> Scores:
    """Return each pair's SSIM (N,), at most 1, of images (N, 3, S, S) in [-1, 1]; no feature network.

    The original's constants (K1 0.01, K2 0.03) and window, a mean over the three channels and over the positions where
    the whole window lies inside the image. Raises InputError for images smaller than the window.
    """
    check_pictures(generated, real)
    if real.shape[-1] < WINDOW:
        raise InputError(f"SSIM needs images of at least {WINDOW} pixels a side, not {real.shape[-1]}.")
    return np.concatenate([_ssim(generated[part], real[part]) for part in slices(len(real), _CHUNK)])


def _ssim(first: Tensor, second: Tensor) -> Scores:
    with torch.inference_mode():
        _, similarity = structural_similarity_index_measure(
            first.float(), second.float(), sigma=1.5, data_range=2.0, reduction="none", return_full_image=True
        )
    margin = WINDOW // 2  # the package pads by reflection, and its own mean takes that in
    whole = similarity[..., margin:-margin, margin:-margin]  # (N, 3, S - 10, S - 10)
    return whole.double().mean(dim=(1, 2, 3)).cpu().numpy()
