"""From a run's FP16 graphs to a repository of plans by the command line, over a simulated TensorRT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from simulation import simulated
from small_graphs import small_run
from typer.testing import CliRunner

from cli.main import app
from engines.engine_folder import find_engines
from engines.engine_store import EngineStore
from engines.manifest import Profile, read_manifest
from outfitgan.errors import EngineError, GraphError
from outfitgan.run_folder import RunFolder
from serving.repository.assemble import assemble
from serving.repository.pbtxt import parse
from serving.run_pipeline import exported_graphs, run_engines

FP16 = ("--runtime", "tensorrt", "--precision", "fp16")


@pytest.fixture(scope="module")
def gpu() -> Iterator[SimpleNamespace]:
    with simulated() as modules:
        yield modules
        assert modules.cuda.depth() == 0
        assert not modules.cuda.ALLOCATED


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was exported in FP16 alone."""
    return small_run(tmp_path_factory.mktemp("run"), "fp16")


def outfitgan(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def built(run: RunFolder, gpu: SimpleNamespace) -> RunFolder:
    said = outfitgan("build", "--run", run.path, *FP16, "--set", "refittable=true", "--set", "hardware=ampere_plus")
    assert "Built 10 tensorrt fp16 engines" in said
    return run


def test_the_options_are_kept_for_later_verbs(built: RunFolder) -> None:
    text = (built.engines / "tensorrt.toml").read_text()
    assert 'hardware = "ampere_plus"' in text
    assert "refittable = true" in text
    assert "optimization_level = 3" in text
    engines = run_engines(built, "tensorrt", "fp16")
    assert all(read_manifest(folder).options["refittable"] for folder in engines.values())
    before = sorted(built.engines.iterdir())
    outfitgan("build", "--run", built.path, *FP16)
    assert sorted(built.engines.iterdir()) == before


def test_a_repository_of_plans(built: RunFolder, tmp_path: Path) -> None:
    said = outfitgan("assemble", "--run", built.path, *FP16, "--output", tmp_path / "repository")
    assert "repository; NVIDIA's Triton Inference Server, which has TensorRT, serves it" in " ".join(said.split())
    assert "outfitgan serve" not in said  # whose server has none
    version = tmp_path / "repository" / "generator_bag" / "1"
    assert {path.name for path in version.iterdir()} == {"model.plan", "manifest.json"}
    engine = run_engines(built, "tensorrt", "fp16")["generator_bag"]
    assert (version / "model.plan").read_bytes() == (engine / "model.plan").read_bytes()
    config = parse((version.parent / "config.pbtxt").read_text())
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    assert config.max_batch_size == read_manifest(engine).profile.max_batch
    assert not list((tmp_path / "repository").rglob("cpu.pbtxt"))


def test_other_precisions_want_other_graphs(built: RunFolder, gpu: SimpleNamespace) -> None:
    with pytest.raises(GraphError, match="no finished fp32 export"):
        run_engines(built, "tensorrt", "fp32")
    with pytest.raises(GraphError, match="no finished fp32 export"):
        run_engines(built, "openvino", "fp32")


def test_what_a_server_cannot_run_is_not_assembled(built: RunFolder, tmp_path: Path) -> None:
    model, engines = built.config().model, run_engines(built, "tensorrt", "fp16")
    graph = exported_graphs(built, "fp16")["collocation"]
    narrow = EngineStore(built.engines).build(graph, "tensorrt", "fp16", Profile(1, 1, 4))
    with pytest.raises(EngineError, match="is for batches of 1 to 4; a server sends 1 to 8: build it"):
        assemble(model, {**engines, "collocation": narrow}, tmp_path / "a")
    for folder in engines.values():
        manifest = (folder / "manifest.json").read_text()
        copy = tmp_path / "engines" / folder.name
        copy.mkdir(parents=True)
        (copy / "model.plan").write_bytes((folder / "model.plan").read_bytes())
        (copy / "manifest.json").write_text(manifest.replace('"runtime": "tensorrt"', '"runtime": "onnxruntime-cuda"'))
    foreign = {name: tmp_path / "engines" / folder.name for name, folder in engines.items()}
    with pytest.raises(
        EngineError, match="serves engines for tensorrt, tensorrt-rtx, onnxruntime, openvino, not for onnxruntime-cuda"
    ):
        assemble(model, foreign, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_an_outfit_in_this_process(built: RunFolder, tmp_path: Path) -> None:
    outfitgan("data", "write", "--output", tmp_path / "examples", "--size", 64, "--count", 1)
    item = tmp_path / "examples" / "000"
    masks = [f"--mask={kind}={item / f'{kind}_mask.png'}" for kind in ("bag", "lower", "shoes")]
    outfitgan(
        *("generate", "--run", built.path, *FP16, "--source", item / "upper.png"), *masks, "--output", tmp_path / "out"
    )
    assert (tmp_path / "out" / "outfit.png").is_file()


@pytest.fixture(scope="module")
def two_gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunFolder, RunFolder]]:
    """The same run built on two GPUs, as in a process each: one builds for one GPU. This process has the first."""
    here, there = (small_run(tmp_path_factory.mktemp(name), "fp16") for name in ("here", "there"))
    with simulated() as orin:
        orin.cuda.NAME, orin.cuda.CAPABILITY = "Orin", (8, 7)
        outfitgan("build", "--run", there.path, *FP16)
    with simulated():
        outfitgan("build", "--run", here.path, *FP16)
        yield here, there


