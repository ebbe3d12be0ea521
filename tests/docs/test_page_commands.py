"""Every shell block of the other pages runs as it stands, a page in a folder of its own."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from pages import CONTINUED, PAGES, ROOT, blocks, run

OWN = [page for page in PAGES if page not in ("docs/kernel.md", *CONTINUED) and blocks(page)]


def test_pages_with_commands_are_found() -> None:
    assert {"docs/training.md", "docs/results.md"} <= {*OWN}


@pytest.mark.parametrize("page", OWN)
def test_every_block_of_a_page_runs(tmp_path: Path, page: str) -> None:
    (tmp_path / "bench").symlink_to(ROOT / "bench")
    run("set -eu\n" + "\n".join(blocks(page)), tmp_path)


def test_every_block_of_the_kernels_page_runs_and_prints_its_tables(tmp_path: Path) -> None:
    """Errors differ from CPU to CPU in their digits, so of the numerics table only what was tried is compared."""
    (tmp_path / "bench").symlink_to(ROOT / "bench")
    page = (ROOT / "docs" / "kernel.md").read_text(encoding="utf-8")
    printed = run("set -eu\n" + "\n".join(blocks("docs/kernel.md")), tmp_path).splitlines()
    tried = [line.split("|")[1:4] for line in printed if re.search(r"\|[^|]*e-\d\d \|", line)]
    assert len(tried) > 10
    assert [line.split("|")[1:4] for line in page.splitlines() if re.search(r"\|[^|]*e-\d\d \|", line)] == tried
    made = [line for line in printed if line.startswith("| sm_")]
    assert len(made) == 8
    if f"triton {version('triton')}" in page:  # another compiler takes other registers
        assert [line for line in made if line not in page.splitlines()] == []
    assert len(list(tmp_path.glob("kernels*/*.ptx"))) == len(list(tmp_path.glob("kernels*/*.json"))) == 8
