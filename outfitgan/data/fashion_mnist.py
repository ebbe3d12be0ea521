"""Outfits of Fashion-MNIST's garments (Xiao et al. 2017), dressed by the rule of style.py.

A folder with the published `train-images-idx3-ubyte.gz` and `train-labels-idx1-ubyte.gz`, the `t10k-` pair, or both.
The set has garments of 28x28 grey pixels but no outfits and no colours. Ours: four real garments make an outfit, and
the rule colours them (pieces.py), so silhouettes and shading are real and compatibility is known. The published split
is not used, for one pair alone must give both of ours: a garment's split is a hash of its pixels, so no garment, not
even a duplicate, is in both.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outfitgan.data.drawing.pieces import dress
from outfitgan.data.drawing.rule import RuleOutfits
from outfitgan.data.drawing.style import Style, fabric_of
from outfitgan.data.idx import read_idx
from outfitgan.data.outfit_source import fingerprint_of, split_by_hash
from outfitgan.errors import DataError
from outfitgan.items import COLLOCATION_ORDER, Item, ItemKind
from outfitgan.white_ground import PHOTO_GROUND

HOME = "https://github.com/zalandoresearch/fashion-mnist"
CLASSES: dict[ItemKind, tuple[int, ...]] = {
    ItemKind.UPPER: (0, 2, 4, 6),  # t-shirt, pullover, coat, shirt; 3 is the dress, unused
    ItemKind.BAG: (8,),
    ItemKind.LOWER: (1,),  # trouser
    ItemKind.SHOES: (5, 7, 9),  # sandal, sneaker, ankle boot
}
_VERSION = 1  # of how pieces are chosen and drawn; raise it when pixels change
_PARTS = ("train", "t10k")
_SIDE = 28
_MIN_CLOTH = 0.05  # of a piece's pixels: with less there is nothing to see


class FashionMnistOutfits(RuleOutfits):
    """`count` outfits of `split` at (size, size) from the garments under `root`.

    Raises:
        ConfigError: for a split that is unknown.
        DataError: if the files are missing, damaged, or lack a kind.

    """

    label = "fashion-mnist"

    def __init__(
        self,
        root: Path,  # the published files' folder
        count: int,  # outfits of this split
        size: int,  # side in pixels
        seed: int,  # other seeds give other outfits
        split: str,  # train or test
    ) -> None:
        super().__init__(count, size, seed, split)
        self._root, self._pairs = root, _pairs(root)
        self._pieces = _pieces(root, self._pairs, split)

    def fingerprint(self) -> str:
        """Return a digest of everything that the pixels depend on, without reading them."""
        choices = (_VERSION, self._count, self._size, self._seed, self._split)
        files = (path for pair in self._pairs for path in pair)
        return fingerprint_of("fashion_mnist", *choices, root=self._root, files=files)

    def _item(self, index: int, kind: ItemKind, style: Style) -> Item:
        pieces = self._pieces[kind]
        piece = pieces[int(self._rng(index, kind).integers(len(pieces)))]
        return dress(kind, piece, fabric_of(style, kind), self._size)


def _pairs(root: Path) -> list[tuple[Path, Path]]:
    """Return the images and labels of each pair that is there."""
    pairs = [(root / f"{part}-images-idx3-ubyte.gz", root / f"{part}-labels-idx1-ubyte.gz") for part in _PARTS]
    found = [pair for pair in pairs if any(path.exists() for path in pair)]
    if not found:
        raise DataError(f"{root} has no {pairs[-1][0].name}: get Fashion-MNIST from {HOME}.")
    if missing := [path for pair in found for path in pair if not path.is_file()]:
        raise DataError(f"{root} has no {missing[0].name} beside its pair: get it from {HOME}.")
    return found


def _read(images_path: Path, labels_path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the garments (n, 28, 28) and their classes (n,)."""
    images, labels = read_idx(images_path, (None, _SIDE, _SIDE)), read_idx(labels_path, (None,))
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images, {labels_path.name} {len(labels)} labels: get both from {HOME}."
        )
    return images, labels


def _pieces(root: Path, pairs: list[tuple[Path, Path]], split: str) -> dict[ItemKind, NDArray[np.uint8]]:
    """Return the garments of `split` by kind, each (n, 28, 28)."""
    parts = [_read(*pair) for pair in pairs]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    visible = (images > 255 - PHOTO_GROUND).mean(axis=(1, 2)) >= _MIN_CLOTH
    usable = visible & np.array([split_by_hash(image.tobytes()) == split for image in images], bool)
    pieces = {kind: images[usable & np.isin(labels, CLASSES[kind])] for kind in COLLOCATION_ORDER}
    if lacking := [kind for kind, found in pieces.items() if not len(found)]:
        raise DataError(f"{root} holds no garment of the kind {lacking[0]} for '{split}': get the set from {HOME}.")
    return pieces
