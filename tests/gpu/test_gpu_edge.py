"""A run on a real GPU from its graphs to the edge program and a repository: `pytest tests/gpu`. Not run by us yet."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from test_gpu_tensorrt import MISSING
from typer.testing import CliRunner

from cli.main import app
from outfitgan.config import load_preset
from outfitgan.errors import ServerError
from outfitgan.items import ItemKind
from outfitgan.run_folder import RunFolder
from outfitgan.training.runs import Run
from outfitgan.training.untrained import save_untrained
from serving.client.outfit_client import OutfitClient
from serving.repository.pbtxt import parse
from serving.run_pipeline import run_pipeline

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"This needs TensorRT and an NVIDIA GPU. Missing: {MISSING}")

FP16 = ("--runtime", "tensorrt", "--precision", "fp16")
BOX = """
import runpy, sys
WITHOUT = ("torch", "triton", "pydantic", "typer", "rich", "onnxscript", "onnx", "onnxruntime")
class Box:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in WITHOUT:
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
    command = [sys.executable, "-c", BOX, "--engines", run / "engines", *options, "--output", tmp_path / "edge"]
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


def nvidias_server() -> str:
    """Return the path of a tritonserver that has the tensorrt backend; skip where there is none."""
    program = shutil.which("tritonserver") or "/opt/tritonserver/bin/tritonserver"
    backends = Path(program).resolve().parents[1] / "backends"
    if not Path(program).is_file() or not all((backends / name).is_dir() for name in ("tensorrt", "python")):
        pytest.skip("This needs NVIDIA's tritonserver with its tensorrt and python backends, as in its container.")
    return program


@contextmanager
def served(repository: Path, log: Path) -> Iterator[OutfitClient]:
    """A client of NVIDIA's server over a repository, whose Python steps find this checkout."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        http, grpc, metrics = (listener.getsockname()[1] for listener in sockets)
    ports = [f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}"]
    command = [nvidias_server(), f"--model-repository={repository}", "--http-address=127.0.0.1", *ports]
    surrounding = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with (
        log.open("wb") as stream,
        subprocess.Popen(command, env=surrounding, stdout=stream, stderr=subprocess.STDOUT) as server,
    ):
        try:
            with OutfitClient(f"127.0.0.1:{grpc}") as client:
                try:
                    client.wait_until_ready(300)
                except ServerError as error:
                    pytest.fail(f"{error}\n{log.read_text(errors='replace')[-4000:]}")
                yield client
        finally:
            server.terminate()


@pytest.mark.parametrize("options", [(), ("--cuda-graph", 1)], ids=["plain", "cuda-graph"])
def test_nvidias_server_makes_what_the_plans_make_here(options: tuple[object, ...], run: Path, tmp_path: Path) -> None:
    """The plugin's kernel runs in a server that has neither Python in its engines nor a plugin library."""
    pytest.importorskip("tritonclient.grpc", reason="The client, of the extra [serve], is not here.")
    nvidias_server()
    import tensorrt

    given = (*FP16, "--server-tensorrt", tensorrt.__version__, *options)
    outfitgan("assemble", "--run", run, *given, "--output", tmp_path / "repository")
    rng, kinds = np.random.default_rng(3), (ItemKind.BAG, ItemKind.LOWER, ItemKind.SHOES)
    source = rng.integers(0, 256, (64, 64, 3), np.uint8)
    masks = {kind: (rng.random((64, 64, 1)) > 0.5).astype(np.uint8) * 255 for kind in kinds}
    with run_pipeline(RunFolder(run), "tensorrt", "fp16") as pipeline:
        expected = pipeline.generate(source, masks, kinds)
    with served(tmp_path / "repository", tmp_path / "server.log") as client:
        made = client.generate(source, masks, kinds)
    assert made.compatibility == pytest.approx(expected.compatibility, abs=1e-2)
    for kind in kinds:
        assert np.abs(made.images[kind].astype(int) - expected.images[kind]).max() <= 1
