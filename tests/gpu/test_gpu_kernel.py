"""The fused kernel on a real GPU: compiled, tuned and held against FP64 there. Not run by us yet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent
SCRIPT = HERE.parents[1] / "bench" / "gpu.py"

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="This needs an NVIDIA GPU and torch's CUDA build."
)


def run(*command: object) -> str:
    """Run Python in a process of its own, since the tests of the op interpret the kernel in this one."""
    surrounding = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    arguments = [sys.executable, *map(str, command)]
    done = subprocess.run(arguments, env=surrounding, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("preset", ["small", "paper"])
def test_the_kernel_is_right_and_timed_on_this_gpu(preset: str, tmp_path: Path) -> None:
    output = tmp_path / "all.json"
    run(SCRIPT, "all", "--preset", preset, "--repeats", 3, "--output", output)
    written: dict[str, Any] = json.loads(output.read_text())
    assert all(row["passed"] for row in written["check"]["checked"])
    assert min(row["ms"] for row in written["tune"]["times"]) > 0
    assert written["tune"]["best"] in [row["tiles"] for row in written["tune"]["times"]]
    assert {row["name"] for row in written["time"]["rows"]} == {"fused kernel", "sdpa", "unfused reference"}
    assert all(0 < row["share"] <= 1.1 for row in written["time"]["rows"])  # the ceiling is measured too


@pytest.mark.parametrize("verb", ["tune", "time"])
def test_each_verb_runs_by_itself(verb: str, tmp_path: Path) -> None:
    run(SCRIPT, verb, "--repeats", 1, "--batch", 2, "--output", tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text())["batch"] == 2


def test_a_generator_in_torch_takes_the_kernel_unasked() -> None:
    report = json.loads(run(HERE / "torch_on_device.py", "cuda").splitlines()[-1])
    assert report["operators"] == ["outfitgan.correlate.default"]
    assert report["error"] < 1e-2
