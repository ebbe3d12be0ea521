"""Outfits from Clothing Co-Parsing: street photos with a label a pixel (Yang, Luo and Lin, CVPR 2014).

A folder as published: `photos/NNNN.jpg`, `annotations/pixel-level/NNNN.mat` and `label_list.mat`. A photo counts as an
outfit if each of the four kinds covers enough of it; of several garments of one kind the largest is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat

from outfitgan.data.ground import without_specks
from outfitgan.data.outfit_source import check_index, check_split, fingerprint_of, split_by_hash
from outfitgan.errors import DataError
from outfitgan.items import COLLOCATION_ORDER, Item, ItemKind, Outfit
from outfitgan.masks import THRESHOLD, levels_of

HOME = "https://github.com/bearpaw/clothing-co-parsing"
LABELS: dict[ItemKind, tuple[str, ...]] = {
    ItemKind.UPPER: (
        *("blazer", "blouse", "bodysuit", "cape", "cardigan", "coat", "hoodie", "jacket", "jumper", "shirt", "suit"),
        *("sweater", "sweatshirt", "t-shirt", "top", "vest"),
    ),
    ItemKind.BAG: ("bag", "purse"),
    ItemKind.LOWER: ("jeans", "leggings", "pants", "shorts", "skirt"),
    ItemKind.SHOES: (
        *("boots", "clogs", "flats", "heels", "loafers", "pumps", "sandals", "shoes", "sneakers", "wedges"),
    ),
}
MIN_PIXELS = {ItemKind.UPPER: 3000, ItemKind.BAG: 1000, ItemKind.LOWER: 3000, ItemKind.SHOES: 800}
_VERSION = 1  # of the choice and the cutting; raise it when pixels change
_SPECK = 0.05  # of an item's pixels: a smaller patch is dropped
_MARGIN = 0.07  # of the square's side, at each edge


@dataclass(frozen=True)
class _Photo:
    """A photo with all four kinds: which label stands for each."""

    name: str
    labels: dict[ItemKind, int]


class CcpOutfits:
    """The outfits of `split` under `root`, cut out at (size, size); raises DataError if the data set is not there.

    Opening reads the split's annotations; photos are read when an outfit is asked for.
    """

    def __init__(
        self,
        root: Path,  # the published folder
        size: int,  # side in pixels
        split: str,  # train or test
    ) -> None:
        check_split(split)
        self._root, self._size, self._split = root, size, split
        names = [name for name in _names(root) if split_by_hash(name.encode()) == split]
        labels = _labels(root)
        photos = (self._scan(name, labels) for name in names)
        self._photos = [photo for photo in photos if photo is not None]
        if not self._photos:
            raise DataError(f"{root} holds no photo with all four kinds for '{split}': get the whole set from {HOME}.")
        lacking = len(names) - len(self._photos)
        self.notes = (f"{lacking} of {len(names)} photos do not show all four kinds and are left out.",)

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> Outfit:
        """Return outfit `index`; raise IndexError outside 0 to len - 1, DataError where its photo cannot be used."""
        check_index(index, len(self))
        found = self._photos[index]
        annotation, pixels = _annotation(self._root, found.name), _photo(self._root, found.name)
        if annotation.shape != pixels.shape[:2]:
            raise DataError(f"Photo {found.name} and its annotation differ in size: get both from {HOME}.")
        items = {
            kind: _cut_out(kind, pixels, annotation == found.labels[kind], self._size) for kind in COLLOCATION_ORDER
        }
        return Outfit(found.name, found.name, items)

    def fingerprint(self) -> str:
        """Return a digest of everything that the pixels depend on, without reading them."""
        names = [photo.name for photo in self._photos]
        files = [self._root / "label_list.mat", *(path for name in names for path in _files(self._root, name))]
        return fingerprint_of("ccp", _VERSION, self._size, self._split, root=self._root, files=files)

    def _scan(self, name: str, labels: dict[ItemKind, NDArray[np.int64]]) -> _Photo | None:
        counts = np.bincount(_annotation(self._root, name).ravel(), minlength=256)
        largest = {kind: int(ids[counts[ids].argmax()]) for kind, ids in labels.items()}
        if any(counts[number] < MIN_PIXELS[kind] for kind, number in largest.items()):
            return None
        return _Photo(name, largest)


def _cut_out(kind: ItemKind, pixels: NDArray[np.uint8], region: NDArray[np.bool_], size: int) -> Item:
    """Return the pixels of `region` (H, W) on white, in the middle of a square, with their mask."""
    region = without_specks(region, _SPECK)
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside = region[box]
    height, width = inside.shape
    side = round(max(height, width) / (1 - 2 * _MARGIN))
    top, left = (side - height) // 2, (side - width) // 2
    image = np.full((side, side, 3), 255, np.uint8)
    image[top : top + height, left : left + width][inside] = pixels[box][inside]
    mask = np.zeros((side, side), np.uint8)
    mask[top : top + height, left : left + width][inside] = 255
    # One filter for both, so that the image's edge fades to white just as the mask's fades to black.
    scaling = Image.Resampling.BOX if side >= size else Image.Resampling.BICUBIC
    small, soft = (np.asarray(Image.fromarray(array).resize((size, size), scaling)) for array in (image, mask))
    return Item(kind, small, levels_of(soft >= THRESHOLD))


def _names(root: Path) -> list[str]:
    for needed in ("photos", "annotations/pixel-level", "label_list.mat"):
        if not (root / needed).exists():
            raise DataError(f"{root} has no {needed}: get the Clothing Co-Parsing data set from {HOME}.")
    names = sorted(path.stem for path in (root / "annotations/pixel-level").glob("*.mat"))
    photos = {path.stem for path in (root / "photos").glob("*.jpg")}
    # The set publishes more photos than pixel annotations, so only the other way round is an error.
    if missing := [name for name in names if name not in photos]:
        raise DataError(f"{root} has no photos/{missing[0]}.jpg for its annotation: get the whole set from {HOME}.")
    return names


def _labels(root: Path) -> dict[ItemKind, NDArray[np.int64]]:
    """Return each kind's label numbers."""
    cells = _matlab(root / "label_list.mat", "label_list").ravel()
    numbers = {str(np.asarray(cell).item()): number for number, cell in enumerate(cells)}
    for names in LABELS.values():
        if absent := [name for name in names if name not in numbers]:
            raise DataError(
                f"{root / 'label_list.mat'} has no label '{absent[0]}': get the published file from {HOME}."
            )
    return {kind: np.array([numbers[name] for name in names]) for kind, names in LABELS.items()}


def _files(root: Path, name: str) -> tuple[Path, Path]:
    """Return where a photo and its annotation lie."""
    return root / f"photos/{name}.jpg", root / f"annotations/pixel-level/{name}.mat"


def _annotation(root: Path, name: str) -> NDArray[np.uint8]:
    """Return a photo's labels (H, W)."""
    return np.asarray(_matlab(_files(root, name)[1], "groundtruth"), np.uint8)


def _photo(root: Path, name: str) -> NDArray[np.uint8]:
    path = _files(root, name)[0]
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise DataError(f"Cannot read {path} ({error}): get it again from {HOME}.") from error


def _matlab(path: Path, variable: str) -> Any:
    try:
        return loadmat(path, variable_names=[variable])[variable]
    except Exception as error:  # scipy raises whatever a damaged file makes it hit
        raise DataError(f"Cannot read {variable} from {path} ({error}): get it again from {HOME}.") from error
