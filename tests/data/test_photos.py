"""Items from photo files: the mask beside the photo wins, and what cannot be used is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from outfitgan.data.photos import read_item
from outfitgan.data.synthetic import SyntheticOutfits
from outfitgan.errors import DataError
from outfitgan.images import encode_png
from outfitgan.items import ItemKind


@pytest.fixture
def photo(outfits: SyntheticOutfits, tmp_path: Path) -> Path:
    path = tmp_path / "upper.png"
    path.write_bytes(encode_png(outfits[0].items[ItemKind.UPPER].image))
    return path


def test_without_a_mask_the_ground_shows_the_silhouette(outfits: SyntheticOutfits, photo: Path) -> None:
    drawn = outfits[0].items[ItemKind.UPPER]
    item = read_item(ItemKind.UPPER, photo, None, 64)
    np.testing.assert_array_equal(item.image, drawn.image)
    assert item.kind == ItemKind.UPPER
    assert item.mask.dtype == np.uint8
    assert set(np.unique(item.mask)) == {0, 255}
    assert ((item.mask > 0) & (drawn.mask > 0)).sum() / (drawn.mask > 0).sum() > 0.99


def test_a_mask_that_is_there_is_taken(photo: Path, tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[10:20, 30:50] = 255
    path = tmp_path / "upper_mask.png"
    path.write_bytes(encode_png(mask))
    np.testing.assert_array_equal(read_item(ItemKind.UPPER, photo, path, 64).mask, mask)


def test_an_oblong_photo_is_padded_and_its_silhouette_with_it(tmp_path: Path) -> None:
    pixels = np.full((100, 50, 3), 255, np.uint8)
    pixels[20:80, 20:40] = (200, 30, 30)
    pixels[20:30, 20:25] = 255
    Image.fromarray(pixels).save(tmp_path / "long.png")
    item = read_item(ItemKind.LOWER, tmp_path / "long.png", None, 100)
    rows, columns = np.nonzero(item.mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 79, 45, 64)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((40, 40, 3), 255), "shows nothing but near-white: give it a mask"),
        (np.full((40, 40, 3), 90), "not on a near-white ground: give it a mask"),
        (np.pad(np.full((40, 20, 3), 90), ((0, 0), (10, 10), (0, 0)), constant_values=255), "not on a near-white"),
    ],
)
def test_a_photo_without_a_silhouette_is_named(tmp_path: Path, pixels: np.ndarray, message: str) -> None:
    path = tmp_path / "bag.png"
    path.write_bytes(encode_png(pixels.astype(np.uint8)))
    with pytest.raises(DataError, match=rf"bag\.png .*{message}") as caught:
        read_item(ItemKind.BAG, path, None, 40)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_used_are_named(photo: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff no photo")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        read_item(ItemKind.BAG, broken, None, 32)
    with pytest.raises(DataError, match=r"no file .*nowhere\.png"):
        read_item(ItemKind.BAG, tmp_path / "nowhere.png", None, 32)
    Image.new("L", (64, 64)).save(tmp_path / "empty.png")
    with pytest.raises(DataError, match=r"empty\.png is empty"):
        read_item(ItemKind.BAG, photo, tmp_path / "empty.png", 32)
