"""What a machine with TensorRT for RTX and a GPU of its kind must show: `pytest tests/gpu`. Not run by us yet."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from gpu_graphs import ROLES, Exporter, exporter

from engines.engine_store import EngineStore
from engines.manifest import read_manifest
from engines.registry import load_runtime, open_engine
from engines.tensorrt_rtx.rtx_engine import cache_file
from engines.verification import verify
from export.exported import ExportedGraph
from export.onnx_runner import onnx_runner
from export.parity import adversarial_inputs, compare, shortfalls
from outfitgan.errors import EngineError

RUNTIME = "tensorrt-rtx"


def missing() -> str:
    """Return what this machine lacks."""
    if absent := [name for name in ("tensorrt_rtx", "pycuda") if find_spec(name) is None]:
        return f"the packages {', '.join(absent)}; pip install 'outfitgan[rtx]' pycuda"
    try:
        runtime = load_runtime(RUNTIME)
        return runtime.why_not_here(runtime.options({}))
    except EngineError as error:
        return str(error)


MISSING = missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"This needs TensorRT for RTX and its GPU. Missing: {MISSING}")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    return exporter(tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EngineStore:
    return EngineStore(tmp_path_factory.mktemp("engines"))


def agrees(graph: ExportedGraph, feeds: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> str:
    expected = onnx_runner(graph.path, graph.contract)(feeds)
    return shortfalls(compare(expected, outputs, graph.contract), graph.contract, graph.precision)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("role", sorted(ROLES))
def test_every_graph_is_verified_as_it_is_built(
    role: str, precision: str, exported: Exporter, store: EngineStore
) -> None:
    folder = store.build(exported(role, precision), RUNTIME, precision)
    manifest = read_manifest(folder)
    assert manifest.verified
    assert manifest.parity
    assert manifest.device == load_runtime(RUNTIME).device()
    assert verify(folder).verified  # by the stored outputs, as on another machine


def test_int8(exported: Exporter, store: EngineStore) -> None:
    graph = exported("generator", "int8-fp16")
    assert read_manifest(store.build(graph, RUNTIME, "int8")).parity["IMAGE"]["psnr_db"] >= 33


def test_compiled_kernels_are_kept(exported: Exporter, store: EngineStore) -> None:
    folder = store.build(exported("generator", "fp16"), RUNTIME, "fp16")
    with open_engine(folder):
        pass
    assert cache_file(folder).stat().st_size > 1000


@pytest.mark.parametrize("choices", [{"specialization": "lazy"}, {"specialization": "none"}, {"cuda_graphs": "whole"}])
def test_every_way_to_run_gives_the_same(choices: dict[str, str], exported: Exporter, tmp_path: Path) -> None:
    graph, store = exported("generator", "fp16"), EngineStore(tmp_path)
    store.choose(RUNTIME, choices)
    with open_engine(store.build(graph, RUNTIME, "fp16")) as engine:
        for batch in (1, 8, 2, 1):
            feeds = adversarial_inputs(graph.contract, batch, 5)[0][1]
            for _ in range(3):  # the first runs of a batch may be other kernels than the later ones
                assert not agrees(graph, feeds, engine.run(feeds))


def test_other_batches_cost_no_memory(exported: Exporter, store: EngineStore) -> None:
    """NVIDIA/TensorRT issue 4849 is of plugins, of which there are none here."""
    import pycuda.driver as cuda

    graph = exported("generator", "fp16")
    with open_engine(store.build(graph, RUNTIME, "fp16")) as engine:
        feeds = [adversarial_inputs(graph.contract, batch, 5)[0][1] for batch in (1, 8)]
        free = []
        for round_ in range(400):
            engine.run(feeds[round_ % 2])
            if round_ in (20, 399):
                with engine._gpu.current():  # type: ignore[attr-defined]
                    free.append(cuda.mem_get_info()[0])
        assert free[0] - free[1] < 16 << 20
