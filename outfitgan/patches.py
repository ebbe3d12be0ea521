"""Connected patches of a binary picture, in numpy alone: serving and the edge are spared scipy's 140 MB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Region = NDArray[np.bool_]  # (H, W)


def joined_by_sides(region: Region) -> Numbers:
    """Number the patches of `region` (H, W) whose pixels share sides: 1 and up by their first pixels, else 0."""
    return _labelled(region, 0)


def joined_by_corners(region: Region) -> Numbers:
    """Number the patches of `region` (H, W) whose pixels share sides or corners: 1 and up as above, else 0."""
    return _labelled(region, 1)


def areas_of(labels: Numbers) -> Numbers:
    """Return the pixels of each patch by its number, (patches + 1,); number 0 is none and has 0."""
    areas = np.bincount(labels.ravel(), minlength=1)
    areas[0] = 0
    return areas


def _labelled(region: Region, reach: int) -> Numbers:
    """Join the runs of each row with those of the next that overlap them, widened by `reach` pixels at each end."""
    stride = region.shape[1] + 2
    line = np.pad(region, ((0, 0), (1, 1))).ravel()  # all rows end to end, with ground in between
    edges = np.flatnonzero(line[1:] != line[:-1])
    begins, ends = edges[::2], edges[1::2]  # (R,) each, of the runs
    first = np.searchsorted(ends, begins + stride - reach, side="right")  # of the runs below that meet each run
    beyond = np.searchsorted(begins, ends + stride + reach, side="left")
    count = beyond - first
    above = np.repeat(np.arange(len(count)), count)  # (M,)
    below = np.arange(len(above)) + np.repeat(first - np.cumsum(count) + count, count)
    labels = np.zeros(region.shape, np.int64)
    labels[region] = np.repeat(_groups(np.stack([above, below]), len(count)) + 1, ends - begins)
    return labels


def _groups(pairs: Numbers, count: int) -> Numbers:
    """Return the group (count,) of each of `count` members, of which `pairs` (2, M) belong together; from 0."""
    parent = np.arange(count)
    # Hooking and pointer jumping: the higher root of every pair goes under the lower until every pair has one.
    while True:
        roots = parent[pairs]  # (2, M)
        apart = roots[0] != roots[1]
        if not apart.any():
            return np.asarray((np.cumsum(parent == np.arange(count)) - 1)[parent])
        pairs, roots = pairs[:, apart], roots[:, apart]
        np.minimum.at(parent, roots.max(axis=0), roots.min(axis=0))
        while ((higher := parent[parent]) != parent).any():
            parent = higher
