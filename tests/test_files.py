"""Files and folders are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outfitgan.files import atomic_write, partial_file, partial_folder

STAGES = {"collocation": 24, "outfit": 24}


def fail_in_file(path: Path) -> None:
    with partial_file(path) as partial:
        partial.write_bytes(b"half")
        raise ZeroDivisionError


def fail_in_folder(path: Path) -> None:
    with partial_folder(path) as partial:
        (partial / "half").write_text("")
        raise ZeroDivisionError


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    atomic_write(path, b"one")
    with partial_file(path) as partial:
        partial.write_bytes(b"two")
        assert path.read_bytes() == b"one"
    assert path.read_bytes() == b"two"
    for target in (path, path.with_name("new.txt")):
        with pytest.raises(ZeroDivisionError):
            fail_in_file(target)
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder"
    for name in ("first", "second"):
        with partial_folder(path) as partial:
            (partial / name).write_text(name)
            assert partial.parent == path.parent  # one file system, so that the rename is one step
        assert [entry.name for entry in path.iterdir()] == [name]
    for target in (path, path.with_name("new")):
        with pytest.raises(ZeroDivisionError):
            fail_in_folder(target)
    assert [entry.name for entry in path.parent.iterdir()] == ["folder"]
    assert (path / "second").read_text() == "second"


def test_two_writers_of_one_file_do_not_share_a_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with partial_file(path) as first, partial_file(path) as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert path.read_bytes() == b"first"  # left last
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("mask", [0o002, 0o077])
def test_permissions_follow_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        atomic_write(tmp_path / "file", b"")
        with partial_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~mask


def test_a_folder_that_cannot_be_replaced_is_put_back(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("")
    with pytest.raises(FileNotFoundError), partial_folder(path) as partial:
        partial.rmdir()  # so that there is nothing to rename
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
    assert (path / "old").exists()


def test_a_folder_is_kept_where_its_owner_says_so(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for keep, name in ((False, "first"), (True, "second")):
        with partial_folder(path, keep=lambda keep=keep: keep) as partial:
            (partial / name).write_text("")
    assert [entry.name for entry in path.iterdir()] == ["first"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_folder_never_replaces_a_file_or_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("years of work")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(NotADirectoryError), partial_folder(tmp_path / name):
            pass
    assert (tmp_path / "file").read_text() == "years of work"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "link"]
