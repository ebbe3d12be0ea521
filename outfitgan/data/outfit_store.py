"""Decoded outfits on disk, mapped into memory, so that a training is not bound by decoding pictures."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from outfitgan.config import DataConfig
from outfitgan.data.open_outfits import open_outfits
from outfitgan.data.outfit_source import OutfitSource, RuleBased, check_index
from outfitgan.data.store_files import FORMAT, VARIANTS, read_index, write_store
from outfitgan.errors import ConfigError, DataError
from outfitgan.files import partial_folder
from outfitgan.items import COLLOCATION_ORDER, Item, Outfit
from outfitgan.progress import Progress, no_progress


class OutfitStore:
    """N outfits whose items lie in a pool of M; an item is known by its row in the pool."""

    def __init__(
        self,
        folder: Path,  # of the store's files
        index: dict[str, Any],  # what `read_index` returned
    ) -> None:
        self.names: tuple[str, ...] = tuple(index["names"])
        self.groups: tuple[str, ...] = tuple(index["groups"])
        self.notes: tuple[str, ...] = tuple(index["notes"])  # one sentence for what a person might not expect
        self._images = _mapped(folder / "images.npy")  # (M, S, S, 3)
        self._masks = _mapped(folder / "masks.npy")  # (M, S, S)
        self._outfits = _rows(folder / "outfits.npy")  # (N, 4)
        # (N, V, 4)
        self._rule: bool = index["rule"]
        self._negatives = _rows(folder / "negatives.npy") if "negatives.npy" in index["files"] else None
        self._group_numbers = np.unique(self.groups, return_inverse=True)[1]  # (N,)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> int:
        """The items' side in pixels."""
        return int(self._images.shape[1])

    def outfit(self, index: int) -> Outfit:
        """Return outfit `index` with pixels of its own; raise IndexError outside 0 to len - 1."""
        images, masks = (pixels[0] for pixels in self.gather(self.rows([index])))
        items = {kind: Item(kind, images[i], masks[i]) for i, kind in enumerate(COLLOCATION_ORDER)}
        return Outfit(self.names[index], self.groups[index], items)

    def rows(self, indices: Sequence[int]) -> NDArray[np.int64]:
        """Return the items of `indices`, (n, 4) in collocation order; raise IndexError outside 0 to len - 1."""
        for index in indices:
            check_index(index, len(self))
        return np.asarray(self._outfits[list(indices)])

    def negative_rows(self, index: int, variant: int) -> NDArray[np.int64]:
        """Return the items (4,) of a hard negative of outfit `index`; each `variant` is another.

        Of a source with a rule it is one of the V variants that break it, else one or two items are swapped for the
        same kind's of an outfit of another group, so that no kind gives it away.

        Raises:
            IndexError: outside 0 to len - 1.
            DataError: if there is nothing to swap with.

        """
        check_index(index, len(self))
        if self._negatives is not None:
            return np.asarray(self._negatives[index, variant % self._negatives.shape[1]])
        if self._rule:
            raise DataError("This store keeps no negatives of its source's rule: open it with variants.")
        return self._swapped(index, variant)

    def gather(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the images (n, 4, S, S, 3) and masks (n, 4, S, S) of `rows` (n, 4), copied out of the pool."""
        return self._images[rows], self._masks[rows]

    def _swapped(self, index: int, variant: int) -> NDArray[np.int64]:
        key = hashlib.sha256(f"{self.names[index]}/{variant}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(key[:16], "big"))
        rows = np.array(self._outfits[index])  # (4,)
        strange = self._group_numbers != self._group_numbers[index]  # (N,)
        # An item may be worn in outfits of several groups: itself is no swap.
        donors = [np.flatnonzero(strange & (self._outfits[:, kind] != rows[kind])) for kind in range(len(rows))]
        able = [kind for kind, found in enumerate(donors) if len(found)]
        if not able:
            raise DataError(f"No other group of outfits has an item to swap into {self.names[index]}: add outfits.")
        for kind in rng.choice(able, size=min(int(rng.integers(1, 3)), len(able)), replace=False):
            rows[kind] = self._outfits[rng.choice(donors[kind]), kind]
        return rows


def open_store(
    config: DataConfig,
    size: int,
    split: str,
    seed: int,
    progress: Progress = no_progress,
    variants: int = VARIANTS,  # negatives of a rule-based source to keep: most of its items are theirs
) -> OutfitStore:
    """Return the outfits of `split` at (size, size), decoded now if they were not before.

    The store lies in data.cache, under a key of everything that its pixels depend on. Whichever of several processes
    comes first decodes; the others wait for it. `progress` is called after each outfit.

    Raises:
        ConfigError: as `open_outfits`, and if the cache cannot be written.
        DataError: as `open_outfits`, and if no outfit can be used.

    """
    source = open_outfits(config, size, split, seed)
    key = f"{config.name}-{split}-{size}-{_digest(source, variants)[:16]}"
    folder = cache_folder(config) / key
    index = read_index(folder, key)
    if index is None:
        try:
            index = _build(folder, source, size, variants, progress)
        except OSError as error:
            raise ConfigError(
                f"Cannot keep decoded outfits in {folder.parent} ({error.strerror}): make room there, or set "
                "data.cache to a folder of yours."
            ) from error
    return OutfitStore(folder, index)


def cache_folder(config: DataConfig) -> Path:
    """Return where stores are kept."""
    return Path(config.cache) if config.cache else user_cache_path("outfitgan") / "data"


def _digest(source: OutfitSource, variants: int) -> str:
    """Return a digest of the source's fingerprint and first outfit: drawing code changes even where versions do not."""
    digest = hashlib.sha256(json.dumps([FORMAT, variants, source.fingerprint()]).encode())
    try:
        items = [*source[0].items.values()]
    except DataError:  # the store leaves it out
        items = []
    if isinstance(source, RuleBased):
        items += source.replacements(0, 0).values()
    for item in items:
        digest.update(item.image.tobytes() + item.mask.tobytes())
    return digest.hexdigest()


def _build(folder: Path, source: OutfitSource, size: int, variants: int, progress: Progress) -> dict[str, Any]:
    """Write the store unless another process has by now; return its index."""
    with _locked(folder):
        index = read_index(folder, folder.name)
        if index is not None:
            return index
        # What a killed process left: under the lock nobody else is writing here.
        for stale in folder.parent.glob(f".{folder.name}.*.partial"):
            shutil.rmtree(stale, ignore_errors=True)
        with partial_folder(folder) as partial:
            return write_store(partial, source, size, folder.name, variants, progress)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of one store; it is let go of even by a process that is killed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _mapped(path: Path) -> NDArray[np.uint8]:
    """Return a file's array without reading it."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)).view(np.ndarray)


def _rows(path: Path) -> NDArray[np.int64]:
    """Return a file's rows of the pool."""
    return np.asarray(np.load(path, allow_pickle=False), np.int64)
