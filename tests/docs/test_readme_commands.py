"""Every shell block of the README, and of the pages that go on from it, runs as it stands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pages import CONTINUED, ROOT, blocks, free_ports, run


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the README's commands leave, in which other pages go on."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("bench", "triton_repo"):
        (folder / name).symlink_to(ROOT / name)
    script = "set -eu\n" + "\n".join(blocks("README.md"))
    for written, free in zip(("8000", "8001", "8002"), free_ports(3), strict=True):
        script = script.replace(written, str(free))
    assert "outfitgan serve" in script
    run(script, folder)
    return folder


@pytest.mark.server
def test_every_block_runs(first_run: Path) -> None:
    for made in ("outfit/outfit.png", "served/outfit.png", "shoes/shoes.png", "runs/first/bench.json"):
        assert (first_run / made).is_file(), f"the README's commands left no {made}"
    assert (first_run / "outfit/bag.png").read_bytes() == (first_run / "served/bag.png").read_bytes()


@pytest.mark.server
@pytest.mark.parametrize("page", CONTINUED)
def test_every_block_of_a_page_that_goes_on_from_the_readme_runs(first_run: Path, tmp_path: Path, page: str) -> None:
    """Each in a copy, so that no page needs another."""
    shutil.copytree(first_run, tmp_path, dirs_exist_ok=True, symlinks=True)
    run("set -eu\n" + "\n".join(blocks(page)), tmp_path)
    if page == "docs/quantisation.md":
        sidecar = json.loads((tmp_path / "runs/first/graphs/generator_bag.int8.json").read_text())
        assert sidecar["calibration"]["count"] == 8  # as the page's --calibrate


def test_pages_that_go_on_from_the_readme_say_so() -> None:
    for page in CONTINUED:
        assert "goes on from the [README](../README.md#step-by-step)'s first run" in (ROOT / page).read_text("utf-8")
