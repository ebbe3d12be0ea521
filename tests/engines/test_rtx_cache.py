"""The kernels that TensorRT for RTX compiles when a plan is opened, and how it is told to: over a simulated GPU."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rtx_cases import needs_rtx
from test_rtx_run import _forgotten, feeds_of, retrained, rewritten, unverified, verified  # noqa: F401 - fixtures

from engines.engine_folder import find_engines
from engines.manifest import read_manifest
from engines.registry import open_engine
from engines.tensorrt_rtx.rtx_engine import cache_file
from export.exported import ExportedGraph
from outfitgan.errors import EngineError

pytestmark = needs_rtx


def kernels_of(folder: Path) -> Path:
    return cache_file(folder, read_manifest(folder))


@pytest.fixture
def run_once(verified: Path, half_generator: ExportedGraph, gpu: SimpleNamespace) -> Path:  # noqa: F811
    """An engine that was opened and closed, with its kernels beside it."""
    kernels_of(verified).unlink()
    with open_engine(verified) as engine:
        engine.run(feeds_of(half_generator, 2))
    gpu.rtx.COMPILED.clear()
    return verified


def compiled(folder: Path, graph: ExportedGraph, gpu: SimpleNamespace, batch: int = 2) -> int:
    """Return how many kernels are compiled when an engine is opened and runs once."""
    gpu.rtx.COMPILED.clear()
    with open_engine(folder) as engine:
        engine.run(feeds_of(graph, batch))
    return len(gpu.rtx.COMPILED)


def test_kernels_are_kept_for_the_next_start(
    run_once: Path, half_generator: ExportedGraph, gpu: SimpleNamespace
) -> None:
    path = kernels_of(run_once)
    assert path == run_once.parent / f"{run_once.name}.kernels"
    assert compiled(run_once, half_generator, gpu) == 0
    assert compiled(run_once, half_generator, gpu, batch=3) == 2  # of SOURCE and of MASK, for a new batch
    assert compiled(run_once, half_generator, gpu, batch=3) == 0
    assert read_manifest(run_once).verified  # nothing has come into the folder
    assert find_engines(run_once.parent) == {"generator_bag": run_once}


@pytest.mark.parametrize("content", [b"", b"short", b"\0" * 40, None])
def test_an_altered_cache_is_not_read(
    content: bytes | None,
    run_once: Path,
    half_generator: ExportedGraph,
    gpu: SimpleNamespace,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = kernels_of(run_once)
    path.write_bytes(path.read_bytes()[:-1] + b"!" if content is None else content)
    with caplog.at_level(logging.WARNING, logger="engines"):
        assert compiled(run_once, half_generator, gpu) == 2
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} was altered (its SHA-256 differs); kernels are compiled again."
    ]
    caplog.clear()
    assert compiled(run_once, half_generator, gpu) == 0  # it was written anew
    assert not caplog.records


def test_a_cache_of_another_driver_is_left_alone(
    run_once: Path,
    half_generator: ExportedGraph,
    gpu: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(gpu.cuda, "DRIVER", 13020)
    with caplog.at_level(logging.INFO, logger="engines"):
        assert compiled(run_once, half_generator, gpu) == 2
    says = f"{kernels_of(run_once)} is not for this GPU and driver; kernels are compiled again."
    assert says in [record.getMessage() for record in caplog.records]
    assert compiled(run_once, half_generator, gpu) == 0


def test_a_folder_that_cannot_be_written_is_no_error(
    run_once: Path,
    half_generator: ExportedGraph,
    gpu: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As that of a server, which may not belong to it; root may write anywhere, so no permission says so."""
    kernels_of(run_once).unlink()

    def refused(self: Path, data: bytes) -> int:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_bytes", refused)
    with caplog.at_level(logging.INFO, logger="engines"):
        assert compiled(run_once, half_generator, gpu) == 2
    (told,) = [record.getMessage() for record in caplog.records if "kept" in record.getMessage()]
    assert told.startswith("The compiled kernels were not kept ([Errno 13] Permission denied: ")
    assert not kernels_of(run_once).exists()
    assert not gpu.cuda.ALLOCATED


@pytest.mark.parametrize(
    ("chosen", "strategy", "graphs"),
    [
        ({}, "EAGER", "DISABLED"),
        ({"specialization": "lazy"}, "LAZY", "DISABLED"),
        ({"specialization": "none", "cuda_graphs": "whole"}, "NONE", "WHOLE_GRAPH_CAPTURE"),
    ],
)
def test_options_reach_the_library(
    chosen: dict[str, str],
    strategy: str,
    graphs: str,
    verified: Path,  # noqa: F811
    gpu: SimpleNamespace,
) -> None:
    rewritten(verified, options=read_manifest(verified).options | chosen)
    gpu.rtx.IRuntimeConfig.made.clear()
    engine: Any = open_engine(verified)
    with engine:
        engine.new_context()
    (config,) = gpu.rtx.IRuntimeConfig.made  # all contexts share its cache
    assert config.dynamic_shapes_kernel_specialization_strategy.name == strategy
    assert config.cuda_graph_strategy.name == graphs


def test_a_fault_of_the_gpu_is_what_is_raised_and_all_is_released(
    run_once: Path,
    half_generator: ExportedGraph,
    gpu: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What follows from it when the engine is closed is logged."""

    def faulty(what: str) -> Any:
        def fail(self: Any) -> None:
            raise gpu.cuda.LogicError(f"illegal memory access in {what}")

        return fail

    with open_engine(run_once) as engine, caplog.at_level(logging.INFO, logger="engines"):
        monkeypatch.setattr(gpu.cuda.Stream, "synchronize", faulty("the run"))
        monkeypatch.setattr(gpu.rtx.IRuntimeCache, "serialize", faulty("the cache"))
        with pytest.raises(EngineError, match="illegal memory access in the run"):
            engine.run(feeds_of(half_generator, 2))
        engine.close()
    assert "The compiled kernels were not kept (The GPU failed (illegal memory access in the cache)" in caplog.text
    assert not gpu.cuda.ALLOCATED
