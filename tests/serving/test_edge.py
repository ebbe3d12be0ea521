"""The edge program over real engines: what it writes, what it imports, what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from simulation import FOLDER as SIMULATED
from simulation import simulated
from small_graphs import small_run
from typer.testing import CliRunner

from cli.main import app
from engines.manifest import read_manifest
from outfitgan.run_folder import RunFolder
from serving.edge import main

ROOT = Path(__file__).parents[2]
OURS = ("engines", "export", "outfitgan", "serving")
NEEDS = {
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt", "pycuda", "onnx", "onnxruntime", "google", "ml_dtypes", "typing_extensions"),
}
"""What a runtime imports; the simulated TensorRT computes with onnxruntime, on an onnx file."""
BARE = """
import runpy, sys, sysconfig
allowed = set(sys.argv.pop(1).split(","))
class Bare:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"a bare box has no {name}", name=name)
sys.meta_path.insert(0, Bare())
sys.argv[0] = "edge"
runpy.run_module("serving.edge", run_name="__main__", alter_sys=True)
"""
"""The program where nothing but what `allowed` names can be imported."""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Edge = Callable[..., Answer]


@pytest.fixture
def edge(capsys: pytest.CaptureFixture[str]) -> Edge:
    """The program in this process."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(str(stop.code))
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return call


def bare(runtime: str, *arguments: object, path: Path = ROOT) -> Answer:
    """The program in a process of its own, which has the packages of `runtime` and no others."""
    command = [sys.executable, "-c", BARE, ",".join(("numpy", "PIL", *OURS, *NEEDS[runtime])), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{path}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=environment)
    return Answer(done.returncode, done.stdout, done.stderr)


