"""Whole files or none: written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import hashlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def atomic_write(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial_file(path) as partial:
        partial.write_bytes(data)


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, remove it on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def partial_folder(path: Path, keep: Callable[[], bool] | None = None) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it replaces `path` on success and is removed on failure.

    `keep` is called once the new folder is complete: if it returns True, what lies at `path` by then stays.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    partial.mkdir()
    try:
        yield partial
        if keep is None or not keep():
            _swap(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    """Rename `new` to `path`; what was there is moved aside first and removed last, so that no failure loses it."""
    old = _beside(path)
    try:
        path.rename(old)
    except FileNotFoundError:
        new.rename(path)
        return
    try:
        new.rename(path)
    except BaseException:
        with suppress(OSError):  # another process may have put a folder there: the error that counts is the first
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path) -> Path:
    """Return a name that no other call takes, in the same folder so that a rename is one step.

    Nothing is made there yet: whoever makes it gets the permissions of the umask, which tempfile's would not have.
    """
    return path.parent / f".{path.name}.{secrets.token_hex(6)}.partial"
