"""From a sketch to a product photo: pattern, colour and soft light, painted with anti-aliased edges."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from outfitgan.data.drawing.sketch import Part, Sketch
from outfitgan.items import Item, ItemKind
from outfitgan.masks import levels_of

Colour = NDArray[np.float32]  # (3,) RGB, 0 to 1
Field = NDArray[np.float32]  # (H, W)

_MARGIN = 0.07  # of the side, at each edge
_SOLE: Colour = np.array([0.84, 0.82, 0.79], np.float32)
_WHITE: Colour = np.ones(3, np.float32)
_BANDS = {part: tuple(255 * (part.value == band) for band in range(4)) for part in Part}
_LMS_FROM_LAB = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.291485548]]
)
_RGB_FROM_LMS = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.707614701],
    ]
)


class Pattern(StrEnum):
    """The pattern families."""

    SOLID = "solid"
    HORIZONTAL = "horizontal stripes"
    VERTICAL = "vertical stripes"
    DIAGONAL = "diagonal stripes"
    CHECKS = "checks"
    DOTS = "dots"
    LOGO = "logo"


@dataclass(frozen=True)
class Fabric:
    """What an item is made of."""

    body: Colour
    pattern_colour: Colour
    trim: Colour
    pattern: Pattern
    repeats: float  # of the pattern across the square


def oklch(lightness: float, chroma: float, hue: float) -> Colour:
    """Return the sRGB colour of OKLCH coordinates (hue in degrees), with chroma lowered until it exists."""
    angle = np.deg2rad(hue)
    while True:
        lab = np.array([lightness, chroma * np.cos(angle), chroma * np.sin(angle)])
        linear = _RGB_FROM_LMS @ (_LMS_FROM_LAB @ lab) ** 3
        if chroma < 1e-3 or (linear.min() >= 0 and linear.max() <= 1):
            break
        chroma *= 0.95
    linear = np.clip(linear, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(srgb, np.float32)


def paint(kind: ItemKind, sketch: Sketch, fabric: Fabric, size: int, rng: np.random.Generator) -> Item:
    """Return the item that `sketch` makes of `fabric`, centred on white at (size, size)."""
    cover, seams, emblem = _draw(sketch, size)
    alpha = np.minimum(cover.sum(axis=0), 1)  # (H, W); rounding may pass 1
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    y, x = line[:, None], line[None, :]
    folds = _folds(x, y, rng)
    light = _light(alpha, seams, folds, y, size)
    woven = pattern_coverage(fabric, x + 0.006 * folds, y + 0.006 * folds, emblem, size)
    lit = cover * light  # (4, H, W)
    weights = np.concatenate([lit, (woven * lit[Part.BODY.value])[None], (1 - alpha)[None]])  # (6, H, W)
    colours = np.stack(
        [fabric.body, fabric.trim, fabric.body * 0.55, _SOLE, fabric.pattern_colour - fabric.body, _WHITE], axis=1
    )
    picture = np.clip((255 * colours) @ weights.reshape(6, -1) + 0.5, 0, 255).astype(np.uint8)  # (3, H * W)
    image = np.ascontiguousarray(picture.T).reshape(size, size, 3)
    return Item(kind, image, levels_of(alpha >= 0.5))


def _draw(sketch: Sketch, size: int) -> tuple[Field, Field, tuple[float, float]]:
    """Return each part's coverage (4, H, W), the seams' strength (H, W) and where a logo belongs."""
    points = np.concatenate([outline for outline, part in sketch.fills if part != Part.GROUND])
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (1 - 2 * _MARGIN) / float((high - low).max())
    shift = 0.5 - (low + high) / 2 * scale
    detail = 4 if size <= 128 else 2
    fine = size * detail
    # CMYK is the one mode of four plain bands: a part a band, and one pass averages them all.
    parts, seams = Image.new("CMYK", (fine, fine)), Image.new("L", (fine, fine))
    pen, needle = ImageDraw.Draw(parts), ImageDraw.Draw(seams)
    for outline, part in sketch.fills:
        pen.polygon(((outline * scale + shift) * fine).ravel().tolist(), fill=_BANDS[part])
    for line, strength in sketch.seams:
        dense = ((line * scale + shift) * fine).ravel().tolist()
        needle.line(dense, fill=round(255 * strength), width=max(1, round(fine * 0.008)))
    x, y = np.array(sketch.emblem) * scale + shift
    cover = np.moveaxis(np.asarray(parts.reduce(detail)), 2, 0).astype(np.float32, order="C") / 255
    return cover, _field(seams.reduce(detail)), (float(x), float(y))


def _field(image: Image.Image) -> Field:
    return np.asarray(image, np.float32) / 255


def _folds(x: Field, y: Field, rng: np.random.Generator) -> Field:
    """Return soft waves in -1 to 1, steeper than they are wide, as cloth hangs."""
    waves = [(rng.uniform(12, 26), rng.uniform(-6, 6), rng.uniform(0, 2 * np.pi)) for _ in range(3)]
    return np.asarray(sum(np.sin(a * x + (d * y + phase)) for a, d, phase in waves), np.float32) / np.float32(3)


def _light(alpha: Field, seams: Field, folds: Field, y: Field, size: int) -> Field:
    """Return the brightness of each pixel: lit from the upper left, darker at edges and seams, waved by folds."""
    shape = Image.fromarray((alpha * 255).astype(np.uint8))
    inner = _field(shape.filter(ImageFilter.GaussianBlur(size * 0.03)))
    rounded = np.clip((inner - 0.4) / 0.55, 0, 1)
    # Across the edge of the blurred shape it falls towards the shaded side.
    slope = np.zeros_like(inner)
    slope[1:-1, 1:-1] = (inner[:-2, :-2] - inner[2:, 2:]) * (size * 0.003)
    light = 0.82 + 0.04 * (1 - 2 * y) - slope + (0.18 + 0.07 * folds) * rounded
    return np.asarray(light * (1 - 0.38 * seams), np.float32)


def pattern_coverage(fabric: Fabric, x: Field, y: Field, emblem: tuple[float, float], size: int) -> Field:
    """Return how much of the pattern's colour lies on each pixel, 0 to 1."""
    n = fabric.repeats
    x, y, pixel = x * n, y * n, n / size
    match fabric.pattern:
        case Pattern.SOLID:
            return np.zeros_like(x)
        case Pattern.HORIZONTAL:
            return _stripe(y, pixel)
        case Pattern.VERTICAL:
            return _stripe(x, pixel)
        case Pattern.DIAGONAL:
            return _stripe((x + y) * np.float32(0.7071), pixel)
        case Pattern.CHECKS:
            return (_stripe(x, pixel) + _stripe(y, pixel)) / 2
        case Pattern.DOTS:
            row = np.floor(y)
            dx, dy = (x + row % 2 / 2) % 1 - 0.5, y - row - 0.5
            return _within(np.hypot(dx, dy), 0.27, pixel)
        case Pattern.LOGO:
            away = np.abs(x / n - emblem[0]) + np.abs(y / n - emblem[1])  # a diamond in a frame
            return np.maximum(_within(np.abs(away - 0.05), 0.012, 1 / size), _within(away, 0.02, 1 / size))


def _stripe(phase: Field, pixel: float) -> Field:
    return _within(np.abs(phase % 1 - 0.5), 0.22, pixel)


def _within(distance: Field, radius: float, pixel: float) -> Field:
    """Return 1 where `distance` is below `radius`, 0 beyond, with an edge one pixel soft."""
    return np.asarray(np.clip((radius - distance) / pixel + 0.5, 0, 1), np.float32)
