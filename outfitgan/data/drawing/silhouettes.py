"""Procedural garment shapes: each kind has a few cuts, each with proportions of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from outfitgan.data.drawing.sketch import Part, Placement, Point, Sketch, arch, band, both, ellipse, mirrored, rounded
from outfitgan.items import ItemKind


def draw(kind: ItemKind, rng: np.random.Generator) -> Sketch:
    """Return one garment of `kind`: a cut and its proportions drawn from `rng`."""
    cuts = _CUTS[kind]
    return cuts[int(rng.integers(len(cuts)))](rng)


def _neckline(sketch: Sketch, neck: float, drop: float, collar: float) -> None:
    """Show the back of the neck, the scoop and a ribbed collar; the body must already be there."""
    sketch.fill(rounded([(-neck, 0), (-neck, 0), (0, 0.07), (neck, 0), (neck, 0), (0, drop)]), Part.INSIDE)
    scoop = [(neck * np.cos(a), drop * 0.93 * np.sin(a)) for a in np.linspace(0, np.pi, 20)]
    sketch.fill(band(scoop, collar), Part.TRIM)
    sketch.fill(band([(-neck, 0), (-neck / 2, 0.05), (0, 0.065), (neck / 2, 0.05), (neck, 0)], collar * 0.8), Part.TRIM)


def _torso(neck: float, chest: float, hem: float, length: float) -> list[Point]:
    """Return the right half of a sleeveless body from armpit to hem."""
    waist = (chest + hem) / 2 - 0.03
    return [(chest, 0.46), (waist, length * 0.65), (hem, length), (hem, length), (0, length + 0.03)]


def _t_shirt(rng: np.random.Generator) -> Sketch:
    neck, chest, length = rng.uniform(0.2, 0.25), rng.uniform(0.42, 0.48), rng.uniform(1.2, 1.35)
    reach, cuff = rng.uniform(0.76, 0.86), rng.uniform(0.44, 0.52)
    sketch = Sketch(emblem=(0.2, 0.48))
    shoulder, hem = [(0, 0), (neck, 0), (neck, 0), (0.5, 0.09)], _torso(neck, chest, chest + 0.01, length)
    outer, inner = (reach, cuff), (reach - 0.2, cuff + 0.12)
    sketch.fill(mirrored([*shoulder, outer, outer, inner, inner, hem[0], *hem]), Part.BODY)
    for side in (1, -1):
        ends = [(side * (outer[0] - 0.01), cuff - 0.02), (side * (inner[0] - 0.01), inner[1] - 0.02)]
        sketch.fill(band(ends, 0.05), Part.TRIM)
        sketch.seam([(side * 0.49, 0.09), (side * 0.44, 0.26), (side * chest, 0.46)], 0.6)
    _neckline(sketch, neck, rng.uniform(0.16, 0.26), 0.055)
    sketch.seam([(-chest, length - 0.04), (0, length - 0.015), (chest, length - 0.04)])
    return sketch


def _long_sleeve(rng: np.random.Generator) -> Sketch:
    neck, chest, length = rng.uniform(0.19, 0.23), rng.uniform(0.42, 0.48), rng.uniform(1.15, 1.3)
    reach, end = rng.uniform(0.74, 0.84), rng.uniform(1.08, 1.18)
    sketch = Sketch(emblem=(0.2, 0.46))
    outer, inner = (reach, end), (reach - 0.17, end + 0.04)
    hem = _torso(neck, chest, chest - 0.02, length)
    shape = [(0, 0), (neck, 0), (neck, 0), (0.5, 0.1), (0.6, 0.3), outer, outer, inner, inner, (chest, 0.5), *hem]
    sketch.fill(mirrored(shape), Part.BODY)
    for side in (1, -1):
        middle = (outer[0] + inner[0]) / 2
        cuff = [(side * (middle - 0.012), end - 0.07), (side * (middle + 0.004), end + 0.03)]
        sketch.fill(band(cuff, 0.17), Part.TRIM)
        sketch.seam([(side * 0.49, 0.1), (side * 0.43, 0.27), (side * chest, 0.48)], 0.6)
    sketch.fill(
        band([(-chest + 0.025, length - 0.025), (0, length - 0.01), (chest - 0.025, length - 0.025)], 0.08), Part.TRIM
    )
    _neckline(sketch, neck, rng.uniform(0.13, 0.2), 0.06)
    return sketch


def _tank_top(rng: np.random.Generator) -> Sketch:
    neck, strap = rng.uniform(0.2, 0.25), rng.uniform(0.1, 0.14)
    chest, length = rng.uniform(0.4, 0.45), rng.uniform(1.15, 1.3)
    sketch, drop = Sketch(emblem=(0.17, 0.55)), rng.uniform(0.32, 0.42)
    out, hem = neck + strap, _torso(neck, chest, chest + 0.04, length)
    hole = [(out, 0.02), (out, 0.02), (out - 0.02, 0.25), (chest - 0.01, 0.45), (chest - 0.01, 0.45)]
    sketch.fill(mirrored([(0, 0), (neck, 0), (neck, 0), *hole, *hem[1:]]), Part.BODY)
    sketch.fill(rounded([(-neck, 0), (-neck, 0), (0, 0.16), (neck, 0), (neck, 0), (0, drop)]), Part.INSIDE)
    sketch.fill(rounded([(-neck, -0.02), (-neck, -0.02), (0, 0.13), (neck, -0.02), (neck, -0.02)]), Part.GROUND)
    scoop = [(neck * np.cos(a), drop * 0.93 * np.sin(a)) for a in np.linspace(0, np.pi, 20)]
    sketch.fill(band(scoop, 0.045), Part.TRIM)
    for armhole in both([(out - 0.012, 0.02), (out - 0.03, 0.15), (out - 0.025, 0.27), (chest - 0.03, 0.44)]):
        sketch.fill(band(armhole, 0.04), Part.TRIM)
    sketch.seam([(-chest, length - 0.05), (0, length - 0.02), (chest, length - 0.05)])
    return sketch


def _jacket(rng: np.random.Generator) -> Sketch:
    chest, length = rng.uniform(0.44, 0.5), rng.uniform(1.2, 1.4)
    reach, gap, lapel = rng.uniform(0.74, 0.84), rng.uniform(0.05, 0.1), rng.uniform(0.5, 0.7)
    sketch = Sketch(emblem=(0.27, 0.48))
    outer, inner, hem = (reach, 1.12), (reach - 0.18, 1.16), _torso(0.2, chest, chest, length)
    shape = [(0, 0), (0.19, 0), (0.19, 0), (0.52, 0.1), (0.62, 0.32), outer, outer, inner, inner, (chest, 0.52), *hem]
    sketch.fill(mirrored(shape), Part.BODY)
    sketch.fill(
        mirrored([(0, 0.03), (0.17, 0.0), (0.17, 0.0), (gap, lapel), (gap, length), (gap, length)]), Part.INSIDE
    )
    bottom = [(-gap, length + 0.06), (-gap, length + 0.06), (gap, length + 0.06), (gap, length + 0.06)]
    notch = [(gap * 0.7, length - 0.08), (gap * 0.7, length - 0.08), (-gap * 0.7, length - 0.08)]
    sketch.fill(rounded([*bottom, *notch, notch[-1]], 2), Part.GROUND)
    for side in (1, -1):
        collar = [(0.15, -0.03), (0.24, 0.01), (0.3, 0.3), (0.3, 0.3), (gap, lapel + 0.04), (gap, lapel + 0.04)]
        sketch.fill(rounded([(side * x, y) for x, y in collar]), Part.TRIM)
        sketch.fill(band([(side * (gap + 0.012), lapel), (side * (gap + 0.012), length - 0.01)], 0.03), Part.TRIM)
        sketch.fill(band([(side * 0.2, length * 0.72), (side * 0.38, length * 0.7)], 0.05), Part.TRIM)
        sketch.seam([(side * 0.5, 0.1), (side * 0.45, 0.28), (side * chest, 0.5)], 0.7)
        sketch.seam([(side * (outer[0] - 0.01), 1.03), (side * (inner[0] + 0.0), 1.07)])
    return sketch


def _tote(rng: np.random.Generator) -> Sketch:
    top, bottom, height = rng.uniform(0.5, 0.6), rng.uniform(0.42, 0.58), rng.uniform(0.85, 1.1)
    sketch, grip = Sketch(emblem=(0.0, height * 0.55)), rng.uniform(0.22, 0.3)
    handle = arch((-grip, 0.06), (grip, 0.06), rng.uniform(0.45, 0.6))
    sketch.fill(band(handle, 0.065), Part.TRIM)
    sketch.fill(mirrored([(0, 0), (top, 0), (top, 0), (bottom, height), (bottom, height), (0, height)]), Part.BODY)
    sketch.fill(band([(-top, 0.035), (top, 0.035)], 0.07), Part.TRIM)
    for side in (1, -1):
        sketch.fill(band([(side * grip, 0), (side * grip, 0.2)], 0.075), Part.TRIM)
        sketch.seam([(side * (top - 0.06), 0.08), (side * (bottom - 0.06), height)], 0.3)
    sketch.seam([(-bottom, height - 0.06), (bottom, height - 0.06)])
    return sketch


def _handbag(rng: np.random.Generator) -> Sketch:
    top, bottom, height = rng.uniform(0.4, 0.5), rng.uniform(0.6, 0.7), rng.uniform(0.66, 0.82)
    sketch, grip = Sketch(emblem=(0.0, height * 0.66)), rng.uniform(0.22, 0.3)
    handle = arch((-grip, 0.04), (grip, 0.04), rng.uniform(0.4, 0.55), power=0.6)
    sketch.fill(band(handle, 0.08), Part.TRIM)
    edge = [(0, 0), (top, 0), (top, 0), (bottom, height - 0.12), (bottom - 0.05, height), (0, height)]
    sketch.fill(mirrored(edge), Part.BODY)
    fold = height * rng.uniform(0.36, 0.5)
    sketch.fill(mirrored([(0, 0), (top, 0), (top, 0), (top + 0.02, 0.05), (top, fold - 0.1), (0, fold)]), Part.TRIM)
    sketch.fill(ellipse((0, fold), (0.05, 0.06)), Part.SOLE)
    for corner in both([(bottom - 0.24, height - 0.02), (bottom - 0.16, height - 0.18), (bottom - 0.02, height - 0.2)]):
        sketch.seam(corner)
    sketch.seam([(-top, fold - 0.07), (0, fold + 0.02), (top, fold - 0.07)], 0.8)
    return sketch


def _round_bag(rng: np.random.Generator) -> Sketch:
    radius, squash = rng.uniform(0.48, 0.54), rng.uniform(0.85, 1.0)
    sketch = Sketch(emblem=(0.0, 0.16))
    strap = arch((-radius * 0.9, -0.12), (radius * 0.9, -0.12), rng.uniform(0.85, 1.05), power=0.62)
    sketch.fill(band(strap, 0.055), Part.TRIM)
    sketch.fill(ellipse((0, 0), (radius, radius * squash)), Part.TRIM)
    sketch.fill(ellipse((0, 0), (radius * 0.9, radius * squash * 0.9)), Part.BODY)
    for side in (1, -1):
        sketch.fill(ellipse((side * radius * 0.9, -0.12), (0.05, 0.06)), Part.SOLE)
    zip_line = [(radius * 0.72 * x, -radius * squash * (0.62 - 0.12 * x * x)) for x in np.linspace(-1, 1, 9)]
    sketch.fill(band(zip_line, 0.035), Part.SOLE)
    angles = np.linspace(0, 2 * np.pi, 32)
    sketch.seam([(radius * 0.84 * np.cos(a), radius * squash * 0.84 * np.sin(a)) for a in angles], 0.45)
    return sketch


def _legs(rng: np.random.Generator, knee: float, ankle: float, length: float) -> Sketch:
    """Return trousers whose legs are `knee` and `ankle` wide."""
    waist, hip, crotch = rng.uniform(0.29, 0.33), rng.uniform(0.39, 0.43), rng.uniform(0.5, 0.56)
    spread = rng.uniform(0.03, 0.08)
    middle, foot = 0.21 + spread, 0.22 + spread * 1.6
    outside = [(waist, 0), (waist, 0), (hip, 0.38), (middle + knee / 2, (crotch + length) / 2)]
    ends = [(foot + ankle / 2, length), (foot - ankle / 2, length + 0.01)]
    inside = [(max(middle - knee / 2, 0.03), (crotch + length) / 2), (0.012, crotch), (0, crotch - 0.01)]
    sketch = Sketch(emblem=(0.17, 0.28))
    sketch.fill(mirrored([(0, 0.02), *outside, ends[0], ends[0], ends[1], ends[1], *inside]), Part.BODY)
    sketch.fill(band([(-waist - 0.005, 0.035), (0, 0.055), (waist + 0.005, 0.035)], 0.085), Part.TRIM)
    sketch.seam([(0, 0.09), (0.0, crotch)], 0.6)
    sketch.seam([(0.05, 0.1), (0.05, crotch * 0.62), (0.0, crotch * 0.72)], 0.4)
    for side in (1, -1):
        sketch.seam([(side * (waist - 0.1), 0.1), (side * (waist - 0.05), 0.2), (side * hip, 0.24)], 0.6)
        sketch.fill(
            band(
                [
                    (side * (foot - ankle / 2 + 0.012), length - 0.008),
                    (side * (foot + ankle / 2 - 0.012), length - 0.018),
                ],
                0.05,
            ),
            Part.TRIM,
        )
        sketch.seam([(side * middle, crotch * 0.9), (side * foot, length)], 0.25)
    return sketch


def _trousers(rng: np.random.Generator) -> Sketch:
    return _legs(rng, rng.uniform(0.25, 0.3), rng.uniform(0.19, 0.25), rng.uniform(1.55, 1.75))


def _wide_leg(rng: np.random.Generator) -> Sketch:
    return _legs(rng, rng.uniform(0.36, 0.4), rng.uniform(0.42, 0.5), rng.uniform(1.45, 1.6))


def _shorts(rng: np.random.Generator) -> Sketch:
    return _legs(rng, rng.uniform(0.4, 0.43), rng.uniform(0.41, 0.46), rng.uniform(0.78, 0.92))


def _skirt(rng: np.random.Generator) -> Sketch:
    waist, flare, length = rng.uniform(0.28, 0.33), rng.uniform(0.42, 0.72), rng.uniform(0.8, 1.25)
    sketch, hip = Sketch(emblem=(0.17, 0.3)), (waist + flare) / 2 + 0.04
    hem = [(flare, length), (flare, length), (flare * 0.66, length + 0.045), (flare * 0.33, length + 0.03)]
    edge = [(0, 0.02), (waist, 0), (waist, 0), (hip, length * 0.45), *hem, (0, length + 0.06)]
    sketch.fill(mirrored(edge), Part.BODY)
    sketch.fill(band([(-waist - 0.005, 0.035), (0, 0.055), (waist + 0.005, 0.035)], 0.085), Part.TRIM)
    for share in (-0.66, -0.33, 0.0, 0.33, 0.66):
        sketch.seam([(waist * share, 0.12), (flare * share, length + 0.03)], 0.35)
    sketch.seam([(-flare, length - 0.05), (-flare / 2, length), (flare / 2, length), (flare, length - 0.05)])
    return sketch


def _pair(shoe: Callable[[Sketch, Placement], None], gap: float) -> Sketch:
    """Return a left and a right shoe side by side, each drawn by `shoe` through its own placement."""
    sketch = Sketch()
    shoe(sketch, lambda points: [(-x - gap, y) for x, y in points])
    shoe(sketch, lambda points: [(x + gap, y) for x, y in points])
    return sketch


def _sneakers(rng: np.random.Generator) -> Sketch:
    width, length = rng.uniform(0.25, 0.29), rng.uniform(1.25, 1.4)

    def shoe(sketch: Sketch, place: Placement) -> None:
        last = [(-0.1, 0), (0.07, 0.0), (width, 0.26), (width * 0.92, length * 0.5), (width * 0.85, length * 0.85)]
        last += [
            (0.1, length),
            (-0.1, length),
            (-width * 0.8, length * 0.85),
            (-width * 0.72, length * 0.55),
            (-width * 0.9, 0.25),
        ]
        sketch.fill(rounded(place(last)), Part.SOLE)
        sketch.fill(rounded(place([(x * 0.86, 0.05 + y * 0.93) for x, y in last])), Part.BODY)
        sketch.fill(rounded(place([(x * 0.62, length * 0.56 + y * 0.38) for x, y in last])), Part.TRIM)
        sketch.fill(rounded(place([(x * 0.48, length * 0.6 + y * 0.32) for x, y in last])), Part.INSIDE)
        tongue = [(-0.085, length * 0.26), (0.085, length * 0.26), (0.12, length * 0.62), (-0.12, length * 0.62)]
        sketch.fill(rounded(place([p for p in tongue for _ in (0, 1)]), 3), Part.TRIM)
        for lace in np.linspace(0.31, 0.57, 5) * length:
            sketch.fill(band(place([(-0.13, lace), (0.13, lace)]), 0.03), Part.SOLE)
        sketch.seam(place([(-width * 0.75, length * 0.27), (0.0, length * 0.2), (width * 0.75, length * 0.27)]), 0.7)

    return _pair(shoe, width + 0.05)


def _flats(rng: np.random.Generator) -> Sketch:
    width, length, open_at = rng.uniform(0.22, 0.26), rng.uniform(1.25, 1.4), rng.uniform(0.3, 0.4)
    point = rng.uniform(0.02, 0.12)

    def shoe(sketch: Sketch, place: Placement) -> None:
        last = [
            (-point, 0),
            (point - 0.02, 0),
            (width, 0.32),
            (width * 0.85, length * 0.6),
            (width * 0.72, length * 0.9),
        ]
        last += [
            (0.05, length),
            (-0.08, length),
            (-width * 0.68, length * 0.9),
            (-width * 0.7, length * 0.6),
            (-width * 0.9, 0.32),
        ]
        sketch.fill(rounded(place(last)), Part.BODY)
        opening = [(0, open_at * length), (width * 0.7, length * (open_at + 0.2)), (width * 0.56, length * 0.86)]
        opening += [(0, length * 0.95), (-width * 0.52, length * 0.86), (-width * 0.58, length * (open_at + 0.2))]
        sketch.fill(
            rounded(place([(x * 1.15, (y - length * 0.7) * 1.06 + length * 0.7) for x, y in opening])), Part.TRIM
        )
        sketch.fill(rounded(place(opening)), Part.INSIDE)
        bow = open_at * length - 0.06
        for side in (1, -1):
            wing = [(0, bow), (0, bow), (side * 0.12, bow - 0.06), (side * 0.12, bow + 0.06)]
            sketch.fill(rounded(place(wing)), Part.TRIM)
        sketch.fill(ellipse(place([(0, bow)])[0], (0.03, 0.035)), Part.SOLE)

    return _pair(shoe, width + 0.06)


def _boots(rng: np.random.Generator) -> Sketch:
    shaft, height, toe = rng.uniform(0.16, 0.19), rng.uniform(0.75, 1.05), rng.uniform(0.44, 0.5)
    heel, sole = rng.uniform(0.06, 0.14), rng.uniform(0.035, 0.06)
    base = height + 0.2

    def shoe(sketch: Sketch, place: Placement) -> None:
        block = [(-shaft, base - 0.03), (toe - 0.03, base - 0.03), (toe, base + sole), (0.08, base + sole)]
        block += [(0.02, base + sole + heel), (-shaft + 0.02, base + sole + heel)]
        sketch.fill(rounded(place([p for p in block for _ in (0, 1)]), 2), Part.SOLE)
        front = [(shaft, 0), (shaft, 0), (shaft * 0.86, height * 0.7), (shaft * 1.05, height * 0.86)]
        cap = [
            (toe * 0.7, base - 0.17),
            (toe * 0.95, base - 0.12),
            (toe, base - 0.04),
            (toe - 0.02, base),
            (toe - 0.02, base),
        ]
        back = [(-shaft, base), (-shaft, base), (-shaft * 0.8, height * 0.82), (-shaft, 0), (-shaft, 0)]
        sketch.fill(rounded(place([*front, *cap, *back])), Part.BODY)
        sketch.fill(band(place([(-shaft, 0.045), (shaft, 0.045)]), 0.09), Part.TRIM)
        ankle = [(-shaft * 0.82, height * 0.84), (shaft * 0.2, height * 0.87), (shaft * 1.03, height * 0.83)]
        sketch.fill(band(place(ankle), 0.06), Part.TRIM)
        sketch.fill(ellipse(place([(0.02, height * 0.865)])[0], (0.035, 0.045)), Part.SOLE)
        sketch.seam(place([(-0.03, 0.1), (-0.03, height * 0.8)]), 0.35)
        sketch.seam(place([(toe * 0.68, base - 0.16), (toe * 0.64, base - 0.08), (toe * 0.7, base)]), 0.35)

    return _pair(shoe, shaft + 0.07)


def _heels(rng: np.random.Generator) -> Sketch:
    rise, length, tip = rng.uniform(0.3, 0.46), rng.uniform(0.95, 1.1), rng.uniform(0.025, 0.07)
    strapped = bool(rng.random() < 0.5)
    ground = rise + 0.2

    def pump(sketch: Sketch, place: Placement) -> None:
        stem = [(-0.02, 0.16), (-0.02, 0.16), (0.19, 0.26), (0.19, 0.26), (0.05 + tip, 0.42)]
        stem += [(0.03 + tip, ground), (0.03 + tip, ground), (0.03 - tip, ground), (0.03 - tip, ground), (0.0, 0.4)]
        sketch.fill(rounded(place(stem)), Part.TRIM)
        rim = [(0.0, 0.0), (0.0, 0.0), (0.1, 0.1), (0.3, rise * 0.5 + 0.04), (length * 0.5, rise * 0.74)]
        rim += [(length * 0.62, rise * 0.7), (length * 0.66, rise * 0.68)]
        toe = [(length * 0.84, rise + 0.0), (length, ground - 0.05), (length, ground - 0.02), (length * 0.94, ground)]
        under = [(length * 0.66, ground), (length * 0.47, rise * 0.75 + 0.16), (0.24, 0.3), (0.1, 0.27), (-0.03, 0.2)]
        sketch.fill(rounded(place([*rim, rim[-1], *toe, *under])), Part.BODY)
        sketch.fill(band(place([(length * 0.97, ground), (length * 0.64, ground + 0.002)]), 0.03), Part.SOLE)
        sketch.fill(band(place(rim[1:]), 0.028), Part.TRIM)
        if strapped:
            strap = arch((0.02, 0.09), (0.3, rise * 0.5 + 0.07), 0.13)
            sketch.fill(band(place(strap), 0.032), Part.TRIM)

    sketch = Sketch()
    for lift, shift in ((0.0, 0.12), (rise + 0.3, 0.0)):
        pump(sketch, partial(_moved, across=shift, down=lift))
    return sketch


def _moved(points: Sequence[Point], across: float, down: float) -> list[Point]:
    return [(x + across, y + down) for x, y in points]


_CUTS: dict[ItemKind, tuple[Callable[[np.random.Generator], Sketch], ...]] = {
    ItemKind.UPPER: (_t_shirt, _long_sleeve, _tank_top, _jacket),
    ItemKind.BAG: (_tote, _handbag, _round_bag),
    ItemKind.LOWER: (_trousers, _wide_leg, _shorts, _skirt),
    ItemKind.SHOES: (_sneakers, _flats, _boots, _heels),
}
