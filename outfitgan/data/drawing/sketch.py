"""A garment as drawing steps: filled outlines, painted in order, with seams on top.

An outline is a list of points (x to the right, y down) in units of the garment's own making; the sketch is later
fitted into its square. A point given twice is a corner, any other is rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Outline = NDArray[np.float64]  # (points, 2)
Placement = Callable[[Sequence[Point]], list[Point]]  # moves a shoe's points to where it stands


class Part(Enum):
    """What a region is made of; the values are the bands of the drawing."""

    BODY = 0  # the patterned fabric
    TRIM = 1  # plain cloth in the other colour
    INSIDE = 2  # the fabric's shaded reverse
    SOLE = 3  # rubber or metal, in no colour of the palette
    GROUND = 4  # cut away


@dataclass
class Sketch:
    """A garment as drawing steps, painted in order."""

    fills: list[tuple[Outline, Part]] = field(default_factory=list)
    seams: list[tuple[Outline, float]] = field(default_factory=list)  # a line and its strength, 0 to 1
    emblem: Point = (0.0, 0.0)  # where a logo belongs

    def fill(self, points: Outline, part: Part) -> None:
        """Paint the inside of a closed outline."""
        self.fills.append((points, part))

    def seam(self, points: Sequence[Point], strength: float = 0.5) -> None:
        """Stitch along an open line."""
        self.seams.append((np.array(points), strength))


def rounded(points: Sequence[Point], steps: int = 6) -> Outline:
    """Return the closed Catmull-Rom curve through `points`, straight into and out of its corners."""
    p = np.array(points)
    ring = np.concatenate([p[-1:], p, p[:1]])
    before, after = ring[:-2], ring[2:]
    corner = (p == before).all(axis=1) | (p == after).all(axis=1)
    slope = np.where(corner[:, None], 0, (after - before) / 2)
    t = np.arange(steps)[None, :, None] / steps
    step = (after - p)[:, None]
    start, end = slope[:, None], np.concatenate([slope[1:], slope[:1]])[:, None]
    curve = p[:, None] + t * (start + t * (3 * step - 2 * start - end + t * (start + end - 2 * step)))
    return np.asarray(curve).reshape(-1, 2)


def mirrored(half: Sequence[Point]) -> Outline:
    """Return the outline whose right half (x >= 0, from top to bottom) is given."""
    return rounded([*half, *[(-x, y) for x, y in reversed(half)]])


def ellipse(centre: Point, radii: Point) -> Outline:
    """Return an ellipse's outline."""
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return np.stack([centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)], axis=1)


def band(points: Sequence[Point], width: float) -> Outline:
    """Return the outline of a strip `width` wide along an open line."""
    line = np.array(points, float)
    along = np.empty_like(line)
    along[0], along[-1] = line[1] - line[0], line[-1] - line[-2]
    along[1:-1] = line[2:] - line[:-2]
    normal = along[:, ::-1] * (-1, 1) / np.hypot(along[:, :1], along[:, 1:])
    return np.concatenate([line + normal * width / 2, (line - normal * width / 2)[::-1]])


def arch(left: Point, right: Point, height: float, steps: int = 24, power: float = 0.5) -> list[Point]:
    """Return points on an arch from `left` to `right`; a small `power` squares its shoulders."""
    t = np.linspace(0, 1, steps)
    rise = (4 * t * (1 - t)) ** power * height
    x, y = left[0] + (right[0] - left[0]) * t, left[1] + (right[1] - left[1]) * t - rise
    return list(zip(x.tolist(), y.tolist(), strict=True))


def both(points: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    """Return a line and its mirror image."""
    return list(points), [(-x, y) for x, y in points]
