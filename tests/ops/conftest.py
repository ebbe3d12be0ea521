"""The kernel language runs interpreted in this folder: on the CPU, without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

_INTERPRET = "TRITON_INTERPRET"


@pytest.fixture(autouse=True, scope="module")
def interpreter() -> Iterator[None]:
    """Interpret during this folder's tests, and leave no trace for processes that other tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_INTERPRET, "1")
        yield


# Whether functions are compiled or interpreted is settled where they are defined: at the first import.
with pytest.MonkeyPatch.context() as _patch:
    _patch.setenv(_INTERPRET, "1")
    import outfitgan.ops.correlate.kernel  # noqa: F401
