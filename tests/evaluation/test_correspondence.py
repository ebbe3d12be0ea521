"""Correspondence pictures: points inside the silhouette, arrows from them to where the SAM looked, heat maps there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from outfitgan.evaluation.correspondence_sheet import correspondence_sheet, spread_points
from outfitgan.items import ItemKind

SIDE, GAP, TITLE = 240, 14, 30
"""Side of a tile, the space around it, and what the titles take."""

GRID, CELL = 8, 30
POINTS = 5
COLOURS = ((214, 39, 40), (31, 119, 180), (44, 160, 44), (255, 127, 14), (148, 103, 189))


def disc(size: int, radius: float, row: float = 0.5, column: float = 0.5) -> Tensor:
    rows, columns = np.mgrid[:size, :size] + 0.5
    inside = np.hypot(rows - row * size, columns - column * size) < radius * size
    return torch.from_numpy(inside).float()[None]


@settings(max_examples=40, deadline=None)
@given(
    radius=st.floats(0.12, 0.6),
    row=st.floats(0.2, 0.8),
    column=st.floats(0.2, 0.8),
    grid=st.sampled_from([8, 16]),
    count=st.integers(1, 6),
)
def test_points_lie_inside_the_mask_far_from_each_other(
    radius: float, row: float, column: float, grid: int, count: int
) -> None:
    """Each next point is as far from those before it as a covered cell can be, found by trying them all."""
    mask = disc(64, radius, row, column)
    points = spread_points(mask, grid, count)
    cover = mask[0].numpy().reshape(grid, 64 // grid, grid, 64 // grid).mean(axis=(1, 3))
    cells = np.argwhere(cover > 0.9 * cover.max())
    places = np.array([divmod(point, grid) for point in points])
    assert len(points) == count
    assert all(cover[tuple(place)] > 0.9 * cover.max() for place in places)
    assert len(set(points)) == min(count, len(cells))
    centre = cells.mean(axis=0)
    assert np.linalg.norm(places[0] - centre) == pytest.approx(np.linalg.norm(cells - centre, axis=1).min())
    for number in range(1, min(count, len(cells))):
        apart = np.linalg.norm(cells[:, None] - places[:number], axis=2).min(axis=1)
        found = np.linalg.norm(places[number] - places[:number], axis=1).min()
        assert found == pytest.approx(apart.max())


def test_points_of_an_empty_mask_are_the_middle() -> None:
    assert spread_points(torch.zeros(1, 64, 64), 8, 3) == [4 * 8 + 4] * 3


@pytest.mark.parametrize("pixels", [1, 64])  # of a cell's 64
def test_points_of_a_mask_of_one_cell_are_that_cell(pixels: int) -> None:
    cell = torch.zeros(64)
    cell[:pixels] = 1
    mask = torch.zeros(1, 64, 64)
    mask[:, 16:24, 40:48] = cell.view(8, 8)
    assert spread_points(mask, 8, POINTS) == [2 * 8 + 5] * POINTS


def test_cells_repeat_only_where_there_are_too_few() -> None:
    mask = torch.zeros(1, 64, 64)
    mask[:, :8, :24] = 1
    points = spread_points(mask, 8, POINTS)
    assert points[:3] == [1, 0, 2]
    assert set(points) == {0, 1, 2}


class Pointing:
    """Looks where it is told: at one source cell a point, a little of it at the next cell."""

    def __init__(self, places: list[tuple[int, int]]) -> None:
        self.places = places
        self.positions: list[int] = []

    def look(self, source: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Return weights (1, P, g, g)."""
        assert (source.shape[0], mask.shape[0], positions.shape[0]) == (1, 1, 1)
        self.positions = positions[0].tolist()
        weights = torch.zeros(1, len(self.places), GRID, GRID)
        for number, (row, column) in enumerate(self.places):
            weights[0, number, row, column] = 0.75
            weights[0, number, row, (column + 1) % GRID] = 0.25
        return weights


def bar(column: int) -> Tensor:
    """Return a mask (1, SIDE, SIDE) of one column of cells, so that points lie one above the other."""
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, :, column * CELL : (column + 1) * CELL] = 1
    return mask


def shade(red: float, green: float, blue: float) -> Tensor:
    return torch.tensor([red, green, blue]).view(3, 1, 1).expand(3, SIDE, SIDE)


def left(column: int) -> int:
    return GAP + column * (SIDE + GAP)


def top(row: int) -> int:
    return TITLE + row * (SIDE + GAP)


def tile(sheet: Image.Image, row: int, column: int) -> NDArray[np.int64]:
    x, y = left(column), top(row)
    return np.asarray(sheet.crop((x, y, x + SIDE, y + SIDE))).astype(int)


SOURCE = shade(0.0, 0.5, 1.0)  # no arrow's colour, and no grey


