"""The failure signs: each measured where it was put, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, laplace
from torch import Tensor

from outfitgan.errors import InputError
from outfitgan.evaluation.metrics.signs import border_spots, sharpness_ratio, texture_collapse, texture_features

SIZE = 64
BOX = np.ones((3, 3), bool)


def ellipses(count: int, seed: int = 0) -> np.ndarray:
    """Return outlines (N, S, S) that touch no edge."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    radii = draw.uniform(0.4, 0.85, (count, 2, 1, 1))
    return (rows / radii[:, 0]) ** 2 + (columns / radii[:, 1]) ** 2 < 1


def as_masks(shapes: np.ndarray) -> Tensor:
    return torch.from_numpy(shapes)[:, None].float()


def fabrics(count: int, coarsest: float = 3, seed: int = 1) -> np.ndarray:
    """Return cloths (N, 3, S, S) of many colours and grains."""
    draw = np.random.default_rng(seed)
    noise = draw.normal(size=(count, 3, SIZE, SIZE))
    grain = np.stack([gaussian_filter(each, (0, *draw.uniform(0.3, coarsest, 2))) for each in noise])
    grain *= draw.uniform(0.02, 0.2, (count, 1, 1, 1)) / grain.std(axis=(1, 2, 3), keepdims=True)
    return np.clip(draw.uniform(-0.8, 0.7, (count, 3, 1, 1)) + grain, -1, 0.9)


def dressed(shapes: np.ndarray, cloths: np.ndarray) -> Tensor:
    return torch.from_numpy(np.where(shapes[:, None], cloths, 1.0)).float()


def test_border_spots_are_counted_where_the_ground_must_be_white() -> None:
    shapes = ellipses(3)
    shapes[2, 0:30, 20:40] = True  # one that reaches the edge
    images, band = dressed(shapes, fabrics(3)), np.ones((SIZE, SIZE), bool)
    band[8:-8, 8:-8] = False
    ground = band & ~binary_dilation(shapes[2], BOX, iterations=2)
    np.testing.assert_array_equal(border_spots(images, as_masks(shapes)), 0)
    images[2, 1, 60:63, 1:5] = 0.9  # 12 spots of 242, in one channel
    images[2, :, 30, 60] = 0  # a 13th
    images[2, :, 30, 53] = 0  # inside the band's inner edge
    images[2, :, 2, 41] = 0  # next to the item
    images[1, :, 0:8, :] = 246 / 127.5 - 1  # near white
    np.testing.assert_allclose(border_spots(images, as_masks(shapes)), [0, 0, 13 / ground.sum()])


def test_a_mask_that_covers_all_leaves_no_border() -> None:
    assert border_spots(torch.zeros(1, 3, SIZE, SIZE), torch.ones(1, 1, SIZE, SIZE)) == 0
    assert border_spots(torch.zeros(1, 3, SIZE, SIZE), torch.zeros(1, 1, SIZE, SIZE)) == 1


def test_sharpness_is_the_variance_of_scipys_laplacian_inside_the_mask() -> None:
    shapes, cloths = ellipses(4), fabrics(8)
    shapes[3, 0:30, 20:40] = True  # one that reaches the edge
    fake, real = dressed(shapes, cloths[:4]), dressed(shapes, cloths[4:])
    expected = []
    for index, shape in enumerate(shapes):
        inside = binary_erosion(shape, BOX, iterations=2, border_value=1)
        parts = (laplace(images[index].double().mean(0).numpy(), mode="nearest") for images in (fake, real))
        variances = [part[inside].var() + 20 / 12 / 127.5**2 for part in parts]
        expected.append(variances[0] / variances[1])
    np.testing.assert_allclose(sharpness_ratio(fake, real, as_masks(shapes)), expected, rtol=1e-6)


def test_more_items_than_are_measured_at_a_time_are_measured_alike() -> None:
    shapes, cloths = ellipses(70), fabrics(70)
    images, others, masks = dressed(shapes, cloths), dressed(shapes, cloths[::-1]), as_masks(shapes)
    for measure in (
        lambda part: texture_features(images[part], masks[part]),
        lambda part: sharpness_ratio(images[part], others[part], masks[part]),
    ):
        singly = np.concatenate([measure(slice(index, index + 1)) for index in range(70)])
        np.testing.assert_allclose(measure(slice(None)), singly, rtol=1e-9)


