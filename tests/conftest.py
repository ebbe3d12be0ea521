from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest
import torch

LONGEST = (
    *("end_to_end", "export", "tests/docs/test_readme_commands.py", "engines", "training", "ops"),
    *("tests/docs/test_page_commands.py", "experiments", "networks", "serving", "evaluation", "data"),
)
"""What takes longest, in this order, so that no process is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    order = {group: number for number, group in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(group_of(item.nodeid).partition("::")[0], len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes (`--dist loadscope`) give each whole folders.

    Runs, exports, engines and servers that a folder's tests share are then made once.
    """
    from xdist.scheduler import LoadScopeScheduling

    class FolderScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return FolderScheduling(config, log) if config.getvalue("dist") == "loadscope" else None


def group_of(nodeid: str) -> str:
    """Return a test's folder; of docs/, whose pages share nothing, its file or the test itself."""
    file, *_ = nodeid.split("::")
    if file == "tests/docs/test_page_commands.py":
        return nodeid
    folder = PurePosixPath(file).parts[1]
    return file if folder == "docs" else folder


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded outfits go to a folder of the session's, not to the person's cache."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """What torch does in this process, and in those it starts, takes one core: the tests beside it need the others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)
