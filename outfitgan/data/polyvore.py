"""Polyvore Outfits (Vasileva et al., ECCV 2018), as published: who wore what with what, and product photos.

A folder with `polyvore_item_metadata.json`, `images/<item_id>.jpg`, and `nondisjoint/` or `disjoint/` with train.json,
valid.json and test.json. Our train is train.json, our test is test.json; valid.json is in neither. Ours: where it is
the only one of the three, its outfits are split by a hash of their set_id.

Tops and outerwear are uppers; of several items of one kind the first by `index` is taken. Ours: `accessories` (belts,
watches, gloves) never stand for a bag. The published metadata has `bags` apart from them, so metadata without bags is
not the published one, and a generator trained on it would make belts where a bag is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outfitgan.data.outfit_source import check_index, check_split, fingerprint_of, split_by_hash
from outfitgan.data.photos import read_item
from outfitgan.errors import DataError
from outfitgan.items import COLLOCATION_ORDER, ItemKind, Outfit

HOME = "https://github.com/mvasil/fashion-compatibility"
METADATA = "polyvore_item_metadata.json"
VARIANTS = ("nondisjoint", "disjoint")
CATEGORIES: dict[str, ItemKind] = {
    "tops": ItemKind.UPPER,
    "outerwear": ItemKind.UPPER,
    "bags": ItemKind.BAG,
    "bottoms": ItemKind.LOWER,
    "shoes": ItemKind.SHOES,
}
_VERSION = 1  # of the choice and the silhouettes; raise it when pixels change


@dataclass(frozen=True)
class _Found:
    """An outfit with all four kinds: which item stands for each."""

    name: str  # its set_id
    items: dict[ItemKind, str]  # item_ids, in collocation order


class PolyvoreOutfits:
    """The outfits of `split` whose four photos are there, at (size, size).

    `root` is the published folder, of which the nondisjoint variant is read, or one variant's folder inside it. A test
    outfit that shares a photo with training is left out: the nondisjoint variant has such.

    Raises:
        ConfigError: for a split that is unknown.
        DataError: if the data set is not there as published, or if no outfit has its photos.

    """

    def __init__(
        self,
        root: Path,  # the published folder, or one variant's
        size: int,  # side in pixels
        split: str,  # train or test
    ) -> None:
        check_split(split)
        self._root, folder = (root.parent, root) if root.name in VARIANTS else (root, root / VARIANTS[0])
        self._size, self._split, self._variant = size, split, folder.name
        kinds = _kinds(self._root / METADATA)
        train = _complete(folder, "train", kinds)
        found = train
        self.notes: tuple[str, ...] = ()
        if split == "test":
            found, self.notes = _unseen(_complete(folder, "test", kinds), train)
        self._outfits = self._with_photos(found)

    def __len__(self) -> int:
        return len(self._outfits)

    def __getitem__(self, index: int) -> Outfit:
        """Return outfit `index`; raise IndexError outside 0 to len - 1, DataError where a photo cannot be used."""
        check_index(index, len(self))
        found = self._outfits[index]
        items = {kind: read_item(kind, self._photo(item), None, self._size) for kind, item in found.items.items()}
        return Outfit(found.name, found.name, items)

    def fingerprint(self) -> str:
        """Return a digest of everything that the pixels depend on, without reading them."""
        worn = [list(found.items.values()) for found in self._outfits]
        photos = sorted({self._photo(item) for items in worn for item in items})
        choices = (_VERSION, self._size, self._split, self._variant, worn)
        return fingerprint_of("polyvore", *choices, root=self._root, files=photos)

    def _photo(self, item: str) -> Path:
        return self._root / f"images/{item}.jpg"

    def _with_photos(self, found: list[_Found]) -> list[_Found]:
        """Return the outfits whose photos are all there, and note how many are not."""
        folder = self._root / "images"
        there = {path.stem for path in folder.glob("*.jpg")}
        whole = [outfit for outfit in found if there.issuperset(outfit.items.values())]
        if not whole:
            raise DataError(
                f"None of the {len(found)} outfits for '{self._split}' has its photos in {folder}: get the images "
                f"from {HOME}."
            )
        if len(whole) < len(found):
            missing = len(found) - len(whole)
            self.notes += (f"{missing} of {len(found)} outfits lack a photo and are left out.",)
        return whole


def _unseen(test: list[_Found], train: list[_Found]) -> tuple[list[_Found], tuple[str, ...]]:
    """Return the test outfits of which no item is in training, and a note of the others."""
    seen = {item for outfit in train for item in outfit.items.values()}
    unseen = [outfit for outfit in test if seen.isdisjoint(outfit.items.values())]
    shared = len(test) - len(unseen)
    note = f"{shared} of {len(test)} test outfits share an item with training and are left out."
    return unseen, (note,) if shared else ()


def _complete(folder: Path, split: str, kinds: dict[str, ItemKind]) -> list[_Found]:
    """Return the outfits of `split` in `folder` that have all four kinds."""
    alone = not any((folder / f"{name}.json").exists() for name in ("train", "test"))
    if alone and (folder / "valid.json").exists():
        return [
            found for found in _outfits(folder / "valid.json", kinds) if split_by_hash(found.name.encode()) == split
        ]
    return list(_outfits(folder / f"{split}.json", kinds))


def _outfits(path: Path, kinds: dict[str, ItemKind]) -> Iterator[_Found]:
    """Yield the outfits of one published list that have all four kinds."""
    for entry in _published(path, list):
        try:
            worn = sorted(entry["items"], key=lambda item: int(item["index"]), reverse=True)
            first = {kinds[item["item_id"]]: str(item["item_id"]) for item in worn if item["item_id"] in kinds}
            name = str(entry["set_id"])
        except (TypeError, KeyError, ValueError) as error:
            raise DataError(f"{path} is not laid out as published ({error!r}): get it again from {HOME}.") from error
        if len(first) == len(COLLOCATION_ORDER):
            yield _Found(name, {kind: first[kind] for kind in COLLOCATION_ORDER})


def _kinds(path: Path) -> dict[str, ItemKind]:
    """Return the kind of each item that is of one."""
    entries = _published(path, dict).items()
    categories = {item: entry.get("semantic_category") for item, entry in entries if isinstance(entry, dict)}
    kinds = {
        item: CATEGORIES[name] for item, name in categories.items() if isinstance(name, str) and name in CATEGORIES
    }
    if lacking := [kind for kind in COLLOCATION_ORDER if kind not in kinds.values()]:
        wanted = " or ".join(f"'{category}'" for category, kind in CATEGORIES.items() if kind == lacking[0])
        raise DataError(f"{path} has no item of the category {wanted}: get the published file from {HOME}.")
    return kinds


def _published(path: Path, layout: type) -> Any:
    """Return what a JSON file holds, a `layout`."""
    if not path.is_file():
        raise DataError(f"There is no {path}: get Polyvore Outfits from {HOME}.")
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"Cannot read {path} ({error}): get it again from {HOME}.") from error
    if not isinstance(data, layout):
        raise DataError(f"{path} is not laid out as published: get it again from {HOME}.")
    return data
