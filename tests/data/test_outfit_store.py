"""The store of decoded outfits: it gives what the source gives, quickly, and swaps items for hard negatives."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from outfitgan.config import DataConfig
from outfitgan.data.outfit_store import OutfitStore, open_store
from outfitgan.data.store_files import VARIANTS
from outfitgan.data.synthetic import SyntheticOutfits
from outfitgan.errors import DataError
from outfitgan.items import COLLOCATION_ORDER, ItemKind, Outfit

SIZE, COUNT = 32, 12
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def store(cache: Path) -> OutfitStore:
    return synthetic(cache)


@pytest.fixture(scope="module")
def source() -> SyntheticOutfits:
    return SyntheticOutfits(COUNT, SIZE, 0, "train")


def synthetic(cache: Path, size: int = SIZE, split: str = "train", seed: int = 0, count: int = COUNT) -> OutfitStore:
    return open_store(DataConfig(count=count, cache=str(cache)), size, split, seed)


def same(one: Outfit, other: Outfit) -> bool:
    return all(
        np.array_equal(one.items[kind].image, other.items[kind].image)
        and np.array_equal(one.items[kind].mask, other.items[kind].mask)
        for kind in COLLOCATION_ORDER
    )


# What it holds


def test_it_holds_what_the_source_gives(store: OutfitStore, source: SyntheticOutfits) -> None:
    assert (len(store), store.size) == (COUNT, SIZE)
    for index in range(COUNT):
        outfit, expected = store.outfit(index), source[index]
        assert (outfit.name, outfit.group) == (expected.name, expected.group)
        assert (store.names[index], store.groups[index]) == (expected.name, expected.group)
        assert [item.kind for item in outfit.items.values()] == list(COLLOCATION_ORDER)
        assert same(outfit, expected)


def test_gathered_pixels_are_the_rows_own(store: OutfitStore, source: SyntheticOutfits) -> None:
    rows = store.rows([7, 2, 7])
    assert (rows.shape, rows.dtype) == ((3, 4), np.int64)
    images, masks = store.gather(rows[:, ::-1])
    assert (images.shape, images.dtype) == ((3, 4, SIZE, SIZE, 3), np.uint8)
    assert (masks.shape, masks.dtype) == ((3, 4, SIZE, SIZE), np.uint8)
    for place, index in enumerate((7, 2, 7)):
        for number, kind in enumerate(reversed(COLLOCATION_ORDER)):
            np.testing.assert_array_equal(images[place, number], source[index].items[kind].image)
            np.testing.assert_array_equal(masks[place, number], source[index].items[kind].mask)
    images[:], masks[:] = 0, 0  # a copy: the pool stays
    assert same(store.outfit(7), source[7])


def test_negatives_of_a_rule_are_the_sources(store: OutfitStore, source: SyntheticOutfits) -> None:
    for index in range(COUNT):
        for variant in range(VARIANTS):
            rows = store.negative_rows(index, variant)
            images, _ = store.gather(rows[None])
            expected = source.incompatible(index, variant)
            for number, kind in enumerate(COLLOCATION_ORDER):
                np.testing.assert_array_equal(images[0, number], expected.items[kind].image)
            np.testing.assert_array_equal(store.negative_rows(index, variant + 5 * VARIANTS), rows)


def test_equal_items_are_kept_once(cache: Path, store: OutfitStore, source: SyntheticOutfits) -> None:
    outfits = [source[index] for index in range(COUNT)]
    outfits += [source.incompatible(index, variant) for index in range(COUNT) for variant in range(VARIANTS)]
    distinct = {item.image.tobytes() + item.mask.tobytes() for outfit in outfits for item in outfit.items.values()}
    (path,) = cache.glob(f"synthetic-train-{SIZE}-*/images.npy")
    assert np.load(path, mmap_mode="r", allow_pickle=False).shape == (len(distinct), SIZE, SIZE, 3)
    assert np.load(path.with_name("masks.npy"), allow_pickle=False).shape == (len(distinct), SIZE, SIZE)


def test_one_photo_with_two_masks_is_two_items(own: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(own, tmp_path / "set"))
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[4:9, 4:9] = 255
    Image.fromarray(mask).save(root / "train/1/bag_mask.png")
    store = open_store(DataConfig(name="folder", root=str(root), cache=str(tmp_path / "cache")), SIZE, "train", 0)
    first, second = (store.outfit(index).items[ItemKind.BAG] for index in (0, 1))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(second.mask, mask)
    assert first.mask.sum() > mask.sum()


def test_numbers_outside_are_refused(store: OutfitStore) -> None:
    for index in (-1, COUNT):
        for ask in (
            store.outfit,
            lambda number: store.rows([0, number]),
            lambda number: store.negative_rows(number, 0),
        ):
            with pytest.raises(IndexError):
                ask(index)


# Swaps


def test_a_swap_takes_the_same_kinds_item_of_another_group(cache: Path, own: Path) -> None:
    store = open_store(DataConfig(name="folder", root=str(own), cache=str(cache)), SIZE, "train", 0)
    outfits = store.rows(range(len(store)))
    assert store.groups[0] == store.groups[1] != store.groups[2]
    assert outfits[0, 1] == outfits[1, 1]  # the bag that both wear
    swaps, pairs = set(), set()
    for index in range(len(store)):
        for variant in range(60):
            rows = store.negative_rows(index, variant)
            np.testing.assert_array_equal(rows, store.negative_rows(index, variant))
            changed = np.flatnonzero(rows != outfits[index])
            swaps.add(len(changed))
            for kind in changed:
                donors = np.flatnonzero(outfits[:, kind] == rows[kind])
                assert len(donors)
                assert all(store.groups[donor] != store.groups[index] for donor in donors)
                pairs.add((index, int(kind), int(donors[0])))
    assert swaps == {1, 2}
    assert len({tuple(store.negative_rows(3, variant)) for variant in range(60)}) > 40
    # Every outfit gives every kind to others, and takes every kind.
    assert {kind for _, kind, _ in pairs} == {0, 1, 2, 3}
    assert {donor for _, _, donor in pairs} == set(range(10))


def test_a_swap_does_not_depend_on_the_order_of_calls(cache: Path, own: Path) -> None:
    config = DataConfig(name="folder", root=str(own), cache=str(cache))
    one, other = (open_store(config, SIZE, "train", 0) for _ in range(2))
    first = [one.negative_rows(index, 5) for index in range(10)]
    again = [other.negative_rows(index, 5) for index in reversed(range(10))]
    np.testing.assert_array_equal(first, again[::-1])


def test_an_item_worn_in_every_group_is_never_swapped(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", [f"train/{number}" for number in range(4)])
    for number in range(4):
        path = root / f"train/{number}/shoes.png"
        path.write_bytes((root / "train/0/shoes.png").read_bytes() + bytes(number))  # another file, the same picture
    store = open_store(DataConfig(name="folder", root=str(root), cache=str(tmp_path / "cache")), SIZE, "train", 0)
    outfits = store.rows(range(4))
    assert len(set(store.groups)) == 4
    assert len(set(outfits[:, 3])) == 1
    for variant in range(50):
        changed = store.negative_rows(0, variant) != outfits[0]
        assert changed.any()
        assert not changed[3]


def test_one_group_has_nothing_to_swap_with(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", ["train/0", "train/1"])
    shutil.copy(root / "train/0/bag.png", root / "train/1/bag.png")
    store = open_store(DataConfig(name="folder", root=str(root), cache=str(tmp_path / "cache")), SIZE, "train", 0)
    with pytest.raises(DataError, match="No other group of outfits has an item to swap into train/1: add outfits"):
        store.negative_rows(1, 0)


# Speed


def test_reading_keeps_up_with_any_training(tmp_path: Path) -> None:
    """Over 500 outfits a second at 128x128; measured 60,000, so that a busy machine does not fail it."""
    store = synthetic(tmp_path, size=128, count=16)
    rng = np.random.default_rng(0)
    store.gather(store.rows(range(16)))
    began = time.perf_counter()
    for _ in range(50):
        store.gather(store.rows(rng.integers(16, size=8).tolist()))
    assert 50 * 8 / (time.perf_counter() - began) > 500


def test_torch_is_not_needed() -> None:
    code = "import sys, outfitgan.data.outfit_store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_store_without_variants_is_smaller_and_says_what_it_lacks(tmp_path: Path) -> None:
    config = DataConfig(count=COUNT, cache=str(tmp_path))
    whole, plain = open_store(config, SIZE, "train", 0), open_store(config, SIZE, "train", 0, variants=0)
    assert len(whole) == len(plain) == COUNT
    rows = range(COUNT)
    np.testing.assert_array_equal(plain.gather(plain.rows(rows))[0], whole.gather(whole.rows(rows))[0])
    sizes = sorted(path.stat().st_size for path in tmp_path.glob("*/images.npy"))
    assert sizes[0] == COUNT * 4 * SIZE * SIZE * 3 + 128
    assert sizes[1] > 1.5 * sizes[0]
    with pytest.raises(DataError, match="keeps no negatives"):
        plain.negative_rows(0, 0)
