"""Every shell block of the README and of docs/ runs as it stands, a page in order, in one folder."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETUP = ("make demo", "make test")  # what a person types first; the demo has a test of its own
PAGES = sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md") if page.name != "kernel.md")
BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n)?```bash\n(.*?)```", re.DOTALL)


def blocks(page: str) -> list[str]:
    found = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    return [body for marked, body in found if not marked and not body.startswith(SETUP)]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def run(script: str, folder: Path) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.server
def test_every_block_runs(tmp_path: Path) -> None:
    for name in ("bench", "triton_repo"):
        (tmp_path / name).symlink_to(ROOT / name)
    script = "set -eu\n" + "\n".join(blocks("README.md"))
    for written, free in zip(("8000", "8001", "8002"), free_ports(3), strict=True):
        script = script.replace(written, str(free))
    assert "outfitgan serve" in script
    run(script, tmp_path)
    for made in ("outfit/outfit.png", "served/outfit.png", "shoes/shoes.png", "runs/first/bench.json"):
        assert (tmp_path / made).is_file(), f"the README's commands left no {made}"
    assert (tmp_path / "outfit/bag.png").read_bytes() == (tmp_path / "served/bag.png").read_bytes()


@pytest.mark.parametrize("page", PAGES)
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


def test_verbs_of_the_table_are_the_verbs_there_are() -> None:
    listed = re.findall(r"^\| `outfitgan ([\w-]+)`", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    helped = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert listed
    assert sorted(listed) == sorted(re.findall(r"^│ (\w[\w-]*) ", helped, re.MULTILINE))


@pytest.mark.parametrize("page", ["README.md", "docs/kernel.md", *PAGES])
def test_files_that_a_page_links_exist(page: str) -> None:
    links = re.findall(r"\]\(([^):]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    assert links or page != "README.md"
    assert not [link for link in links if not ((ROOT / page).parent / link).exists()]
