"""Compile kernels in a process of its own: in one that has collected tests/ops, the kernel language is interpreted."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest

from outfitgan.ops.correlate import ahead_of_time
from outfitgan.ops.correlate.compiled_kernel import CompiledKernel


@contextmanager
def compiled_apart() -> Iterator[None]:
    """Let `compile_ptx` do its work in the other process for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ahead_of_time, "compile_ptx", _asked_for)
        yield


def _asked_for(*asked: Any, **named: Any) -> CompiledKernel:
    return _process().submit(_ptx, asked, named).result()


@cache
def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def _ptx(asked: tuple[Any, ...], named: dict[str, Any]) -> CompiledKernel:
    return ahead_of_time.compile_ptx(*asked, **named)
