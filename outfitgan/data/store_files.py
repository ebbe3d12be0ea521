"""The files of a store of decoded outfits: how they are written, and whether they are whole.

images.npy     (M, S, S, 3) uint8    the distinct items
masks.npy      (M, S, S) uint8       0 or 255
outfits.npy    (N, 4) int32          rows of the above in collocation order
negatives.npy  (N, V, 4) int32       the same, of outfits that break the source's rule; where it has one
store.json                           names, groups, notes, and what the other files must be
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from outfitgan.data.outfit_source import OutfitSource, RuleBased
from outfitgan.errors import DataError
from outfitgan.files import sha256_of
from outfitgan.items import COLLOCATION_ORDER, Item
from outfitgan.progress import Progress

FORMAT = 2
VARIANTS = 4
"""V: incompatible outfits kept for each outfit of a rule-based source, where any are wanted."""
INDEX = "store.json"
_BIG = ("images.npy", "masks.npy")  # checked by their length alone: reading them would take as long as decoding


def write_store(
    folder: Path, source: OutfitSource, size: int, key: str, variants: int, progress: Progress
) -> dict[str, Any]:
    """Decode every outfit of `source` into the files of a store in `folder`; return its index.

    An outfit whose files cannot be used is left out, and a note says how many were.

    Raises:
        DataError: if no outfit can be used.

    """
    table = _Table(variants if isinstance(source, RuleBased) else 0)
    with _Pool(folder, size) as pool:
        for index in range(len(source)):
            table.add(source, index, pool)
            progress("outfits decoded", index + 1, len(source))
    if not table.names:
        raise DataError(f"None of the {len(source)} outfits can be used; the first: {table.refused[0]}")
    np.save(folder / "outfits.npy", np.array(table.outfits, np.int32))
    if table.variants:
        np.save(folder / "negatives.npy", np.array(table.negatives, np.int32))
    index_content: dict[str, Any] = {
        "format": FORMAT,
        "key": key,
        "rule": isinstance(source, RuleBased),
        "names": table.names,
        "groups": table.groups,
        "notes": [*source.notes, *table.notes()],
        "files": {path.name: _measure(path) for path in sorted(folder.glob("*.npy"))},
    }
    (folder / INDEX).write_text(json.dumps(index_content, indent=1), encoding="utf-8")
    return index_content


def read_index(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the store's index, None unless the store is whole, unaltered, and the one that `key` means."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if (index["format"], index["key"]) != (FORMAT, key):
            return None
        unaltered = all(_measure(folder / name) == measure for name, measure in index["files"].items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return index if unaltered else None


def _measure(path: Path) -> dict[str, object]:
    """Return what a file must stay: its length, and its digest if it is small."""
    measure: dict[str, object] = {"bytes": path.stat().st_size}
    if path.name not in _BIG:
        measure["sha256"] = sha256_of(path)
    return measure


@dataclass
class _Table:
    """What a store knows of each outfit, in the source's order."""

    variants: int
    names: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    outfits: list[list[int]] = field(default_factory=list)
    negatives: list[list[list[int]]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # why, for each outfit that cannot be used

    def add(self, source: OutfitSource, index: int, pool: _Pool) -> None:
        """Add one outfit, with its incompatible variants."""
        try:
            outfit = source[index]
        except DataError as error:
            self.refused.append(str(error))
            return
        rows = {kind: pool.add(outfit.items[kind]) for kind in COLLOCATION_ORDER}
        self.names.append(outfit.name)
        self.groups.append(outfit.group)
        self.outfits.append(list(rows.values()))
        if self.variants and isinstance(source, RuleBased):
            fakes = (source.replacements(index, variant) for variant in range(self.variants))
            changes = ({kind: pool.add(item) for kind, item in items.items()} for items in fakes)
            self.negatives.append([list((rows | change).values()) for change in changes])

    def notes(self) -> list[str]:
        """Return what a person might not expect."""
        if not self.refused:
            return []
        return [f"{len(self.refused)} outfits cannot be used and are left out; the first: {self.refused[0]}"]


class _Pool:
    """Items, of which equal ones are kept once."""

    def __init__(
        self,
        folder: Path,  # where its files are written
        size: int,  # side of the items in pixels
    ) -> None:
        self._rows: dict[bytes, int] = {}  # by a digest of image and mask
        self._images = _GrowingFile(folder / "images.npy", (size, size, 3))
        self._masks = _GrowingFile(folder / "masks.npy", (size, size))

    def add(self, item: Item) -> int:
        """Return the row of `item`."""
        image, mask = item.image.tobytes(), item.mask.tobytes()
        digest = hashlib.blake2b(image + mask, digest_size=20).digest()
        if digest not in self._rows:
            self._rows[digest] = len(self._rows)
            self._images.append(image)
            self._masks.append(mask)
        return self._rows[digest]

    def __enter__(self) -> _Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._images.close(len(self._rows))
        self._masks.close(len(self._rows))


class _GrowingFile:
    """An .npy file of uint8 rows, as many as come: the header, which numpy pads for this, is written again at last."""

    def __init__(
        self,
        path: Path,  # of the .npy file
        row: tuple[int, ...],  # shape of one row
    ) -> None:
        self._row, self._stream = row, path.open("wb")
        self._write_header(0)

    def append(self, row: bytes) -> None:
        self._stream.write(row)

    def close(self, rows: int) -> None:
        self._stream.seek(0)
        self._write_header(rows)
        self._stream.close()

    def _write_header(self, rows: int) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, *self._row)}
        np.lib.format.write_array_header_1_0(self._stream, header)  # type: ignore[no-untyped-call]
