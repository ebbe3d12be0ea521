"""SSIM against scikit-image's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from outfitgan.errors import InputError
from outfitgan.evaluation.metrics.ssim import ssim


def pair(batch: int, size: int, noise: float) -> tuple[Tensor, Tensor]:
    draw = np.random.default_rng(size)
    smooth = draw.uniform(-1, 1, (batch, 3, 4, 4)).repeat(size // 4, axis=2).repeat(size // 4, axis=3)
    real = np.where(smooth > 0.3, 1.0, smooth)  # flat parts and a white ground
    fake = np.clip(real + noise * draw.normal(size=real.shape), -1, 1)
    return torch.from_numpy(fake).float(), torch.from_numpy(real).float()


@pytest.mark.parametrize(("size", "noise"), [(12, 0.1), (32, 0.02), (48, 0.3)])
def test_each_pair_has_the_ssim_of_scikit_image(size: int, noise: float) -> None:
    fake, real = pair(35, size, noise)  # more than are measured at a time
    expected = [
        structural_similarity(
            *(part.double().numpy() for part in both),
            channel_axis=0,
            data_range=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for both in zip(fake, real, strict=True)
    ]
    np.testing.assert_allclose(ssim(fake, real), expected, atol=1e-5)


def test_equal_pictures_have_one_even_if_they_are_blank() -> None:
    _, real = pair(3, 16, 0)
    real[0] = 1
    np.testing.assert_allclose(ssim(real, real), 1, atol=1e-6)


def test_what_cannot_be_compared_is_refused() -> None:
    fake, real = pair(2, 16, 0.1)
    with pytest.raises(InputError, match=r"at least 11 pixels a side, not 8"):
        ssim(fake[..., :8, :8], real[..., :8, :8])
    with pytest.raises(InputError, match=r"give two batches of one shape"):
        ssim(fake[:1], real)
    with pytest.raises(InputError, match=r"give a batch of \(N, 3, S, S\)"):
        ssim(fake[0], real[0])
    with pytest.raises(InputError, match=r"give a batch of \(N, 3, S, S\)"):
        ssim(fake[..., :12], real[..., :12])
    fake[0, 0, 3, 3] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        ssim(fake, real)
