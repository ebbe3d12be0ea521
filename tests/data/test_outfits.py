"""Every source is opened by its config, and its fingerprint tells what its pixels depend on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from outfitgan.config import DataConfig, DataSet
from outfitgan.data.open_outfits import open_outfits
from outfitgan.data.outfit_source import fingerprint_of, split_by_hash
from outfitgan.errors import ConfigError, DataError

Make = Callable[..., Path]


def opened(name: str, root: Path, size: int = 32, split: str = "train", seed: int = 0, count: int = 3) -> str:
    config = DataConfig(name=name, root=str(root), count=count)  # type: ignore[arg-type]
    return open_outfits(config, size, split, seed).fingerprint()


def test_every_data_set_of_the_config_can_be_opened_and_asks_for_its_root(tmp_path: Path) -> None:
    for name in get_args(DataSet):
        if name == "synthetic":
            assert len(open_outfits(DataConfig(name=name), 32, "test", 0)) == 512
            continue
        with pytest.raises(ConfigError, match=r"data\.root is empty: set it to the folder of ") as caught:
            open_outfits(DataConfig(name=name), 32, "train", 0)
        assert str(caught.value).endswith(".")
        with pytest.raises(DataError, match="nowhere"):
            open_outfits(DataConfig(name=name, root=str(tmp_path / "nowhere")), 32, "train", 0)
        with pytest.raises(ConfigError, match="no split 'validation'; choose from train, test"):
            open_outfits(DataConfig(name=name, root=str(tmp_path)), 32, "validation", 0)


def test_a_rules_fingerprint_is_of_its_options(tmp_path: Path) -> None:
    usual = opened("synthetic", tmp_path)
    assert opened("synthetic", tmp_path) == usual
    others = [
        opened("synthetic", tmp_path, size=33),
        opened("synthetic", tmp_path, split="test"),
        opened("synthetic", tmp_path, seed=1),
        opened("synthetic", tmp_path, count=4),
    ]
    assert len({usual, *others}) == 5


def test_a_folders_fingerprint_is_of_its_files(make_folder: Make, make_polyvore: Make, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", ["train/0", "train/1"])
    polyvore = make_polyvore(tmp_path / "polyvore", {"train": [0, 1], "test": [2]})
    for name, root, photo in (("folder", folder, "train/1/bag.png"), ("polyvore", polyvore, "images/1010.jpg")):
        usual = opened(name, root)
        assert opened(name, root, seed=5, count=9) == usual
        assert opened(name, root, size=33) != usual
        moved = root.rename(root.with_name("moved"))
        assert opened(name, moved) == usual
        os.utime(moved / photo, ns=(0, 0))
        touched = opened(name, moved)
        assert touched != usual
        with (moved / photo).open("ab") as stream:
            stream.write(b"x")
        os.utime(moved / photo, ns=(0, 0))
        assert opened(name, moved) not in (usual, touched)
        moved.rename(tmp_path / f"was-{name}")


def test_parts_of_a_fingerprint_do_not_run_together(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
        os.utime(tmp_path / name, ns=(0, 0))
    made = [
        fingerprint_of("a", "b"),
        fingerprint_of("ab"),
        fingerprint_of('a", "b'),
        fingerprint_of("b", "a"),
        fingerprint_of("a", "b", root=tmp_path, files=[tmp_path / "a"]),
        fingerprint_of("a", "b", root=tmp_path, files=[tmp_path / "b"]),
    ]
    assert len(set(made)) == len(made)


def test_about_fifteen_of_a_hundred_are_for_the_test() -> None:
    splits = [split_by_hash(str(number).encode()) for number in range(4000)]
    assert set(splits) == {"train", "test"}
    assert 0.13 < splits.count("test") / 4000 < 0.17
    # Written down once: a run's test outfits stay test outfits.
    assert [number for number in range(40) if split_by_hash(f"{number:04d}".encode()) == "test"] == [10, 17, 19, 37]
