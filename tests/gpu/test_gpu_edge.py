"""A run on a real GPU from its graphs to the edge program and a repository: `pytest tests/gpu`. Not run by us yet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_gpu_tensorrt import MISSING
from typer.testing import CliRunner

from outfitgan.cli import app
from outfitgan.config import load_preset
from outfitgan.training.runs import Run
from outfitgan.training.untrained import save_untrained
from serving.pbtxt import parse

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"This needs TensorRT and an NVIDIA GPU. Missing: {MISSING}")

FP16 = ("--target", "tensorrt", "--precision", "fp16")
WITHOUT = """
import runpy, sys
class Box:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "triton", "pydantic", "typer", "rich", "onnxscript"):
            raise ModuleNotFoundError(f"a box has no {name}", name=name)
sys.meta_path.insert(0, Box())
sys.argv[0] = "edge"
runpy.run_module("serving.edge", run_name="__main__", alter_sys=True)
"""


def outfitgan(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained run's plans."""
    folder = tmp_path_factory.mktemp("gpu") / "run"
    save_untrained(Run.create(folder, load_preset("tiny")))
    outfitgan("export", "--run", folder, "--precision", "fp16")
    outfitgan("build", "--run", folder, *FP16)
    return folder


def test_the_edge_program_makes_what_generate_makes(run: Path, tmp_path: Path) -> None:
    outfitgan("data", "write", "--output", tmp_path / "examples", "--size", 64, "--count", 1)
    item = tmp_path / "examples" / "000"
    masks = [f"--mask={kind}={item / f'{kind}_mask.png'}" for kind in ("bag", "lower", "shoes")]
    options = ["--source", item / "upper.png", *masks]
    outfitgan("generate", "--run", run, *FP16, *options, "--output", tmp_path / "here")
    command = [sys.executable, "-c", WITHOUT, "--engines", run / "engines", *options, "--output", tmp_path / "edge"]
    done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for made in (tmp_path / "here").glob("*.png"):
        assert made.read_bytes() == (tmp_path / "edge" / made.name).read_bytes()
    assert json.loads((tmp_path / "edge" / "result.json").read_text())["compatibility"] is not None


def test_a_repository_says_what_its_plans_are_of(run: Path, tmp_path: Path) -> None:
    import tensorrt

    server = ("--server-tensorrt", tensorrt.__version__, "--cuda-graph", 1)
    outfitgan("assemble", "--run", run, *FP16, *server, "--output", tmp_path / "repository")
    for config in (tmp_path / "repository").glob("generator_*/config.pbtxt"):
        parsed = parse(config.read_text(encoding="utf-8"))
        assert parsed.parameters["tensorrt_version"].string_value == tensorrt.__version__
        assert (config.parent / "1" / parsed.default_model_filename).is_file()