def outfitgan(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with engines of both CPU runtimes, mask generators among them."""
    folder = small_run(tmp_path_factory.mktemp("run"), "fp32")
    for runtime in ("onnxruntime", "openvino"):
        outfitgan("build", "--run", folder.path, "--runtime", runtime)
    return folder


@pytest.fixture(scope="module")
def gpu() -> Iterator[None]:
    with simulated():
        yield


@pytest.fixture(scope="module")
def plans(gpu: None, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with plans of the simulated TensorRT."""
    folder = small_run(tmp_path_factory.mktemp("plans"), "fp16")
    outfitgan("build", "--run", folder.path, "--runtime", "tensorrt", "--precision", "fp16")
    return folder


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory, silhouettes: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(silhouettes).resize((80, 60)).save(path)
    return path


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    levels = np.zeros((64, 64), np.uint8)
    levels[10:50, 14:52] = 255
    path = tmp_path_factory.mktemp("mask") / "mask.png"
    Image.fromarray(levels).save(path)
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, but the time it took."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = json.loads(files["result.json"])
    assert result.pop("seconds") >= 0
    return files | {"result.json": json.dumps(result).encode()}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("masks", [["bag", "lower", "shoes"], ["shoes"], []], ids=["all", "one", "generated"])
def test_every_byte_is_that_of_the_run_in_process(
    run: RunFolder, edge: Edge, photo: Path, mask: Path, tmp_path: Path, runtime: str, masks: list[str]
) -> None:
    options = ["--source", photo, "--runtime", runtime, "--threads", 1, *(f"--mask={kind}={mask}" for kind in masks)]
    said = outfitgan("generate", "--run", run.path, *options, "--output", tmp_path / "here")
    answer = edge("--engines", run.engines, *options, "--output", tmp_path / "edge")
    assert (answer.code, files_of(tmp_path / "edge")) == (0, files_of(tmp_path / "here"))
    made = ", ".join(masks or ["bag", "lower", "shoes"])
    for text in (said, answer.out):
        assert re.search(rf"^Made {made} in [\d.]+ s\..* Look at \S+/outfit\.png\.$", text, re.MULTILINE), text
    assert len(answer.out.splitlines()) == 1
    assert f"note: The image {photo} is 80x60: padded with white to a square.\n" in answer.err
    assert all(line.startswith("note: ") for line in answer.err.splitlines())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_box_that_has_nothing_else_makes_the_same(run: RunFolder, photo: Path, tmp_path: Path, runtime: str) -> None:
    copy = tmp_path / "box"
    for folder in run.engines.glob(f"*.{runtime}.*"):
        shutil.copytree(folder, copy / folder.name)
    options = ["--source", photo, "--threads", 1]
    outfitgan("generate", "--run", run.path, *options, "--runtime", runtime, "--output", tmp_path / "here")
    answer = bare(runtime, "--engines", copy, *options, "--output", tmp_path / "edge")
    assert answer.code == 0, answer.err
    assert files_of(tmp_path / "edge") == files_of(tmp_path / "here")


def test_roles_that_are_left_out_spare_their_engines(
    run: RunFolder, edge: Edge, photo: Path, mask: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "box"
    for folder in run.engines.glob("*.onnxruntime.*"):
        if not folder.name.startswith(("alignment", "mask_generator")):
            shutil.copytree(folder, copy / folder.name)
    options = ["--source", photo, *(f"--mask={kind}={mask}" for kind in ("bag", "lower", "shoes"))]
    assert edge("--engines", copy, *options, "--output", tmp_path / "less").code == 0
    whole = ["--engines", run.engines, "--runtime", "onnxruntime"]
    assert edge(*whole, *options, "--output", tmp_path / "whole").code == 0
    less, full = files_of(tmp_path / "less"), files_of(tmp_path / "whole")
    sheets = [Image.open(tmp_path / name / "outfit.png").height for name in ("less", "whole")]
    assert sheets[0] < sheets[1]
    assert {**less, "outfit.png": b""} == {**full, "outfit.png": b""}
    unmasked = edge("--engines", copy, "--source", photo, "--output", tmp_path / "none")
    assert (unmasked.code, "there are no mask generators here: add --mask KIND=FILE" in unmasked.err) == (2, True)


def test_plans_run_with_tensorrt_and_pycuda_alone(plans: RunFolder, photo: Path, tmp_path: Path) -> None:
    """The TensorRT is simulated: this shows what is imported and called, not that a plan runs."""
    options = ["--source", photo]
    fp16 = ("--runtime", "tensorrt", "--precision", "fp16")
    outfitgan("generate", "--run", plans.path, *options, *fp16, "--output", tmp_path / "here")
    answer = bare("tensorrt", "--engines", plans.engines, *options, "--output", tmp_path / "edge", path=SIMULATED)
    assert answer.code == 0, answer.err
    assert files_of(tmp_path / "edge") == files_of(tmp_path / "here")


def test_a_missing_package_is_named(run: RunFolder, photo: Path, tmp_path: Path) -> None:
    options = ["--engines", run.engines, "--runtime", "openvino", "--source", photo, "--output", tmp_path / "out"]
    answer = bare("onnxruntime", *options)
    assert answer.code == 2
    assert answer.err == (
        "error: The runtime openvino needs the package openvino, which is not installed; "
        "pip install 'outfitgan[cpu]'.\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "nowhere.png"], "There is no file nowhere.png"),
        (["--source", "{mask}", "--mask", "bag"], "--mask takes KIND=FILE or KIND=auto"),
        (["--source", "{mask}", "--mask", "hat={mask}"], "'hat' is not an item kind"),
        (["--source", "{mask}", "--mask", "upper={mask}"], "Made here are bag, lower, shoes, not upper"),
        (["--source", "{mask}", "--only", "shoes", "--mask", "bag={mask}"], "There is no mask for shoes"),
        (["--source", "{mask}", "--output", "{run}"], "holds something else than an outfit"),
        (["--source", "{mask}", "--engines", "{run}"], "holds no engine; name .*engines"),
        (["--source", "{mask}", "--engines", "nowhere"], "There is no folder nowhere"),
        (
            ["--source", "{mask}", "--precision", "int8"],
            "holds no onnxruntime int8 engine: it has onnxruntime fp32, op",
        ),
        (["--source", "{mask}", "--threads", "-1"], "Argument --threads: '-1' is not 0 or more; see --help"),
        (["--source", "{mask}", "--colour", "red"], "Unrecognized arguments: --colour red; see --help"),
        ([], "The following arguments are required: --source; see --help"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    run: RunFolder, edge: Edge, mask: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    given = ["--engines", run.engines, "--runtime", "onnxruntime", "--output", tmp_path / "out"]
    answer = edge(*given, *(option.format(mask=mask, run=run.path) for option in options))
    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1, answer.err
    assert re.match(f"error: .*{message}", answer.err), answer.err
    assert not (tmp_path / "out").exists()


def test_a_failure_half_way_leaves_nothing(run: RunFolder, edge: Edge, photo: Path, mask: Path, tmp_path: Path) -> None:
    copy = tmp_path / "box"
    for folder in run.engines.glob("*.onnxruntime.*"):
        shutil.copytree(folder, copy / folder.name)
    (collocation,) = copy.glob("collocation.*")
    (name,) = read_manifest(collocation).files
    with (collocation / name).open("ab") as stream:
        stream.write(b"\0")
    options = ["--engines", copy, "--source", photo, "--output", tmp_path / "out"]
    answer = edge(*options)
    assert (answer.code, answer.out) == (2, "")
    assert "was altered after the build (its SHA-256 differs)" in answer.err.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"box"}
    one = edge(*options, "--mask", f"bag={mask}")  # which is not scored: the engine is not opened
    assert one.code == 0, one.err


def test_the_old_name_of_an_option_works_with_a_note(
    run: RunFolder, edge: Edge, photo: Path, mask: Path, tmp_path: Path
) -> None:
    options = ["--source", photo, f"--mask=bag={mask}", "--output", tmp_path / "out"]
    answer = edge("--engines", run.engines, "--target", "onnxruntime", *options)
    assert answer.code == 0
    assert answer.err.splitlines()[0] == "note: --target is now called --runtime; the old name works for now."
