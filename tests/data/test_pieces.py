"""Grey pieces become items: the outline and the light are the piece's own, the colours the fabric's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from skimage.color import rgb2lab
from skimage.measure import label
from skimage.morphology import dilation, disk
from skimage.transform import resize

from outfitgan.data.drawing.fabric import Fabric, Pattern
from outfitgan.data.drawing.pieces import dress, shape_of
from outfitgan.items import Item, ItemKind

RED, BLUE = np.array([0.7, 0.2, 0.2], np.float32), np.array([0.1, 0.2, 0.7], np.float32)
GREEN = np.array([0.2, 0.6, 0.2], np.float32)
SOLID = Fabric(RED, GREEN, BLUE, Pattern.SOLID, 10)
Piece = NDArray[np.uint8]


def shirt() -> Piece:
    piece = np.zeros((28, 28), np.uint8)
    piece[2:26, 7:21] = 140
    piece[2:8, 2:26] = 140
    return piece


def trousers() -> Piece:
    piece = np.zeros((28, 28), np.uint8)
    piece[0:8, 9:19] = 120
    piece[8:27, 9:13] = 120
    piece[8:27, 15:19] = 120
    return piece


def made(piece: Piece, size: int = 128, fabric: Fabric = SOLID) -> Item:
    return dress(ItemKind.UPPER, piece, fabric, size)


def placed(shape: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """The shape enlarged within a margin of 7 %, by another library."""
    inner = round(0.86 * size)
    large = resize(shape.astype(float), (inner, inner), order=1) >= 0.5
    before = (size - inner) // 2
    return np.pad(large, (before, size - inner - before))


@pytest.mark.parametrize("size", [32, 97, 128, 256])
@pytest.mark.parametrize("piece", [shirt(), trousers()], ids=["shirt", "trousers"])
def test_the_outline_is_the_pieces_own(piece: Piece, size: int) -> None:
    item = made(piece, size)
    assert (item.image.shape, item.image.dtype) == ((size, size, 3), np.uint8)
    assert (item.mask.shape, item.mask.dtype) == ((size, size), np.uint8)
    assert set(np.unique(item.mask)) == {0, 255}
    mask, expected = item.mask > 0, placed(piece > 0, size)
    assert (mask & expected).sum() / (mask | expected).sum() > 0.93
    assert (item.image[~(dilation(item.mask, disk(max(2, size // 40))) > 0)] == 255).all()
    assert (item.image[mask] < 250).any(axis=1).mean() > 0.99


def test_legs_stay_apart_and_a_white_sole_stays_on() -> None:
    assert label(trousers() == 0, connectivity=1).max() == 1
    np.testing.assert_array_equal(shape_of(trousers()), trousers() > 0)
    shoe = np.zeros((28, 28), np.uint8)
    shoe[10:18, 2:26] = 150
    shoe[20:21, 2:26] = 60  # under a sole two pixels high, as white as the ground and open at both ends
    assert shape_of(shoe)[10:21, 2:26].all()
    assert shape_of(shoe).sum() == 11 * 24


def test_darker_grey_is_darker_cloth() -> None:
    piece = shirt()
    piece[10:16, 9:13], piece[10:16, 15:19] = 220, 60  # a dark patch and a light one
    lightness = rgb2lab(made(piece).image)[..., 0]
    scale = 0.86 * 128 / 28
    rows = slice(int(9 + 11.5 * scale), int(9 + 14.5 * scale))
    dark, plain, light = (
        lightness[rows, int(9 + left * scale) : int(9 + right * scale)].mean()
        for left, right in ((10, 12), (13.7, 14.3), (16, 18))
    )
    assert dark < plain - 5
    assert plain < light - 3


def test_body_pattern_and_trim_are_the_fabrics() -> None:
    item = made(shirt(), 128, Fabric(RED, GREEN, BLUE, Pattern.HORIZONTAL, 10))
    inside = item.image[item.mask > 0].astype(int)
    strongest = np.bincount(inside.argmax(axis=1), minlength=3) / len(inside)
    assert strongest[0] > 0.3  # red cloth
    assert strongest[1] > 0.25  # green stripes
    assert 0.03 < strongest[2] < 0.2  # blue trim
    rows = np.flatnonzero((item.mask > 0).any(axis=1))
    hem = item.image[rows[-5], 64].astype(int)
    assert hem.argmax() == 2
    assert item.image[rows[0] + 8, 64].argmax() != 2
    plain = made(shirt(), 128, Fabric(RED, GREEN, BLUE, Pattern.SOLID, 10))
    np.testing.assert_array_equal(item.image[rows[-5] : rows[-2], 50:78], plain.image[rows[-5] : rows[-2], 50:78])


def test_a_logo_lies_on_the_cloth() -> None:
    for piece in (shirt(), trousers()):
        plain, marked = made(piece), made(piece, 128, Fabric(RED, GREEN, BLUE, Pattern.LOGO, 10))
        changed = (plain.image != marked.image).any(axis=2)
        assert changed.sum() > 40
        assert (plain.mask[changed] > 0).all()


def test_the_size_changes_the_resolution_not_the_piece() -> None:
    for piece in (shirt(), trousers()):
        small, large = made(piece, 96), made(piece, 192)
        shrunk = large.image.reshape(96, 2, 96, 2, 3).mean(axis=(1, 3))
        assert np.abs(shrunk - small.image).mean() < 3


@settings(max_examples=40, deadline=None)
@given(arrays(np.uint8, (28, 28), elements=st.sampled_from([0, 0, 0, 5, 30, 128, 255])))
def test_any_grey_gives_finite_colours(piece: Piece) -> None:
    piece[14, 14] = 200
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        item = made(piece, 48)
    assert (item.image[0] == 255).all()
