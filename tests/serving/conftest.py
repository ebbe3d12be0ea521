"""Small real engines of both CPU runtimes, a repository of them, and one real server for the whole session."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_graphs import small_graphs

from engines.engine_store import EngineStore
from export.exported import ExportedGraph, graph_path
from outfitgan.config import ModelConfig, load_preset, override
from outfitgan.files import sha256_of
from outfitgan.model_graphs import mask_contracts, run_contracts
from serving.client.outfit_client import OutfitClient
from serving.repository.assemble import assemble
from serving.server.triton_server import TritonServer

SIZE = 64

Builder = Callable[[ModelConfig, str], dict[str, Path]]
Counted = Callable[[OutfitClient, Callable[[], object]], dict[str, int]]


@pytest.fixture(scope="session")
def model() -> ModelConfig:
    return override(load_preset("tiny"), {"model.image_size": SIZE}).model


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Build an engine of every graph of a model, mask generators among them: graph name -> engine folder."""

    def engines(model: ModelConfig, runtime: str) -> dict[str, Path]:
        root = tmp_path_factory.mktemp("engines")
        store = EngineStore(root / "store")
        exported = [_exported(name, graph, model, root) for name, graph in small_graphs(model).items()]
        return {graph.name: store.build(graph, runtime, "fp32") for graph in exported}

    return engines


def _exported(name: str, graph: onnx.ModelProto, model: ModelConfig, folder: Path) -> ExportedGraph:
    path = graph_path(folder, name, "fp32")
    onnx.save(graph, path)
    digest = sha256_of(path)
    contract = (run_contracts(model) | mask_contracts(model))[name]
    return ExportedGraph(path, contract, "fp32", digest, digest, {}, {"onnx": onnx.__version__})


@pytest.fixture(scope="session")
def engines(model: ModelConfig, build: Builder) -> dict[str, dict[str, Path]]:
    """Runtime -> graph name -> engine folder."""
    return {runtime: build(model, runtime) for runtime in ("onnxruntime", "openvino")}


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


@pytest.fixture(scope="session")
def silhouettes() -> np.ndarray:
    """A photo whose every channel is a soft silhouette, with a speck and a pinhole: what small mask generators make."""
    photo = np.full((SIZE, SIZE, 3), 30, np.uint8)
    for channel in range(3):
        photo[12 + 2 * channel : 52, 16:48, channel] = 180 + 10 * channel
        photo[3, 3 + channel, channel] = 200
        photo[30, 30 + channel, channel] = 90
    return photo


@pytest.fixture(scope="session")
def ran() -> Counted:
    """Return how many inferences of each model an action takes."""

    def count(client: OutfitClient, action: Callable[[], object]) -> dict[str, int]:
        before = _settled(client)
        action()
        after = _settled(client)
        return {name: after[name] - before[name] for name in after if after[name] != before[name]}

    return count


def _settled(client: OutfitClient) -> dict[str, int]:
    """Read the statistics until they rest: the server counts an inference after it has sent its answer."""
    seen: dict[str, int] = {}
    while (now := client.statistics()) != seen:
        seen = now
        time.sleep(0.3)
    return now


@pytest.fixture(params=["grpc", "http"])
def client(request: pytest.FixtureRequest, server: TritonServer) -> Iterator[OutfitClient]:
    url = server.grpc_url if request.param == "grpc" else server.http_url
    with OutfitClient(url, request.param, timeout=30) as client:
        yield client
        assert client.is_ready(), "the server did not survive this test"
