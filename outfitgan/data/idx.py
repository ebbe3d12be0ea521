"""IDX files, in which MNIST and its successors are published, gzipped: a magic number, the shape, then bytes."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outfitgan.errors import DataError

_BYTES = 8  # the type code of unsigned bytes, the only one used
_MOST = 1 << 28  # bytes: five times the largest file published; a damaged header may promise anything


def read_idx(path: Path, shape: tuple[int | None, ...]) -> NDArray[np.uint8]:
    """Return the bytes of a gzipped IDX file in its shape, whose sides must be those of `shape`.

    Raises:
        DataError: if the file cannot be read, is no IDX file of bytes, has another shape, or is cut short or too long.

    """
    try:
        with gzip.open(path) as stream:
            header = stream.read(4 + 4 * len(shape))
            found = _shape(path, header, shape)
            length = math.prod(found)
            data = stream.read(min(length, _MOST) + 1)  # one more shows a file that is too long
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"Cannot read {path} ({error}): get it again.") from error
    if len(data) != length:
        amount = "more" if len(data) > length else f"{len(data)}"
        raise DataError(f"{path} promises {length} bytes and holds {amount}: get it again.")
    return np.frombuffer(data, np.uint8).reshape(found)


def _shape(path: Path, header: bytes, wanted: tuple[int | None, ...]) -> tuple[int, ...]:
    magic = bytes([0, 0, _BYTES, len(wanted)])
    if header[:4] != magic:
        raise DataError(
            f"{path} begins with {header[:4].hex() or 'nothing'}, not with {magic.hex()}: it is another kind of file."
        )
    if len(header) != 4 + 4 * len(wanted):
        raise DataError(f"{path} ends within its header: get it again.")
    found = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
    if any(side is not None and side != length for side, length in zip(wanted, found, strict=True)):
        expected = "x".join("any" if side is None else str(side) for side in wanted)
        raise DataError(f"{path} has the shape {'x'.join(map(str, found))}, not {expected}: it is another data set.")
    return found
