"""Building a store of decoded outfits: once, whole, by whoever comes first, and again if it was damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from outfitgan.config import DataConfig
from outfitgan.data.folder import FolderOutfits
from outfitgan.data.outfit_store import OutfitStore, cache_folder, open_store
from outfitgan.data.synthetic import SyntheticOutfits
from outfitgan.errors import ConfigError, DataError
from outfitgan.items import COLLOCATION_ORDER, Outfit

SIZE, COUNT = 32, 12
FILES = ("images.npy", "masks.npy", "outfits.npy", "negatives.npy", "store.json")
Make = Callable[..., Path]
BUILD = f"""
import os, resource, sys
from outfitgan.config import DataConfig
from outfitgan.data.outfit_store import open_store
from outfitgan.errors import OutfitError
if int(sys.argv[3]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
calls = []
def progress(what, done, total):
    calls.append(done)
    if done == int(sys.argv[2]):
        os._exit(9)
try:
    store = open_store(DataConfig(count={COUNT}, cache=sys.argv[1]), {SIZE}, "train", 0, progress)
except OutfitError as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}")
print(len(store), len(calls), int(store.gather(store.rows(range(len(store))))[0].astype(int).sum()))
"""


def synthetic(cache: Path, size: int = SIZE, split: str = "train", seed: int = 0, count: int = COUNT) -> OutfitStore:
    return open_store(DataConfig(count=count, cache=str(cache)), size, split, seed)


def start(cache: Path, die_at: int = 0, largest_file: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(cache), str(die_at), str(largest_file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def same(one: Outfit, other: Outfit) -> bool:
    return all(
        np.array_equal(one.items[kind].image, other.items[kind].image)
        and np.array_equal(one.items[kind].mask, other.items[kind].mask)
        for kind in COLLOCATION_ORDER
    )


def test_it_is_built_once_and_says_how_far_it_is(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    config = DataConfig(count=3, cache=str(tmp_path))

    def progress(what: str, done: int, total: int) -> None:
        calls.append((done, total))

    open_store(config, SIZE, "train", 0, progress)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    before = {path.name: path.stat() for path in folder.iterdir()}
    assert set(before) == set(FILES)
    open_store(config, SIZE, "train", 0, progress)
    assert len(calls) == 3
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == {n: s.st_ino for n, s in before.items()}


def test_another_choice_is_another_store(tmp_path: Path, make_folder: Make) -> None:
    def count() -> int:
        return sum(path.is_dir() for path in tmp_path.iterdir())

    for number, options in enumerate(({}, {"size": 33}, {"split": "test"}, {"seed": 1}, {"count": 2}), start=1):
        synthetic(tmp_path, **({"count": 3} | options))
        assert count() == number
    root = make_folder(tmp_path.parent / f"{tmp_path.name}-set", ["train/0", "train/1"])
    config = DataConfig(name="folder", root=str(root), cache=str(tmp_path))
    before = open_store(config, SIZE, "train", 0).outfit(0)
    shutil.copy(root / "train/1/shoes.png", root / "train/0/shoes.png")
    after = open_store(config, SIZE, "train", 0).outfit(0)
    assert not same(before, after)
    assert same(after, FolderOutfits(root, SIZE, "train")[0])


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *((file, damage) for file in FILES for damage in ("missing", "short", "empty")),
        *((file, "altered") for file in FILES[2:]),  # the big ones are checked by their length alone
    ],
)
def test_a_damaged_store_is_built_again(tmp_path: Path, file: str, damage: str) -> None:
    whole = synthetic(tmp_path, count=2).outfit(1)
    (path,) = tmp_path.glob(f"*/{file}")
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        altered = data[:-2] + (b"x" if file == "store.json" else bytes([data[-2] ^ 1])) + data[-1:]
        path.write_bytes({"short": data[:-1], "empty": b"", "altered": altered}[damage])
    assert same(synthetic(tmp_path, count=2).outfit(1), whole)
    assert path.read_bytes() == data


@pytest.mark.parametrize("text", ["[]", "null", '{"format": 1}', '{"format": 1, "key": 3, "files": []}'])
def test_an_index_that_is_none_is_written_again(tmp_path: Path, text: str) -> None:
    synthetic(tmp_path, count=2)
    (path,) = tmp_path.glob("*/store.json")
    path.write_text(text)
    assert len(synthetic(tmp_path, count=2)) == 2
    assert json.loads(path.read_text())["names"]


def test_an_index_of_another_key_is_not_taken(tmp_path: Path) -> None:
    synthetic(tmp_path, count=2)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    other = synthetic(tmp_path, count=2, seed=1).outfit(0)
    (second,) = (path for path in tmp_path.iterdir() if path.is_dir() and path != folder)
    shutil.rmtree(second)
    shutil.copytree(folder, second)  # a store that someone renamed
    assert same(synthetic(tmp_path, count=2, seed=1).outfit(0), other)


# Several processes, and trouble


def test_processes_that_come_at_once_build_one_store(tmp_path: Path) -> None:
    running = [start(tmp_path) for _ in range(3)]
    answers = [process.communicate(timeout=100) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], answers
    lengths, built, sums = zip(*(out.split() for out, _ in answers), strict=True)
    assert set(lengths) == {str(COUNT)}
    assert sorted(built) == ["0", "0", str(COUNT)]
    assert len(set(sums)) == 1
    assert not list(tmp_path.glob(".*"))


def test_a_killed_build_leaves_nothing_that_lasts(tmp_path: Path) -> None:
    process = start(tmp_path, die_at=5)
    process.communicate(timeout=100)
    assert process.returncode == 9
    assert list(tmp_path.glob(".*.partial"))
    assert same(synthetic(tmp_path).outfit(3), SyntheticOutfits(COUNT, SIZE, 0, "train")[3])
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    process = start(tmp_path, largest_file=50_000)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 1
    assert said.startswith(f"ConfigError: Cannot keep decoded outfits in {tmp_path} (File too large): make room there")
    assert said.count("\n") == 1
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


def test_a_cache_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"Cannot keep decoded outfits in .*file/deep .*set data\.cache to a folder"):
        synthetic(tmp_path / "file/deep", count=2)


def test_outfits_that_cannot_be_used_are_left_out_and_counted(own: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(own, tmp_path / "set"))
    for number in (0, 4):
        (root / f"train/{number}/lower.png").write_bytes(b"no picture")
    config = DataConfig(name="folder", root=str(root), cache=str(tmp_path / "cache"))
    store = open_store(config, SIZE, "train", 0)
    assert store.names == tuple(f"train/{number}" for number in range(10) if number not in (0, 4))
    (note,) = store.notes
    assert note.startswith("2 outfits cannot be used and are left out; the first: ")
    assert "train/0/lower.png" in note
    for folder in (root / "train").iterdir():
        (folder / "lower.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"None of the 10 outfits can be used; the first: .*train/0/lower\.png"):
        open_store(config, SIZE, "train", 0)
    assert sum(path.is_dir() for path in (tmp_path / "cache").iterdir()) == 1


def test_the_sources_notes_are_kept(own: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(own, tmp_path / "set"))
    (root / "train/3/bag.png").unlink()
    config = DataConfig(name="folder", root=str(root), cache=str(tmp_path / "cache"))
    for _ in range(2):
        assert open_store(config, SIZE, "train", 0).notes == FolderOutfits(root, SIZE, "train").notes != ()


def test_the_cache_is_the_users_own_unless_the_config_says_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder(DataConfig()) == tmp_path / "outfitgan/data"
    assert cache_folder(DataConfig(cache="elsewhere")) == Path("elsewhere")
    open_store(DataConfig(count=2), SIZE, "train", 0)
    assert list((tmp_path / "outfitgan/data").glob("*/store.json"))
