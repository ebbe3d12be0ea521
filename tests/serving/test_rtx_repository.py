"""From a run's FP16 graphs to a repository of plans of TensorRT for RTX, built here by the real builder.

Nothing runs them here. What `outfitgan verify` writes on a machine with a GPU is put into the manifests by hand.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_graphs import small_run
from tritonclient.grpc import model_config_pb2 as pb
from typer.testing import CliRunner

from cli.main import app
from engines.manifest import parse_manifest
from outfitgan.errors import ConfigError, EngineError, ServerError
from outfitgan.run_folder import RunFolder
from serving.repository.assemble import assemble
from serving.repository.gpu_config import GpuServing
from serving.repository.pbtxt import parse, render
from serving.repository.rtx_config import rtx_config
from serving.run_pipeline import run_engines
from serving.server.triton_server import TritonServer

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed; pip install 'outfitgan[rtx]'")

RTX = ("--runtime", "tensorrt-rtx", "--precision", "fp16")


def outfitgan(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = small_run(tmp_path_factory.mktemp("run"), "fp16")
    said = outfitgan("build", "--run", run.path, *RTX, "--set", "compute_capabilities=sm_89")
    assert "Built 10 tensorrt-rtx fp16 engines" in said
    assert "note: they have not run, for want of such a GPU here: 'outfitgan verify' measures them" in said
    return run


@pytest.fixture(scope="module")
def verified(built: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of the engines, as if they had been verified on an Ada GPU."""
    folders = {}
    for name, folder in run_engines(built, "tensorrt-rtx", "fp16").items():
        folders[name] = Path(shutil.copytree(folder, tmp_path_factory.mktemp("verified") / folder.name))
        rewrite(folders[name], verified=True, device={"name": "RTX 4090", "compute_capability": "8.9"})
    return folders


def rewrite(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_has_never_run_is_not_assembled(built: RunFolder, tmp_path: Path) -> None:
    engines = run_engines(built, "tensorrt-rtx", "fp16")
    with pytest.raises(
        EngineError, match="is not verified: it was built where it cannot run, or failed there; 'outfitgan verify "
    ):
        assemble(built.config().model, engines, tmp_path / "repository")
    assert not list(tmp_path.iterdir())


def test_a_repository(built: RunFolder, verified: dict[str, Path], tmp_path: Path) -> None:
    repository = assemble(built.config().model, verified, tmp_path / "repository", gpu=GpuServing(instances=2))
    assert not list(repository.glob("*/configs/cpu.pbtxt"))
    for name, folder in verified.items():
        config = parse((repository / name / "config.pbtxt").read_text())
        largest = 2 if name.startswith("alignment") else 8
        assert (config.backend, config.max_batch_size) == ("tensorrt_rtx", largest)
        (group,) = config.instance_group
        assert (group.kind, group.count, list(group.gpus)) == (pb.ModelInstanceGroup.KIND_GPU, 2, [0])
        assert [sample.batch_size for sample in config.model_warmup] == [1, largest]
        assert config.parameters["tensorrt_rtx_version"].string_value == parse_manifest(folder).versions["tensorrt_rtx"]
        assert config.parameters["verified_on"].string_value == "RTX 4090"
        for file in (*parse_manifest(folder).files, "manifest.json"):
            assert (repository / name / "1" / file).read_bytes() == (folder / file).read_bytes()


def test_what_only_tritons_own_backend_does_is_refused(
    built: RunFolder, verified: dict[str, Path], tmp_path: Path
) -> None:
    model = built.config().model
    for serving in (GpuServing(cuda_graphs=(1,)), GpuServing(tensorrt="10.15.1")):
        with pytest.raises(
            ConfigError, match="take no --cuda-graph and no --server-tensorrt: CUDA graphs are the build"
        ):
            assemble(model, verified, tmp_path / "repository", gpu=serving)
    with pytest.raises(EngineError, match=r"take no plans of other GPUs beside them \(--also\): one is for several"):
        assemble(model, verified, tmp_path / "repository", also=[verified])
    other = Path(shutil.copytree(verified["collocation"], tmp_path / "other"))
    rewrite(other, versions={"tensorrt_rtx": "1.6.0"})
    with pytest.raises(EngineError, match=r"One server has one TensorRT for RTX, and these plans are of 1\.6\.0, 1\.7"):
        assemble(model, {**verified, "collocation": other}, tmp_path / "repository")
    assert list(tmp_path.iterdir()) == [other]


def test_an_outfit_is_not_made_with_what_has_never_run(built: RunFolder, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    outfitgan("data", "write", "--output", tmp_path / "examples", "--size", 64, "--count", 1)
    shutil.copy(tmp_path / "examples" / "000" / "upper.png", photo)
    arguments = ["generate", "--run", built.path, *RTX, "--source", photo, "--output", tmp_path / "outfit"]
    masks = [f"--mask={kind}={tmp_path}/examples/000/{kind}_mask.png" for kind in ("bag", "lower", "shoes")]
    result = CliRunner().invoke(app, [str(argument) for argument in (*arguments, *masks)])
    assert isinstance(result.exception, EngineError)
    assert "is not verified: it was built where it cannot run, or failed there" in str(result.exception)
    assert not (tmp_path / "outfit").exists()


def test_engines_are_described(built: RunFolder) -> None:
    said = outfitgan("inspect", built.engines)
    assert said.count("tensorrt-rtx fp16") == 10
    assert "verified no ('outfitgan verify')" in said
    one = outfitgan("inspect", run_engines(built, "tensorrt-rtx", "fp16")["generator_bag"])
    assert "takes SOURCE uint8 64x64x3, MASK uint8 64x64x1" in one
    assert "kernel computes reads writes" in one


def test_a_machine_without_a_gpu_verifies_nothing(built: RunFolder) -> None:
    for path in (built.engines, run_engines(built, "tensorrt-rtx", "fp16")["collocation"]):
        result = CliRunner().invoke(app, ["verify", str(path)])
        assert isinstance(result.exception, EngineError)
        assert "cannot be verified here: " in str(result.exception)
    assert not any(parse_manifest(folder.parent).verified for folder in built.engines.glob("*/manifest.json"))


@pytest.mark.server
def test_the_real_server_runs_our_backend_and_tells_why_it_refuses(
    built: RunFolder, verified: dict[str, Path], tmp_path: Path
) -> None:
    """All but the place is the GPU's: this server has none, and the backend is asked to open the plan all the same."""
    config = rtx_config(parse_manifest(verified["collocation"]), GpuServing())
    config.instance_group[0].kind = pb.ModelInstanceGroup.KIND_CPU
    del config.instance_group[0].gpus[:]
    folder = tmp_path / "repository" / "collocation"
    engines = {"is not verified": run_engines(built, "tensorrt-rtx", "fp16"), "package pycuda": verified}
    for says, folders in engines.items():
        shutil.copytree(folders["collocation"], folder / "1", dirs_exist_ok=True)
        (folder / "config.pbtxt").write_text(render(config, "a stand-in"))
        log = tmp_path / "server.log"
        with pytest.raises(ServerError, match="collocation"), TritonServer(tmp_path / "repository", log=log):
            pass
        assert says in log.read_text()
