"""Pictures of where the SAM looked on the source: arrows from points of the target, and a heat map for each point."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from outfitgan.items import ItemKind
from outfitgan.pictures import FAINT, GROUND, Pixels, font
from outfitgan.training.sample_grid import from_tensor

_POINTS = 5
_SIDE, _GAP, _TITLE = 240, 14, 30
_COLOURS = ((214, 39, 40), (31, 119, 180), (44, 160, 44), (255, 127, 14), (148, 103, 189))


class Looking(Protocol):
    """What a picture needs of a SAM."""

    def look(self, source: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Return the source weights (B, P, g, g) of target positions (B, P)."""
        ...


def correspondence_sheet(
    alignments: dict[ItemKind, Looking],
    source: Tensor,  # (3, S, S) in [-1, 1]
    masks: dict[ItemKind, Tensor],  # (1, S, S) of 0 and 1 each
    made: dict[ItemKind, Tensor],  # (3, S, S) in [-1, 1] each
    grid: int,  # side of the SAM's grid
) -> Image.Image:
    """Draw one row a kind: the source and the item joined by arrows, then each point's heat map on the source."""
    width = _GAP + (2 + _POINTS) * (_SIDE + _GAP)
    sheet = Image.new("RGB", (width, _TITLE + len(alignments) * (_SIDE + _GAP)), GROUND)
    draw = ImageDraw.Draw(sheet)
    titles = ["source", "made of it", *(f"where point {number + 1} looked" for number in range(_POINTS))]
    for column, title in enumerate(titles):
        draw.text((_GAP + column * (_SIDE + _GAP), 8), title, fill=FAINT, font=font(15))
    for row, (kind, alignment) in enumerate(alignments.items()):
        top = _TITLE + row * (_SIDE + _GAP)
        points = spread_points(masks[kind], grid, _POINTS)
        weights = _weights(alignment, source, masks[kind], points)
        _row(sheet, top, from_tensor(source), from_tensor(made[kind]), points, weights)
    return sheet


def spread_points(mask: Tensor, grid: int, count: int) -> list[int]:
    """Return `count` positions of a grid that lie in mask (1, S, S), far from each other: row * grid + column.

    The first is nearest the silhouette's centre, each next one farthest from those before it. Of a silhouette with
    fewer cells, cells repeat; of an empty one the middle of the square does.
    """
    cover = torch.nn.functional.adaptive_avg_pool2d(mask.float(), grid)[0]  # (g, g)
    inside = np.argwhere((cover > 0.9 * float(cover.max())).numpy() & (cover > 0).numpy())  # (n, 2)
    if not len(inside):
        return [grid // 2 * grid + grid // 2] * count
    chosen = [int(np.linalg.norm(inside - inside.mean(axis=0), axis=1).argmin())]
    while len(chosen) < count:
        distances = np.linalg.norm(inside[:, None] - inside[chosen], axis=2).min(axis=1)
        chosen.append(int(distances.argmax()))
    return [int(row * grid + column) for row, column in inside[chosen]]


def _weights(alignment: Looking, source: Tensor, mask: Tensor, points: list[int]) -> NDArray[np.float32]:
    with torch.inference_mode():
        found = alignment.look(source[None], mask[None], torch.tensor([points]))[0]  # (P, g, g)
    return found.numpy()


def _row(
    sheet: Image.Image, top: int, source: Pixels, item: Pixels, points: list[int], weights: NDArray[np.float32]
) -> None:
    lefts = [_GAP + column * (_SIDE + _GAP) for column in range(2 + len(points))]
    for left, tile in zip(lefts, (source, item), strict=False):
        sheet.paste(_scaled(tile), (left, top))
    grid = weights.shape[-1]
    draw = ImageDraw.Draw(sheet)
    for number, (point, weight) in enumerate(zip(points, weights, strict=True)):
        colour = _COLOURS[number % len(_COLOURS)]
        to = _place(int(weight.argmax()), grid, lefts[0], top)
        _arrow(draw, _place(point, grid, lefts[1], top), to, colour)
        left = lefts[2 + number]
        sheet.paste(_heat(source, weight), (left, top))
        _dot(draw, _place(int(weight.argmax()), grid, left, top), colour)
    for left in lefts:
        draw.rectangle((left, top, left + _SIDE - 1, top + _SIDE - 1), outline=(222, 224, 228))


def _heat(source: Pixels, weight: NDArray[np.float32]) -> Image.Image:
    """Lay a heat map (g, g) over the source in grey; its strongest cell is the brightest."""
    level = (255 * np.sqrt(weight / max(float(weight.max()), 1e-12))).astype(np.uint8)
    large = np.asarray(Image.fromarray(level).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)) / 255  # (S, S)
    colour = 255 * colormaps["inferno"](large)[..., :3]
    grey = np.asarray(_scaled(source).convert("L").convert("RGB"), np.float32)
    share = (0.15 + 0.75 * large)[..., None]
    return Image.fromarray((share * colour + (1 - share) * grey).astype(np.uint8))


def _place(position: int, grid: int, left: int, top: int) -> tuple[float, float]:
    row, column = divmod(position, grid)
    return left + (column + 0.5) * _SIDE / grid, top + (row + 0.5) * _SIDE / grid


def _arrow(
    draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], colour: tuple[int, int, int]
) -> None:
    draw.line((*start, *end), fill=colour, width=2)
    along = np.array(end) - np.array(start)
    along = along / max(float(np.linalg.norm(along)), 1e-6)
    across = np.array([-along[1], along[0]])
    tip = np.array(end)
    head = [tip, tip - 11 * along + 5 * across, tip - 11 * along - 5 * across]
    draw.polygon([(float(x), float(y)) for x, y in head], fill=colour)
    _dot(draw, start, colour)


def _dot(draw: ImageDraw.ImageDraw, at: tuple[float, float], colour: tuple[int, int, int]) -> None:
    x, y = at
    draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=colour, outline=(255, 255, 255))


def _scaled(tile: Pixels) -> Image.Image:
    return Image.fromarray(tile).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
