"""Your own outfits: one folder an outfit, with a photo of each kind, as `outfitgan data write` lays them out.

    <root>/<outfit>/{upper,bag,lower,shoes}.{png,jpg,jpeg,webp}    a garment each, on a near-white ground
    <root>/<outfit>/<kind>_mask.png                                its silhouette, white on black; else the ground's

With `<root>/train/` and `<root>/test/` the outfits lie in these; without, they are split by a hash of their name.
Outfits that hold the same image file are one group, and a group is in one split: no photo is in both. Files are
compared byte by byte, so the same picture saved twice in different ways is not known again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from outfitgan.data.outfit_source import SPLITS, check_index, check_split, fingerprint_of, split_by_hash
from outfitgan.data.photos import read_item
from outfitgan.errors import DataError
from outfitgan.files import sha256_of
from outfitgan.items import COLLOCATION_ORDER, ItemKind, Outfit

ENDINGS = ("png", "jpg", "jpeg", "webp")  # of several the first is taken
_VERSION = 1  # of the choice and the silhouettes; raise it when pixels change


@dataclass(frozen=True)
class _Found:
    """A folder with all four kinds."""

    name: str  # its path under the root
    photos: dict[ItemKind, Path]  # in collocation order
    masks: dict[ItemKind, Path]  # of the kinds that have one


class FolderOutfits:
    """The outfits of `split` under `root`, at (size, size).

    Raises:
        ConfigError: for a split that is unknown.
        DataError: if there is no outfit for it.

    """

    def __init__(
        self,
        root: Path,  # one folder an outfit, or train/ and test/ of such
        size: int,  # side in pixels
        split: str,  # train or test
    ) -> None:
        check_split(split)
        self._root, self._size, self._split = root, size, split
        divided = any((root / name).is_dir() for name in SPLITS)
        places = {name: root / name for name in SPLITS} if divided else {"": root}
        folders = [folder for place in places.values() for folder in _folders(place)]
        found = [outfit for folder in folders if (outfit := _complete(folder, root)) is not None]
        self._groups = _groups(found)
        self.notes = _notes(folders, found)
        chosen = self._divided(found) if divided else [o for o in found if self._hashed(o) == split]
        self._outfits = chosen
        if not chosen:
            raise DataError(
                f"{root} holds no outfit for '{split}' among {len(found)}: make train/ and test/ with one folder an "
                f"outfit, each with {', '.join(COLLOCATION_ORDER)}."
            )

    def __len__(self) -> int:
        return len(self._outfits)

    def __getitem__(self, index: int) -> Outfit:
        """Return outfit `index`; raise IndexError outside 0 to len - 1, DataError where a file cannot be used."""
        check_index(index, len(self))
        found = self._outfits[index]
        items = {kind: read_item(kind, found.photos[kind], found.masks.get(kind), self._size) for kind in found.photos}
        return Outfit(found.name, self._groups[found.name], items)

    def fingerprint(self) -> str:
        """Return a digest of everything that the pixels depend on, without reading them."""
        files = [path for found in self._outfits for path in (*found.photos.values(), *found.masks.values())]
        return fingerprint_of("folder", _VERSION, self._size, self._split, root=self._root, files=files)

    def _hashed(self, outfit: _Found) -> str:
        return split_by_hash(self._groups[outfit.name].encode())

    def _divided(self, found: list[_Found]) -> list[_Found]:
        """Return what lies in the split's own folder, less the test outfits that share a photo with training."""
        parts = {name: [outfit for outfit in found if outfit.name.startswith(f"{name}/")] for name in SPLITS}
        if self._split == "train":
            return parts["train"]
        seen = {self._groups[outfit.name] for outfit in parts["train"]}
        unseen = [outfit for outfit in parts["test"] if self._groups[outfit.name] not in seen]
        if shared := len(parts["test"]) - len(unseen):
            self.notes += (f"{shared} test outfits share a photo with training and are left out.",)
        return unseen


def _folders(place: Path) -> list[Path]:
    """Return the folders in `place` that a person made, by name."""
    if not place.is_dir():
        return []
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def _complete(folder: Path, root: Path) -> _Found | None:
    """Return the outfit in `folder`, None if it lacks a kind."""
    photos = {}
    for kind in COLLOCATION_ORDER:
        present = [path for ending in ENDINGS if (path := folder / f"{kind}.{ending}").is_file()]
        if not present:
            return None
        photos[kind] = present[0]
    masks = {kind: mask for kind in COLLOCATION_ORDER if (mask := folder / f"{kind}_mask.png").is_file()}
    return _Found(folder.relative_to(root).as_posix(), photos, masks)


def _groups(found: list[_Found]) -> dict[str, str]:
    """Return each outfit's group: the first name among the outfits that equal photos connect it with."""
    group = {outfit.name: outfit.name for outfit in found}

    def first(name: str) -> str:
        while group[name] != name:
            group[name] = group[group[name]]
            name = group[name]
        return name

    for names in _sharing(found):
        ends = sorted({first(name) for name in names})
        for end in ends:
            group[end] = ends[0]
    return {name: first(name) for name in group}


def _sharing(found: list[_Found]) -> Iterable[list[str]]:
    """Return, for each photo that lies in more than one place, the outfits that hold it."""
    by_size: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for outfit in found:
        for path in outfit.photos.values():
            by_size[path.stat().st_size].append((outfit.name, path))
    by_content: dict[str, list[str]] = defaultdict(list)
    for same_size in by_size.values():
        if len(same_size) > 1:  # a size of its own is a content of its own, so that most files need not be read
            for name, path in same_size:
                by_content[sha256_of(path)].append(name)
    return by_content.values()


def _notes(folders: list[Path], found: list[_Found]) -> tuple[str, ...]:
    if len(folders) == len(found):
        return ()
    return (f"{len(folders) - len(found)} of {len(folders)} folders lack one of the four kinds and are left out.",)