def drawn(kinds: int = 1) -> tuple[Image.Image, list[Pointing]]:
    """Draw horizontal arrows that do not cross: each point of a bar looks at a cell of its own row."""
    points = [divmod(point, GRID) for point in spread_points(bar(5), GRID, POINTS)]
    columns = (6, 1, 3, 0, 5)
    alignments = [Pointing([(row, columns[i]) for i, (row, _) in enumerate(points)]) for _ in range(kinds)]
    names = [ItemKind.SHOES, ItemKind.BAG, ItemKind.LOWER][:kinds]
    sheet = correspondence_sheet(
        dict(zip(names, alignments, strict=True)),
        SOURCE,
        {kind: bar(5) for kind in ItemKind},
        {kind: shade(-1.0, -1.0, -1.0 + number) for number, kind in enumerate(names)},
        GRID,
    )
    return sheet, alignments


@pytest.mark.parametrize("kinds", [1, 3])
def test_a_sheet_has_one_row_a_kind_and_one_column_a_point(kinds: int) -> None:
    sheet, _ = drawn(kinds)
    assert sheet.size == (left(2 + POINTS), top(kinds))
    pixels = np.asarray(sheet).astype(int)
    assert (pixels[:TITLE] < 200).any(axis=(0, 2))[left(6) : left(6) + 60].any()  # the last column has a title as well
    assert (pixels[TITLE:, : GAP - 1] == 255).all()
    for row in range(kinds):
        source, made = tile(sheet, row, 0), tile(sheet, row, 1)
        assert np.mean((source == [128, 191, 255]).all(axis=2)) > 0.9
        assert np.mean((made == [0, 0, round(127.5 * row)]).all(axis=2)) > 0.9  # each kind's own item
        assert (pixels[top(row) + SIDE : top(row) + SIDE + GAP] == 255).all()


def test_arrows_lead_from_each_point_to_where_it_looked_most() -> None:
    sheet, (alignment,) = drawn()
    assert alignment.positions == spread_points(bar(5), GRID, POINTS)
    pixels = np.asarray(sheet)
    assert len(set(alignment.places)) == POINTS
    for colour, position, (row, column) in zip(COLOURS, alignment.positions, alignment.places, strict=True):
        y = top(0) + (position // GRID) * CELL + CELL // 2
        start = left(1) + (position % GRID) * CELL + CELL // 2
        end = left(0) + column * CELL + CELL // 2
        assert y == top(0) + row * CELL + CELL // 2
        for x in (start, (start + end) // 2, left(1) - GAP // 2, end + 4, end + 1):
            assert tuple(pixels[y, x]) == colour, (x, y)
        for x in (start + 9, end - 4):  # not beyond either end
            assert tuple(pixels[y, x]) not in COLOURS
        assert tuple(pixels[y + 3, end + 9]) == colour  # a head is wider than its line
        assert tuple(pixels[y + 3, end + 40]) != colour


def test_an_arrow_of_any_direction_ends_at_its_cell() -> None:
    """Row and column are not mixed up, and an item's point that looks at its own place makes no harm."""
    places = [(0, 7), (7, 0), (2, 1), (5, 6), (4, 3)]
    mask = bar(2)
    sheet = np.asarray(
        correspondence_sheet(
            {ItemKind.BAG: Pointing(places)}, SOURCE, {ItemKind.BAG: mask}, {ItemKind.BAG: SOURCE}, GRID
        )
    ).astype(int)
    for colour, (row, column) in zip(COLOURS, places, strict=True):
        y, x = top(0) + row * CELL + CELL // 2, left(0) + column * CELL + CELL // 2
        around = sheet[y - 6 : y + 7, x - 6 : x + 7].reshape(-1, 3)
        assert (around == colour).all(axis=1).sum() > 20, (row, column)


def test_each_heat_map_is_bright_where_its_point_looked_and_grey_elsewhere() -> None:
    sheet, (alignment,) = drawn()
    grey = SOURCE.mul(127.5).add(127.5)[:, 0, 0].numpy() @ (0.299, 0.587, 0.114)
    for number, (row, column) in enumerate(alignment.places):
        heat = tile(sheet, 0, 2 + number)
        y, x = row * CELL + CELL // 2, column * CELL + CELL // 2
        assert tuple(heat[y, x]) == COLOURS[number]  # a dot
        near = heat[y + 9, x]  # beside the dot, in the same cell
        far = heat[(y + SIDE // 2) % SIDE, (x + SIDE // 2) % SIDE]
        assert near[0] > near[2] + 60  # inferno's upper end is yellow
        assert near.sum() > 400
        assert np.ptp(far) <= 2  # the source without its colours
        assert abs(far.mean() - 0.85 * grey) < 3


@pytest.mark.parametrize("weight", [0.0, 1 / 64])
def test_a_look_without_a_peak_is_a_picture_all_the_same(weight: float) -> None:
    class Flat:
        def look(self, source: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
            return torch.full((1, positions.shape[1], GRID, GRID), weight)

    empty = {ItemKind.BAG: torch.zeros(1, 64, 64)}
    blank = {ItemKind.BAG: torch.ones(3, 64, 64)}
    sheet = correspondence_sheet({ItemKind.BAG: Flat()}, torch.ones(3, 64, 64), empty, blank, GRID)
    assert sheet.size == (left(2 + POINTS), top(1))
    heat = tile(sheet, 0, 2)[40:-2, 40:-2].reshape(-1, 3)
    assert np.ptp(heat, axis=0).max() <= 1  # one brightness all over