def test_plans_for_two_gpus_in_one_repository(two_gpus: tuple[RunFolder, RunFolder], tmp_path: Path) -> None:
    here, there = two_gpus
    options = ("--also", there.engines, "--instances", 2, "--cuda-graph", 1, "--server-tensorrt", "11.4.0")
    outfitgan("assemble", "--run", here.path, *FP16, *options, "--output", tmp_path / "repository")
    folders = run_engines(here, "tensorrt", "fp16"), find_engines(there.engines)
    for name in folders[0]:
        version = tmp_path / "repository" / name / "1"
        names = {"model.plan", "manifest.json", "model.sm87.plan", "manifest.sm87.json"}
        assert {path.name for path in version.iterdir()} == names
        for found, part in zip(folders, ("", ".sm87"), strict=True):
            assert (version / f"model{part}.plan").read_bytes() == (found[name] / "model.plan").read_bytes()
            assert (version / f"manifest{part}.json").read_bytes() == (found[name] / "manifest.json").read_bytes()
        config = parse((version.parent / "config.pbtxt").read_text())
        assert dict(config.cc_model_filenames) == {"9.0": "model.plan", "8.7": "model.sm87.plan"}
        assert config.instance_group[0].count == 2
        assert [spec.batch_size for spec in config.optimization.cuda.graph_spec] == [1]
        assert config.parameters["tensorrt_version"].string_value == "11.4.0"
        assert config.parameters["built_on"].string_value == "Simulated GPU, Orin"


def test_a_gpu_without_all_plans_is_not_served(two_gpus: tuple[RunFolder, RunFolder], tmp_path: Path) -> None:
    here, there = two_gpus
    model, engines, others = here.config().model, run_engines(here, "tensorrt", "fp16"), find_engines(there.engines)
    unmasked = {name: folder for name, folder in others.items() if not name.startswith("mask_generator")}
    with pytest.raises(EngineError, match=r"^mask_generator_bag, .* has no plan for every GPU"):
        assemble(model, engines, tmp_path / "repository", also=[unmasked])
    unscored = {name: folder for name, folder in others.items() if name != "collocation"}
    with pytest.raises(GraphError, match="This model's collocation is missing"):
        assemble(model, engines, tmp_path / "repository", also=[unscored])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--server-tensorrt", "10.15.0.1"], "which 10.15.0.1 does not run"),
        (["--also", "{here}"], "Simulated GPU and Simulated GPU both have 9.0"),
        (["--also", "nowhere"], "There is no folder nowhere"),
    ],
)
def test_plans_that_one_server_cannot_run_are_not_assembled(
    two_gpus: tuple[RunFolder, RunFolder], options: list[str], message: str
) -> None:
    run, _ = two_gpus
    given = [option.format(here=run.engines) for option in options]
    result = CliRunner().invoke(app, ["assemble", "--run", str(run.path), *FP16, *given])
    assert isinstance(result.exception, EngineError)
    assert message in str(result.exception)
    assert not run.repository.exists()
