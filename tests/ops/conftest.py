"""The kernel language runs interpreted in this folder: on the CPU, without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

_INTERPRET = "TRITON_INTERPRET"


@pytest.fixture(autouse=True, scope="module")
def interpreter() -> Iterator[None]:
    """Interpret during this folder's tests, and leave no trace for processes that other tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_INTERPRET, "1")
        yield


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Whether functions are compiled or interpreted is settled where they are defined: at the first import.
with pytest.MonkeyPatch.context() as _patch:
    _patch.setenv(_INTERPRET, "1")
    import outfitgan.ops.correlate_kernel  # noqa: F401
