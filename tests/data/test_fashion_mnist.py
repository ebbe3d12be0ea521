"""Fashion-MNIST's garments in outfits: a small set in the published layout, and the real one where it lies."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

from outfitgan.config import DataConfig
from outfitgan.data.fashion_mnist import CLASSES, FashionMnistOutfits
from outfitgan.data.open_outfits import open_outfits
from outfitgan.data.outfit_source import RuleBased
from outfitgan.errors import ConfigError, DataError
from outfitgan.items import COLLOCATION_ORDER, ItemKind, Outfit

REAL = Path(os.environ.get("OUTFITGAN_FASHION_MNIST", Path(__file__).parents[2].parent / "shared/data/fashion_mnist"))
needs_fashion_mnist = pytest.mark.skipif(
    not (REAL / "t10k-images-idx3-ubyte.gz").is_file(),
    reason="Fashion-MNIST is not here: set OUTFITGAN_FASHION_MNIST to its folder.",
)
SIZE = 56


def garments(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Boxes whose height and width tell one garment from another, even as a mask."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, 28, 28), np.uint8)
    for number, image in enumerate(images):
        height, width = 6 + number % 20, 6 + number // 20 % 20
        image[1 : 1 + height, 1 : 1 + width] = rng.integers(60, 255)
    return images, np.arange(count, dtype=np.uint8) % 10


def publish(root: Path, part: str, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Path:
    root.mkdir(exist_ok=True)
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (root / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes(), 1))
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("fashion") / "set", "t10k", *garments(300, 0))


def same(one: Outfit, other: Outfit) -> bool:
    return all(
        np.array_equal(one.items[kind].image, other.items[kind].image)
        and np.array_equal(one.items[kind].mask, other.items[kind].mask)
        for kind in COLLOCATION_ORDER
    )


def masks_of(source: FashionMnistOutfits) -> dict[ItemKind, set[bytes]]:
    outfits = [source[index] for index in range(len(source))]
    return {kind: {outfit.items[kind].mask.tobytes() for outfit in outfits} for kind in COLLOCATION_ORDER}


def test_an_outfit_depends_on_seed_split_and_index_alone(small: Path) -> None:
    few, many = (FashionMnistOutfits(small, count, SIZE, 7, "train") for count in (5, 50))
    many[20]
    for index in range(5):
        assert same(few[index], many[index])
        assert same(few.incompatible(index, 9), many.incompatible(index, 9))
    assert not same(few[0], few[1])
    assert not same(few[0], FashionMnistOutfits(small, 5, SIZE, 8, "train")[0])
    assert not same(few[0], FashionMnistOutfits(small, 5, SIZE, 7, "test")[0])
    assert len({many[index].name for index in range(50)}) == 50
    for index in (-1, 5):
        with pytest.raises(IndexError):
            few[index]


def test_no_garment_is_in_both_splits(tmp_path: Path) -> None:
    images, labels = garments(400, 1)
    root = publish(tmp_path / "both", "train", images, labels)
    publish(root, "t10k", images[::-1].copy(), labels[::-1].copy())  # every garment twice
    worn = {split: masks_of(FashionMnistOutfits(root, 100, SIZE, 0, split)) for split in ("train", "test")}
    for kind in COLLOCATION_ORDER:
        assert worn["train"][kind]
        assert not worn["train"][kind] & worn["test"][kind]
        share = len(worn["test"][kind]) / (len(worn["train"][kind]) + len(worn["test"][kind]))
        assert 0.02 < share < 0.4


def test_a_kind_wears_its_classes_alone(tmp_path: Path) -> None:
    images, labels = garments(300, 2)
    for number, height in enumerate(range(6, 26, 2)):  # the class is the height
        images[labels == number] = 0
        images[labels == number, 1 : 1 + height, 1:20] = 100
        images[labels == number, 2, 2] = np.flatnonzero(labels == number) % 30 + 100
    source = FashionMnistOutfits(publish(tmp_path / "set", "t10k", images, labels), 60, SIZE, 0, "train")
    heights: dict[ItemKind, set[int]] = {kind: set() for kind in COLLOCATION_ORDER}
    for index in range(len(source)):
        for kind, item in source[index].items.items():
            rows = np.flatnonzero((item.mask > 0).any(axis=1))
            heights[kind].add(round(((len(rows) / SIZE / 0.86 * 28) - 6) / 2))
    assert heights == {kind: set(classes) for kind, classes in CLASSES.items()}


def test_the_published_classes_are_used_but_for_the_dress() -> None:
    used = [number for classes in CLASSES.values() for number in classes]
    assert sorted(used) == [number for number in range(10) if number != 3]


def test_both_published_pairs_are_read(tmp_path: Path) -> None:
    images, labels = garments(100, 3)
    root = publish(tmp_path / "set", "t10k", images, labels)
    before = masks_of(FashionMnistOutfits(root, 90, SIZE, 0, "train"))
    wide = np.zeros_like(images)
    wide[:, 10:13, :] = np.arange(100, 200, dtype=np.uint8)[:, None, None]
    publish(root, "train", wide, labels)
    after = masks_of(FashionMnistOutfits(root, 90, SIZE, 0, "train"))
    assert all(after[kind] - before[kind] and after[kind] & before[kind] for kind in COLLOCATION_ORDER)


def test_blank_garments_are_not_worn(tmp_path: Path) -> None:
    images, labels = garments(200, 4)
    images[::2] = 3  # all noise, no cloth
    labels = np.repeat(labels[:100], 2)
    source = FashionMnistOutfits(publish(tmp_path / "set", "t10k", images, labels), 60, SIZE, 0, "train")
    for index in range(len(source)):
        assert all((item.mask > 0).any() for item in source[index].items.values())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "t10k-images-idx3-ubyte.gz").unlink(), r"no t10k-images-idx3-ubyte\.gz beside its pair"),
        (lambda root: (root / "t10k-labels-idx1-ubyte.gz").unlink(), r"no t10k-labels-idx1-ubyte\.gz beside its pair"),
        (lambda root: [path.unlink() for path in root.iterdir()], r"no t10k-images-idx3-ubyte\.gz: get Fashion-MNIST"),
        (
            lambda root: (root / "t10k-labels-idx1-ubyte.gz").replace(root / "t10k-images-idx3-ubyte.gz"),
            "no t10k-labels",
        ),
        (
            lambda root: (root / "t10k-images-idx3-ubyte.gz").write_bytes(
                (root / "t10k-labels-idx1-ubyte.gz").read_bytes()
            ),
            "begins with 00000801, not with 00000803",
        ),
        (lambda root: publish(root, "t10k", garments(40, 0)[0], garments(41, 0)[1]), "40 images.* 41 labels"),
        (lambda root: publish(root, "t10k", garments(40, 0)[0], np.full(40, 8, np.uint8)), "no garment .* upper"),
        (
            lambda root: publish(root, "t10k", np.zeros((9, 32, 32), np.uint8), np.zeros(9, np.uint8)),
            "shape 9x32x32, not anyx28x28",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, damage: object, message: str) -> None:
    root = publish(tmp_path / "set", "t10k", *garments(40, 0))
    assert callable(damage)
    damage(root)
    with pytest.raises(DataError, match=message) as caught:
        FashionMnistOutfits(root, 4, SIZE, 0, "train")
    assert "\n" not in str(caught.value)


def test_options_are_checked(small: Path) -> None:
    with pytest.raises(ConfigError, match="no split 'dev'"):
        FashionMnistOutfits(small, 4, SIZE, 0, "dev")
    with pytest.raises(ConfigError, match="at least 1"):
        FashionMnistOutfits(small, 0, SIZE, 0, "train")
    source = open_outfits(DataConfig(name="fashion_mnist", root=str(small), count=3), SIZE, "test", 4)
    assert len(source) == 3
    assert isinstance(source, RuleBased)
    assert same(source[1], FashionMnistOutfits(small, 9, SIZE, 4, "test")[1])


@needs_fashion_mnist
def test_real_outfits_break_the_rule_visibly() -> None:
    source, broken = FashionMnistOutfits(REAL, 20, 96, 0, "train"), set()
    for index in range(len(source)):
        good, bad = source[index], source.incompatible(index, index)
        changed = 0
        for kind in COLLOCATION_ORDER:
            one, other = good.items[kind], bad.items[kind]
            np.testing.assert_array_equal(one.mask, other.mask)
            if not np.array_equal(one.image, other.image):
                changed += 1
                apart = deltaE_ciede2000(rgb2lab(one.image), rgb2lab(other.image))[one.mask > 0]
                assert apart.mean() > 5, (index, kind)
        broken.add(changed)
    assert broken == {1, 2}


@needs_fashion_mnist
def test_real_items_are_shaded_garments_on_white() -> None:
    source = FashionMnistOutfits(REAL, 20, 96, 1, "test")
    for index in range(len(source)):
        for item in source[index].items.values():
            assert 0.04 < (item.mask > 0).mean() < 0.75
            assert (item.image[[0, -1]] == 255).all()
            assert rgb2lab(item.image)[item.mask > 0][:, 0].std() > 1
