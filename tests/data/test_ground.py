"""Silhouettes of product photos, against the masks that procedural garments were drawn with."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import label, regionprops
from skimage.morphology import disk, erosion

from outfitgan.data.ground import silhouette, without_specks
from outfitgan.data.synthetic import SyntheticOutfits
from outfitgan.images import load_image
from outfitgan.items import Item, ItemKind, Outfit
from outfitgan.white_ground import PHOTO_GROUND

GREY = (120, 120, 120)


def blank(side: int = 40) -> NDArray[np.uint8]:
    return np.full((side, side, 3), 255, np.uint8)


def framed(inside: int) -> NDArray[np.uint8]:
    """A grey frame of 24x24 pixels around a square of `inside`."""
    image = blank()
    image[8:32, 8:32] = GREY
    image[12:28, 12:28] = inside
    return image


def photographed(item: Item, quality: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The item as a JPEG that was made smaller, and its mask made smaller with it."""
    stream = io.BytesIO()
    Image.fromarray(item.image).save(stream, "JPEG", quality=quality)
    image = load_image(stream.getvalue(), "photo", size).pixels
    return image, np.asarray(Image.fromarray(item.mask).resize((size, size), Image.Resampling.BOX)) >= 128


@pytest.fixture(scope="module")
def drawn() -> list[Outfit]:
    source = SyntheticOutfits(16, 400, 3, "train")
    return [source[index] for index in range(len(source))]


@pytest.mark.parametrize(("quality", "size", "overlap"), [(95, 256, 0.96), (75, 128, 0.92), (75, 64, 0.85)])
def test_a_photo_of_a_drawn_garment_gives_its_mask_back(
    drawn: list[Outfit], quality: int, size: int, overlap: float
) -> None:
    for outfit in drawn:
        for item in outfit.items.values():
            image, mask = photographed(item, quality, size)
            region = silhouette(image)
            assert (region & mask).sum() / (region | mask).sum() > overlap, (outfit.name, item.kind)
            assert (region & mask).sum() / mask.sum() > 0.99, (outfit.name, item.kind)


def test_a_handle_shows_the_ground(drawn: list[Outfit]) -> None:
    for outfit in drawn:
        image, mask = photographed(outfit.items[ItemKind.BAG], 80, 128)
        grounds = label(~mask, connectivity=1)
        hole = erosion((grounds > 0) & (grounds != grounds[0, 0]), disk(2))  # all that is not outside
        assert hole.sum() > 20, outfit.name
        assert not silhouette(image)[hole].any(), outfit.name


def test_pale_cloth_is_filled_and_the_clean_ground_is_not() -> None:
    assert silhouette(framed(250)).sum() == 24 * 24  # a white front, a shade off white
    assert silhouette(framed(255)).sum() == 24 * 24 - 16 * 16
    pinholes = framed(120)
    pinholes[15, 15:17] = 255
    assert silhouette(pinholes).sum() == 24 * 24


def test_a_bay_is_not_a_hole() -> None:
    image = framed(250)
    image[8:12, 12:28] = 255  # opens the frame to the outside
    assert silhouette(image).sum() == 24 * 24 - 20 * 16


def test_specks_are_dropped() -> None:
    image = framed(120)
    image[2:4, 2:4] = 0  # 4 of 580 pixels
    assert silhouette(image).sum() == 24 * 24
    image[1:7, 1:7] = 0  # 36: a second item
    assert silhouette(image).sum() == 24 * 24 + 36


def test_near_white_is_what_it_says() -> None:
    for level, seen in ((PHOTO_GROUND - 1, True), (PHOTO_GROUND, False)):
        image = blank()
        image[10:20, 10:20, 1] = level  # one channel is enough
        assert silhouette(image).any() == seen


def test_a_blank_photo_has_none_and_a_full_one_all() -> None:
    assert not silhouette(blank()).any()
    assert silhouette(np.zeros((20, 30, 3), np.uint8)).all()


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, (18, 23, 3), elements=st.sampled_from([0, 200, 239, 240, 250, 253, 255])))
def test_turning_the_photo_turns_the_silhouette(image: NDArray[np.uint8]) -> None:
    region = silhouette(image)
    assert region.any() == (image.min(axis=2) < PHOTO_GROUND).any()
    np.testing.assert_array_equal(silhouette(image[::-1]), region[::-1])
    np.testing.assert_array_equal(silhouette(image.transpose(1, 0, 2)), region.T)


@settings(max_examples=60, deadline=None)
@given(arrays(bool, (15, 20)), st.sampled_from([0.0, 0.02, 0.1, 0.4, 1.0]))
def test_patches_that_stay_are_the_large_ones(region: NDArray[np.bool_], share: float) -> None:
    kept = without_specks(region, share)
    patches = regionprops(label(region, connectivity=1))
    largest = max((patch.area for patch in patches), default=0)
    expected = np.zeros_like(region)
    for patch in patches:
        if patch.area >= min(share * region.sum(), largest):
            expected[tuple(patch.coords.T)] = True
    np.testing.assert_array_equal(kept, expected)
