"""Small real engines of both CPU targets, a repository of them, and one real server for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_graphs import small_graphs

from engines.store import EngineStore
from export.exported import ExportedGraph, graph_path
from export.graphs import run_contracts
from outfitgan.config import ModelConfig, load_preset, override
from outfitgan.files import sha256_of
from serving.repository import assemble
from serving.server import TritonServer

SIZE = 64


@pytest.fixture(scope="session")
def model() -> ModelConfig:
    return override(load_preset("tiny"), {"model.image_size": SIZE}).model


@pytest.fixture(scope="session")
def engines(model: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """Target -> graph name -> engine folder."""
    root = tmp_path_factory.mktemp("engines")
    exported = [_exported(name, graph, model, root) for name, graph in small_graphs(model).items()]
    store = EngineStore(root / "store")
    return {
        target: {graph.name: store.build(graph, target, "fp32") for graph in exported}
        for target in ("onnxruntime", "openvino")
    }


def _exported(name: str, graph: onnx.ModelProto, model: ModelConfig, folder: Path) -> ExportedGraph:
    path = graph_path(folder, name, "fp32")
    onnx.save(graph, path)
    digest = sha256_of(path)
    return ExportedGraph(path, run_contracts(model)[name], "fp32", digest, digest, {}, {"onnx": onnx.__version__})


@pytest.fixture(scope="session")
def repository(
    model: ModelConfig, engines: dict[str, dict[str, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return assemble(model, engines["openvino"], tmp_path_factory.mktemp("openvino") / "repository", threads=1)


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    with TritonServer(repository, log=tmp_path_factory.mktemp("server") / "server.log") as running:
        yield running


@pytest.fixture
def source() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros((SIZE, SIZE, 1), np.uint8)
    mask[16:48, 20:44] = 255
    return mask
