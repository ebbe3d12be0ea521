from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from cli_cases import QUICK, SIZE, Answer, Cli, outfitgan
from typer.testing import CliRunner

from cli.main import app, main
from export.exported import ExportedGraph, graph_path, save_index, save_sidecar
from outfitgan.config import load_preset, override, save_config
from outfitgan.files import sha256_of
from outfitgan.model_graphs import mask_contracts, run_contracts


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`outfitgan` in this process."""

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["outfitgan", *map(str, arguments)])
        capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return Answer(int(code), captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source and three masks that `data write` wrote."""
    output = tmp_path_factory.mktemp("data") / "examples"
    arguments = ["data", "write", "--output", str(output), "--count", "1", "--size", str(SIZE)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    return output / "000"


@pytest.fixture(scope="session")
def small_graphs() -> Any:
    """The serving tests' graphs: real ones that honour the contracts, with an answer that is known to the pixel."""
    return importlib.import_module("small_graphs")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, small_graphs: Any) -> Path:
    """A run with graphs, and with the engines that the `build` verb made of them."""
    run = tmp_path_factory.mktemp("runs") / "built"
    config = override(load_preset("tiny"), {"model.image_size": SIZE})
    save_config(config, run / "config.toml")
    (run / "graphs").mkdir()
    contracts = run_contracts(config.model) | mask_contracts(config.model)
    graphs: list[ExportedGraph] = []
    for name, graph in small_graphs.small_graphs(config.model).items():
        path = graph_path(run / "graphs", name, "fp32")
        onnx.save(graph, path)
        digest = sha256_of(path)
        graphs.append(ExportedGraph(path, contracts[name], "fp32", digest, digest, {}, {"onnx": onnx.__version__}))
        save_sidecar(graphs[-1])
    save_index(run / "graphs", "fp32", graphs, origin="")
    result = CliRunner().invoke(app, ["build", "--run", str(run), "--runtime", "onnxruntime"])
    assert result.exit_code == 0, result.output
    assert f"Built {len(contracts)} onnxruntime fp32 engines" in result.output
    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step each, trained by a process of its own."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    answer = outfitgan("train", "--run", run, *QUICK, "--source", "shoes", "--seed", 3, "--batch", 1)
    assert answer.code == 0, answer.err
    assert f"Trained: {run}/checkpoints" in answer.out
    return run