def test_blur_lowers_sharpness_and_noise_raises_it_whatever_lies_outside() -> None:
    shapes = ellipses(5)
    masks, real = as_masks(shapes), dressed(shapes, fabrics(5, coarsest=0.6))
    soft = torch.from_numpy(gaussian_filter(real.numpy(), (0, 0, 1, 1)))
    noisy = real + 0.3 * torch.from_numpy(np.random.default_rng(2).normal(size=real.shape)).float()
    assert (sharpness_ratio(soft, real, masks) < 0.5).all()
    assert (sharpness_ratio(noisy, real, masks) > 1.5).all()
    spotted = torch.where(masks > 0.5, real, -real)  # the ground and the outline are not the item
    np.testing.assert_allclose(sharpness_ratio(spotted, real, masks), 1, rtol=1e-9)


def test_plain_items_and_masks_without_an_inside_compare_as_one() -> None:
    plain = torch.full((2, 3, SIZE, SIZE), 0.3)
    rounded = plain + torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, plain.shape)).float() / 127.5
    found = sharpness_ratio(rounded, plain, as_masks(ellipses(2)))
    np.testing.assert_allclose(found, 4 / 3, rtol=0.15)  # three channels of rounding over 3, on top of the floor
    speck = torch.zeros(2, 1, SIZE, SIZE)
    speck[:, :, 30, 30] = 1
    np.testing.assert_array_equal(sharpness_ratio(torch.rand(2, 3, SIZE, SIZE), plain, speck), 1)


def test_texture_features_are_means_over_the_pixels_inside() -> None:
    shapes = ellipses(3)
    images = dressed(shapes, fabrics(3))
    found = texture_features(images, as_masks(shapes))
    assert found.shape == (3, 12)
    for row, image, shape in zip(found, images.double().numpy(), shapes, strict=True):
        inside = binary_erosion(shape, BOX, iterations=2, border_value=1)
        grey, expected = image.mean(0), [*image[:, inside].mean(1), *image[:, inside].std(1)]
        for step in (1, 2, 4):
            for dy, dx in ((step, 0), (0, step)):
                pairs = [
                    (grey[y, x] - grey[y + dy, x + dx]) ** 2
                    for y, x in zip(*np.nonzero(inside), strict=True)
                    if inside[min(y + dy, SIZE - 1), min(x + dx, SIZE - 1)]
                ]
                expected.append(np.sqrt(np.mean(pairs)))
        np.testing.assert_allclose(row, expected, rtol=1e-6)


def test_texture_features_do_not_see_the_outline() -> None:
    """One fabric behind every mask is one texture; the outlines' diversity is the masks'."""
    cloth = np.repeat(fabrics(1), 20, axis=0)
    shapes, cloths = ellipses(20), fabrics(20)
    masks = as_masks(shapes)
    real = texture_features(dressed(shapes, cloths), masks)
    assert texture_collapse(texture_features(dressed(shapes, cloth), masks), real) < 0.1
    halfway = texture_features(dressed(shapes, (cloth + cloths) / 2), masks)
    assert 0.3 < texture_collapse(halfway, real) < 0.7
    flat = np.broadcast_to(cloths.mean(axis=(2, 3), keepdims=True), cloths.shape)
    assert texture_collapse(texture_features(dressed(shapes, flat), masks), real) < 0.8


def test_collapse_compares_mean_distances_in_deviations_of_the_real_items() -> None:
    draw = np.random.default_rng(0)
    real, fake = draw.normal(size=(6, 4)) * [1, 10, 0.1, 3], draw.normal(size=(5, 4))

    def diversity(rows: np.ndarray) -> float:
        scaled = rows / real.std(0)
        return float(np.mean([np.linalg.norm(a - b) for i, a in enumerate(scaled) for b in scaled[:i]]))

    assert texture_collapse(fake, real) == pytest.approx(diversity(fake) / diversity(real))
    assert texture_collapse(real * 0.5 + 7, real) == pytest.approx(0.5)
    assert texture_collapse(np.ones((5, 4)), real) == 0


def test_real_items_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(InputError, match="The real items all have the same texture"):
        texture_collapse(np.random.default_rng(0).normal(size=(5, 4)), np.ones((6, 4)))
    with pytest.raises(InputError, match=r"1 image\(s\)"):
        texture_collapse(np.ones((1, 4)), np.eye(4))
