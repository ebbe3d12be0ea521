"""Connected patches against scipy's, number by number."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import generate_binary_structure, label

from outfitgan.patches import areas_of, joined_by_corners, joined_by_sides

Join = Callable[[np.ndarray], np.ndarray]
BOTH = pytest.mark.parametrize(("join", "connectivity"), [(joined_by_sides, 1), (joined_by_corners, 2)])


def spiral(side: int) -> np.ndarray:
    """A line that winds inwards with ground between its turns: one patch, in as many runs as its picture has rows."""
    region = np.zeros((side, side), bool)
    row, column, (down, right) = 0, 0, (0, 1)
    region[0, 0] = True
    for length in [side - 1, *(step for step in range(side - 1, 0, -2) for _ in (0, 1))]:
        for _ in range(length):
            row, column = row + down, column + right
            region[row, column] = True
        down, right = right, -down
    return region


def agrees(join: Join, connectivity: int, region: np.ndarray) -> None:
    found, (expected, count) = join(region), label(region, generate_binary_structure(2, connectivity))
    np.testing.assert_array_equal(found, expected)
    areas = [0, *(int((expected == number).sum()) for number in range(1, count + 1))]
    assert areas_of(found).tolist() == areas


@BOTH
@settings(max_examples=150, deadline=None)
@given(region=arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_small_pictures(join: Join, connectivity: int, region: np.ndarray) -> None:
    agrees(join, connectivity, region)


@BOTH
@settings(max_examples=20, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_noise(join: Join, connectivity: int, share: float, seed: int) -> None:
    region = np.random.default_rng(seed).random((70, 50)) < share
    expected, _ = label(region, generate_binary_structure(2, connectivity))
    np.testing.assert_array_equal(join(region), expected)


CASES = {
    "empty": np.zeros((9, 7), bool),
    "full": np.ones((9, 7), bool),
    "spiral": spiral(61),
    "spiral mirrored": spiral(61)[::-1, ::-1],
    "comb": np.pad(np.tile([True, False], (30, 15)), ((0, 1), (0, 0)), constant_values=True),
    "comb upside down": np.pad(np.tile([True, False], (30, 15)), ((1, 0), (0, 0)), constant_values=True),
    "checkerboard": np.indices((20, 20)).sum(axis=0) % 2 == 0,
    "one row": np.array([[True, False, True, True]]),
    "one column": np.array([[True], [False], [True], [True]]),
    "from a row's end to the next row's beginning": np.array([[False, True], [False, False], [True, False]]),
}


@BOTH
@pytest.mark.parametrize("case", CASES)
def test_what_is_hard_to_join(join: Join, connectivity: int, case: str) -> None:
    agrees(join, connectivity, CASES[case])


def test_a_spiral_is_one_patch() -> None:
    assert spiral(61).mean() < 0.6
    assert joined_by_sides(spiral(61)).max() == 1


def test_serving_is_spared_scipy_and_torch() -> None:
    code = "import sys, outfitgan.images; print(*{'scipy', 'torch', 'skimage'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
