"""The fused kernel on a real GPU: compiled, tuned and held against FP64 there. Not run by us yet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu.py"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="This needs an NVIDIA GPU and torch's CUDA build.")
def test_the_kernel_is_right_on_this_gpu(tmp_path: Path) -> None:
    """In a process of its own, since the tests of the op interpret the kernel in this one."""
    output = tmp_path / "check.json"
    surrounding = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, SCRIPT, "check", "--output", output]
    done = subprocess.run(command, env=surrounding, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(row["passed"] for row in json.loads(output.read_text())["checked"])
