"""Outfits of your own: read as they lie, split so that no photo is in both, and what is missing is counted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from outfitgan.config import DataConfig
from outfitgan.data.examples import write_examples
from outfitgan.data.folder import FolderOutfits
from outfitgan.data.open_outfits import open_outfits
from outfitgan.data.outfit_source import RuleBased
from outfitgan.data.synthetic import SyntheticOutfits
from outfitgan.errors import ConfigError, DataError
from outfitgan.items import COLLOCATION_ORDER, ItemKind

Make = Callable[..., Path]


def groups(root: Path, split: str) -> dict[str, str]:
    source = FolderOutfits(root, 32, split)
    return {outfit.name: outfit.group for outfit in (source[index] for index in range(len(source)))}


def test_what_data_write_writes_is_read_back(tmp_path: Path) -> None:
    config = DataConfig(name="synthetic", count=20)
    write_examples(config, 48, "train", 3, 20, tmp_path / "set")
    drawn, seen = SyntheticOutfits(20, 48, 3, "train"), 0
    for split in ("train", "test"):
        source = open_outfits(DataConfig(name="folder", root=str(tmp_path / "set")), 48, split, 0)
        assert source.notes == ()
        assert not isinstance(source, RuleBased)
        for index in range(len(source)):
            outfit, seen = source[index], seen + 1
            assert tuple(outfit.items) == COLLOCATION_ORDER
            for kind, item in outfit.items.items():
                expected = drawn[int(outfit.name)].items[kind]
                np.testing.assert_array_equal(item.image, expected.image)
                np.testing.assert_array_equal(item.mask, expected.mask)
    assert seen == 20


def test_names_are_split_once_and_for_all(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", [f"outfit-{number}" for number in range(30)])
    train, test = groups(root, "train"), groups(root, "test")
    assert not train.keys() & test.keys()
    assert len(train) + len(test) == 30
    assert 1 <= len(test) <= 12
    assert all(name == group for name, group in (train | test).items())
    shutil.rmtree(root / next(iter(train)))
    assert groups(root, "test") == test


def test_outfits_with_the_same_photo_are_one_group_in_one_split(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", [f"{number:02d}" for number in range(30)])
    before = {split: groups(root, split) for split in ("train", "test")}
    names = sorted(before["test"])[:2] + sorted(before["train"])[:2]
    for one, other, kind in zip(names, names[1:], ("bag", "shoes", "bag"), strict=False):
        # A chain: the first and the last have no photo in common. The same file may be of another kind, too.
        shutil.copy(root / one / f"{kind}.png", root / other / f"{'upper' if kind == 'shoes' else kind}.png")
    train, test = groups(root, "train"), groups(root, "test")
    assert len(train) + len(test) == 30
    holder = train if names[0] in train else test
    chained = {name: group for name, group in holder.items() if name in names}
    assert set(chained) == set(names)
    assert set(chained.values()) == {min(names)}
    assert all(name == group for name, group in (train | test).items() if name not in names)


def test_photos_of_one_size_but_another_content_are_no_group(
    make_folder: Make, outfits: SyntheticOutfits, tmp_path: Path
) -> None:
    root = make_folder(tmp_path / "set", [f"{number:02d}" for number in range(8)], ending="webp")
    for number, folder in enumerate(sorted(root.iterdir())):
        path = folder / "bag.png"
        Image.fromarray(outfits[0].items[ItemKind.BAG].image).save(path)
        path.write_bytes(path.read_bytes() + bytes([number]))  # the same picture, bytes and size but for the last
    assert len({path.stat().st_size for path in root.glob("*/bag.png")}) == 1
    found = groups(root, "train")
    assert len(found) > 4
    assert all(name == group for name, group in found.items())


def test_folders_named_train_and_test_say_the_split(make_folder: Make, tmp_path: Path) -> None:
    names = [*(f"train/{number}" for number in range(4)), *(f"test/{number}" for number in range(3))]
    root = make_folder(tmp_path / "set", names)
    assert sorted(groups(root, "train")) == names[:4]
    assert sorted(groups(root, "test")) == names[4:]
    shutil.copy(root / "train/2/shoes.png", root / "test/1/shoes.png")
    source = FolderOutfits(root, 32, "test")
    assert [source[index].name for index in range(len(source))] == ["test/0", "test/2"]
    assert source.notes == ("1 test outfits share a photo with training and are left out.",)
    assert sorted(groups(root, "train")) == names[:4]
    shutil.rmtree(root / "test")
    with pytest.raises(DataError, match=r"holds no outfit for 'test' among 4: make train/ and test/"):
        FolderOutfits(root, 32, "test")


def test_incomplete_folders_are_counted(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", [f"train/{number}" for number in range(4)])
    (root / "train/1/shoes.png").unlink()
    (root / "train/notes").mkdir()
    (root / "train/.hidden").mkdir()
    (root / "train/readme.txt").touch()
    source = FolderOutfits(root, 32, "train")
    assert [source[index].name for index in range(len(source))] == ["train/0", "train/2", "train/3"]
    assert source.notes == ("2 of 5 folders lack one of the four kinds and are left out.",)


@pytest.mark.parametrize("ending", ["png", "jpg", "jpeg", "webp"])
def test_photos_of_any_format_are_read(
    make_folder: Make, outfits: SyntheticOutfits, tmp_path: Path, ending: str
) -> None:
    root = make_folder(tmp_path / "set", ["train/0"], ending)
    item = FolderOutfits(root, 64, "train")[0].items[ItemKind.LOWER]
    assert np.abs(item.image.astype(int) - outfits[0].items[ItemKind.LOWER].image).mean() < 6


def test_png_comes_first_and_a_mask_wins_over_the_ground(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", ["train/0"])
    Image.new("RGB", (64, 64)).save(root / "train/0/bag.jpg")
    mask = np.zeros((64, 64), np.uint8)
    mask[20:30, 20:30] = 255
    Image.fromarray(mask).save(root / "train/0/upper_mask.png")
    items = FolderOutfits(root, 64, "train")[0].items
    assert items[ItemKind.BAG].image.max() == 255
    np.testing.assert_array_equal(items[ItemKind.UPPER].mask, mask)
    assert items[ItemKind.LOWER].mask.sum() > mask.sum()


def test_what_cannot_be_used_is_named(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", ["train/0"])
    Image.new("L", (60, 64)).save(root / "train/0/upper_mask.png")
    with pytest.raises(DataError, match=r"upper_mask\.png is 60x64, not square"):
        FolderOutfits(root, 64, "train")[0]
    for index in (-1, 1):
        with pytest.raises(IndexError):
            FolderOutfits(root, 64, "train")[index]
    for empty in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DataError, match="holds no outfit for 'train' among 0"):
            FolderOutfits(empty, 32, "train")
    with pytest.raises(ConfigError, match="no split 'dev'"):
        FolderOutfits(root, 32, "dev")
