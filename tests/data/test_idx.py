"""IDX files: read as they are, and refused in one sentence where they are not what they should be."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from outfitgan.data.idx import read_idx
from outfitgan.errors import DataError

HEADER = struct.pack(">HBBIII", 0, 8, 3, 2, 3, 4)
BODY = bytes(range(24))


def encode(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, max_side=5)))
def test_what_was_written_is_read(tmp_path: Path, array: NDArray[np.uint8]) -> None:
    path = tmp_path / "some.gz"
    path.write_bytes(gzip.compress(encode(array)))
    np.testing.assert_array_equal(read_idx(path, (None,) * array.ndim), array)
    np.testing.assert_array_equal(read_idx(path, array.shape), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + BODY[:-1], "promises 24 bytes and holds 23: get it again"),
        (HEADER + BODY + b"x", "promises 24 bytes and holds more: get it again"),
        (HEADER[:-2], "ends within its header"),
        (b"", "begins with nothing, not with 00000803"),
        (b"\x89PNG" + HEADER, "begins with 89504e47, not with 00000803: it is another kind of file"),
        (encode(np.zeros((2, 3), np.uint8)), "begins with 00000802"),
        (encode(np.zeros((2, 5, 4), np.uint8)), "has the shape 2x5x4, not anyx3x4: it is another data set"),
        (struct.pack(">HBBIII", 0, 8, 3, 2**32 - 1, 3, 4) + BODY, "promises 51539607540 bytes and holds 24"),
    ],
)
def test_another_content_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, (None, 3, 4))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_or_missing_archive_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(HEADER + BODY)
    path = tmp_path / "images.gz"
    for content in (HEADER + BODY, whole[:-9], whole[:15] + b"\x00\x00\x00" + whole[18:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"Cannot read .*images\.gz .*: get it again"):
            read_idx(path, (None, 3, 4))
    with pytest.raises(DataError, match="Cannot read"):
        read_idx(tmp_path / "nowhere.gz", (None,))
