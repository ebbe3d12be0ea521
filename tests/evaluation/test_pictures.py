"""Sample grids and outfit sheets, pixel by pixel: every tile where it should be, every colour the one it should be."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from outfitgan.config import DataConfig
from outfitgan.data.open_outfits import open_outfits
from outfitgan.items import COLLOCATION_ORDER, ItemKind, targets_of
from outfitgan.pictures import Correspondence, contact_sheet, correspondence_colours, font, outfit_sheet
from outfitgan.training.batches import batch_of
from outfitgan.training.sample_grid import from_tensor, sample_grid

Pixels = NDArray[np.uint8]

TILE, PITCH, LEFT, TOP = 256, 276, 180, 84
"""Side of a tile, its distance to the next, and where the first one lies on an outfit sheet."""

GROUND = 255


def noise(seed: int, size: int = TILE) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def disc(radius: float, size: int = TILE) -> Pixels:
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return np.where(np.hypot(rows, columns) < radius * size / 2, np.uint8(255), np.uint8(0))[..., None]


def tile(sheet: Image.Image, row: int, column: int) -> Pixels:
    """Return a tile without its outline of one pixel."""
    x, y = LEFT + column * PITCH, TOP + row * PITCH
    return np.asarray(sheet.crop((x + 1, y + 1, x + TILE - 1, y + TILE - 1)))


def inner(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels[1:-1, 1:-1]


def identity(grid: int) -> Correspondence:
    match = np.moveaxis(np.indices((grid, grid)), 0, -1).astype(np.int32)
    return Correspondence(match, np.ones((grid, grid), np.float32))


def expected_colours(grid: int) -> NDArray[np.float64]:
    """Hue by angle and saturation by distance from the centre, cell by cell, through another library."""
    colours = np.zeros((grid, grid, 3))
    places = np.linspace(-1, 1, grid)
    for row, y in enumerate(places):
        for column, x in enumerate(places):
            hue = np.arctan2(y, x) / (2 * np.pi) % 1
            saturation = (min(np.hypot(x, y), 1) * 200 + 55) / 255
            colours[row, column] = np.array(colorsys.hsv_to_rgb(hue, saturation, 235 / 255)) * 255
    return colours


def enlarged(cells: NDArray[np.float64], size: int = TILE) -> NDArray[np.float64]:
    factor = size // cells.shape[0]
    return cells.repeat(factor, axis=0).repeat(factor, axis=1)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("source", ItemKind)
def test_a_sample_grid_has_source_mask_made_and_real_in_a_row(count: int, source: ItemKind) -> None:
    outfits = [open_outfits(DataConfig(count=4), 32, "test", 0)[index] for index in range(count)]
    fakes = {kind: torch.randn(count, 3, 32, 32) for kind in targets_of(source)}  # beyond [-1, 1] too
    images, masks = (
        np.array([[getattr(outfit.items[kind], layer) for kind in COLLOCATION_ORDER] for outfit in outfits])
        for layer in ("image", "mask")
    )
    picture = np.asarray(sample_grid(batch_of(images, masks), fakes, source))
    assert picture.shape == (32 * count, 32 * 10, 3)
    for row, outfit in enumerate(outfits):
        expected = [outfit.items[source].image]
        for kind in targets_of(source):
            item = outfit.items[kind]
            made = np.rint((np.clip(fakes[kind][row].double().numpy(), -1, 1) + 1) * 127.5)
            expected += [item.mask[..., None].repeat(3, axis=2), made.transpose(1, 2, 0), item.image]
        for column, pixels in enumerate(expected):
            found = picture[row * 32 : (row + 1) * 32, column * 32 : (column + 1) * 32].astype(int)
            assert np.abs(found - pixels).max() <= (1 if column % 3 == 2 else 0), (row, column)


def test_a_tensor_is_rounded_to_the_nearest_level_and_cut_at_white_and_black() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    for nudge in (-0.4, 0.0, 0.4):  # of a level
        image = torch.from_numpy((levels + nudge) / 127.5 - 1).permute(2, 0, 1)
        pixels = from_tensor(image.requires_grad_())
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, levels)
    beyond = from_tensor(torch.tensor([-3.0, 3.0, float("inf")]).reshape(3, 1, 1).half())
    assert beyond.flatten().tolist() == [0, 255, 255]


def test_a_tensor_is_copied_from_whatever_device_it_is_on() -> None:
    """The device "meta" holds no numbers: it refuses to be copied, in words of its own, where a copy is asked for."""
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        from_tensor(torch.empty(3, 4, 4, device="meta"))


def test_letters_have_the_size_that_is_asked_for() -> None:
    heights = []
    for size in (15, 30, 60):
        _, top, _, bottom = font(size).getbbox("Hx")
        heights.append(bottom - top)
        assert 0.5 * size < bottom - top < size
    assert heights == sorted(heights)


def test_a_contact_sheet_has_one_row_an_outfit() -> None:
    rows = [[noise(4 * row + column, 24) for column in range(4)] for row in range(3)]
    sheet = np.asarray(contact_sheet(rows))
    assert sheet.shape == (72, 96, 3)
    assert np.array_equal(sheet.reshape(3, 24, 4, 24, 3).swapaxes(1, 2), np.array(rows))


@pytest.mark.parametrize("source_kind", ItemKind)
@pytest.mark.parametrize("wanted", [3, 2, 1])
def test_an_outfit_sheet_has_each_tile_in_its_place(source_kind: ItemKind, wanted: int) -> None:
    kinds = targets_of(source_kind)[3 - wanted :]
    source = noise(0)
    masks = {kind: disc(0.2 + 0.2 * n) for n, kind in enumerate(kinds)}
    items = {kind: noise(n + 1) for n, kind in enumerate(kinds)}
    shuffled = dict(reversed(items.items()))  # the order of the columns is the collocation order, whatever comes
    sheet = outfit_sheet(source, source_kind, masks, shuffled, 0.5)
    columns = [kind for kind in COLLOCATION_ORDER if kind == source_kind or kind in kinds]
    assert sheet.size == (LEFT + len(columns) * PITCH, TOP + 2 * PITCH + 8)
    for column, kind in enumerate(columns):
        if kind == source_kind:
            assert (tile(sheet, 0, column) == GROUND).all()
            assert np.array_equal(tile(sheet, 1, column), inner(source))
        else:
            assert np.array_equal(tile(sheet, 0, column), inner(masks[kind].repeat(3, axis=2)))
            assert np.array_equal(tile(sheet, 1, column), inner(items[kind]))


def test_the_compatibility_is_written_in_the_head_or_not_at_all() -> None:
    arguments = (noise(0), ItemKind.UPPER, {ItemKind.BAG: disc(0.5)}, {ItemKind.BAG: noise(1)})
    sheets = {score: np.asarray(outfit_sheet(*arguments, score)) for score in (None, 0.25, 0.75)}
    assert {sheet.shape for sheet in sheets.values()} == {(TOP + 2 * PITCH + 8, LEFT + 2 * PITCH, 3)}
    assert not np.array_equal(sheets[0.25], sheets[0.75])
    for score in (0.25, 0.75):
        rows, columns = np.nonzero((sheets[score] != sheets[None]).any(axis=2))
        assert rows.size > 50
        assert rows.max() < 54  # above the titles
        assert columns.min() >= LEFT


def test_every_column_and_row_is_named_on_clear_ground() -> None:
    kinds = targets_of(ItemKind.UPPER)
    found = {kind: identity(16) for kind in kinds}
    masks, items = {kind: disc(0.8) for kind in kinds}, {kind: noise(1) for kind in kinds}
    sheet = np.asarray(outfit_sheet(noise(0), ItemKind.UPPER, masks, items, None, found))
    assert sheet.shape == (TOP + 3 * PITCH + 8, LEFT + 4 * PITCH, 3)
    ink = (sheet < 200).any(axis=2)
    for column in range(4):
        x = LEFT + column * PITCH
        assert ink[54:80, x : x + TILE].sum() > 30
        assert not ink[:TOP, x + TILE : x + PITCH].any()  # no title runs into the next column's
    for row in range(3):
        y = TOP + row * PITCH
        assert ink[y : y + TILE, :LEFT].sum() > 30
        assert not ink[y : y + TILE, LEFT - 4 : LEFT].any()  # nor a section's name into its row


@pytest.mark.parametrize("grid", [2, 16, 64])
def test_each_source_cell_has_the_colour_of_its_place(grid: int) -> None:
    colours = correspondence_colours(grid)
    assert colours.shape == (grid, grid, 3)
    assert colours.dtype == np.uint8
    assert np.abs(colours - expected_colours(grid)).max() <= 6  # hue is cut to 8 bits: 6 x 235 / 255 a step
    assert (
        len(np.unique(colours.reshape(-1, 3), axis=0)) > 0.75 * grid * grid
    )  # beyond a radius of 1 only the angle tells


@pytest.mark.parametrize("grid", [16, 64])
def test_an_identity_match_shows_the_colours_of_the_source_where_the_mask_is(grid: int) -> None:
    source = np.where(disc(0.7) > 0, noise(0) // 2, np.uint8(255))
    mask = disc(0.5)
    sheet = outfit_sheet(source, ItemKind.UPPER, {ItemKind.BAG: mask}, {ItemKind.BAG: noise(1)}, None, {
        ItemKind.BAG: identity(grid)
    })  # fmt: skip
    colours = enlarged(expected_colours(grid))
    made = np.where(mask > 0, 0.35 * 255 + 0.65 * colours, 255)
    assert np.abs(tile(sheet, 2, 1) - inner(made)).max() <= 4
    grey = source.mean(axis=2, keepdims=True)
    shown = np.where(disc(0.7) > 0, 0.35 * grey + 0.65 * colours, 255)
    assert np.abs(tile(sheet, 2, 0) - inner(shown)).max() <= 4


def test_a_match_takes_its_colour_from_where_it_points_row_first() -> None:
    grid = 16
    found = identity(grid)
    pointed = Correspondence(np.stack([found.match[..., 1], found.match[..., 0] // 2], axis=-1), found.weight)
    full = np.full((TILE, TILE, 1), 255, np.uint8)
    masks, items = {ItemKind.SHOES: full}, {ItemKind.SHOES: noise(1)}
    sheet = outfit_sheet(noise(0), ItemKind.UPPER, masks, items, None, {ItemKind.SHOES: pointed})
    cells = expected_colours(grid)
    expected = np.array([[cells[column, row // 2] for column in range(grid)] for row in range(grid)])
    assert np.abs(tile(sheet, 2, 1) - inner(0.35 * 255 + 0.65 * enlarged(expected))).max() <= 4


def test_items_without_a_correspondence_leave_their_place_empty() -> None:
    kinds = (ItemKind.BAG, ItemKind.SHOES)
    masks, items = {kind: disc(0.8) for kind in kinds}, {kind: noise(1) for kind in kinds}
    sheet = outfit_sheet(noise(0), ItemKind.LOWER, masks, items, 1.0, {ItemKind.SHOES: identity(16)})
    assert (tile(sheet, 2, 0) == GROUND).all()  # bag
    assert (tile(sheet, 2, 1) != GROUND).any()  # lower, the source
    assert (tile(sheet, 2, 2) != GROUND).any()  # shoes


@pytest.mark.parametrize("size", [64, 128, 512])
def test_pictures_of_any_size_fill_their_tiles(size: int) -> None:
    half = np.zeros((size, size, 3), np.uint8)
    half[: size // 2, :, 0] = 200
    half[size // 2 :, : size // 2, 1] = 150
    masks, items = {ItemKind.BAG: disc(0.5, size)}, {ItemKind.BAG: half}
    sheet = outfit_sheet(half, ItemKind.UPPER, masks, items, 0.1, {ItemKind.BAG: identity(16)})
    for column in (0, 1):
        shown = tile(sheet, 1, column)
        for y, x, colour in (
            (60, 60, (200, 0, 0)),
            (60, 200, (200, 0, 0)),
            (200, 60, (0, 150, 0)),
            (200, 200, (0,) * 3),
        ):
            assert shown[y, x].tolist() == list(colour)
    assert tile(sheet, 0, 1)[[127, 20], [127, 20]].tolist() == [[255] * 3, [0] * 3]
    assert tile(sheet, 2, 1)[20, 20].tolist() == [255] * 3
