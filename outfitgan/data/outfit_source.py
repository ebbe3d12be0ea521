"""What every source of outfits promises, and what sources share: splits, checks, fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

from outfitgan.errors import ConfigError
from outfitgan.items import Item, ItemKind, Outfit

SPLITS = ("train", "test")
_TEST_PERCENT = 15


class OutfitSource(Protocol):
    """Outfits by number, each with all four kinds; the same number always gives the same outfit."""

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for everything a person might not expect, such as outfits that were left out."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Outfit:
        """Return outfit `index`; raise IndexError outside 0 to len - 1, DataError where its files cannot be used."""
        ...

    def fingerprint(self) -> str:
        """Return a digest of everything that the pixels depend on, without reading them."""
        ...


@runtime_checkable
class RuleBased(OutfitSource, Protocol):
    """A source that knows by rule what clashes; of the others, negatives swap items between outfits (outfit_store)."""

    def incompatible(self, index: int, seed: int) -> Outfit:
        """Return outfit `index` with at least one item replaced so that it no longer goes together."""
        ...

    def replacements(self, index: int, seed: int) -> dict[ItemKind, Item]:
        """Return only the items in which `incompatible(index, seed)` differs from outfit `index`."""
        ...


def check_split(split: str) -> None:
    """Raise ConfigError, which lists the splits, if `split` is not one."""
    if split not in SPLITS:
        raise ConfigError(f"There is no split '{split}'; choose from {', '.join(SPLITS)}.")


def check_index(index: int, count: int) -> None:
    """Raise IndexError, which ends a loop over a source, outside 0 to count - 1."""
    if not 0 <= index < count:
        raise IndexError(f"There is no outfit {index} among {count}.")


def split_by_hash(key: bytes) -> str:
    """Return the split of whatever `key` stands for: "test" for 15 of a hundred, the same everywhere and for ever."""
    draw = int.from_bytes(hashlib.sha256(key).digest()[:8], "big") % 100
    return "test" if draw < _TEST_PERCENT else "train"


def fingerprint_of(*parts: object, root: Path = Path(), files: Iterable[Path] = ()) -> str:
    """Return a digest of `parts` and of each file's name under `root`, size and time of change; reads no content."""
    digest = hashlib.sha256(json.dumps([str(part) for part in parts]).encode())
    for path in files:
        status = path.stat()
        line = [path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns]
        digest.update(json.dumps(line).encode())
    return digest.hexdigest()
