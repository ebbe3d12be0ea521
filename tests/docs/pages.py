"""What the tests of pages share: their shell blocks, and a shell to run them in."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SETUP = ("make demo", "make test")  # what a person types first; the demo has a test of its own
CONTINUED = ("docs/edge.md", "docs/quantisation.md", "docs/tensorrt.md")
"""Pages whose commands go on in the folder that the README's leave."""
PAGES = sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))
_BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n)?```bash\n(.*?)```", re.DOTALL)


def blocks(page: str) -> list[str]:
    found = _BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
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
