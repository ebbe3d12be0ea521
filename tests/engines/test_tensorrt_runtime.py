"""The runner: our own code over a simulated TensorRT and GPU, whose work is done when its stream is synchronised."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines.engine_store import EngineStore
from engines.manifest import Profile
from engines.registry import open_engine
from export.exported import ExportedGraph
from export.parity import adversarial_inputs
from outfitgan.contracts import Arrays
from outfitgan.errors import EngineError, InputError


def feeds_of(graph: ExportedGraph, batch: int, seed: int = 5) -> Arrays:
    return adversarial_inputs(graph.contract, batch, seed)[0][1]


def expected(graph: ExportedGraph, feeds: Arrays) -> Arrays:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph.path), providers=["CPUExecutionProvider"])
    names = [spec.name for spec in graph.contract.outputs]
    return dict(zip(names, session.run(names, feeds), strict=True))


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_batches_in_any_order(plan: Path, half_alignment: ExportedGraph) -> None:
    with open_engine(plan) as engine:
        for batch in (3, 1, 8, 2, 2):
            feeds = feeds_of(half_alignment, batch, seed=batch)
            assert same(engine.run(feeds), expected(half_alignment, feeds))


def test_outputs_belong_to_the_caller_and_inputs_need_not_be_contiguous(
    plan: Path, half_alignment: ExportedGraph
) -> None:
    feeds = feeds_of(half_alignment, 2)
    strided = {name: np.repeat(array, 2, axis=1)[:, ::2] for name, array in feeds.items()}
    with open_engine(plan) as engine:
        first = engine.run(feeds)
        kept = {name: array.copy() for name, array in first.items()}
        engine.run(feeds_of(half_alignment, 2, seed=6))
        assert same(first, kept)
        assert same(engine.run(strided), kept)


def test_batches_outside_the_profile_are_refused(
    store: EngineStore, half_alignment: ExportedGraph, gpu: SimpleNamespace
) -> None:
    folder = store.build(half_alignment, "tensorrt", "fp16", Profile(2, 2, 3))
    with open_engine(folder) as engine:
        engine.run(feeds_of(half_alignment, 2))
        for batch in (1, 4):
            with pytest.raises(InputError, match=rf"built for batches of 2 to 3, not {batch}; send less at a time"):
                engine.run(feeds_of(half_alignment, batch))
        with pytest.raises(InputError, match="built for batches of 2 to 3, not 1"):
            main_context(engine).capture(1)
        with pytest.raises(InputError, match="must be uint8"):
            engine.run({name: array.astype(np.float32) for name, array in feeds_of(half_alignment, 2).items()})


def main_context(engine: Any) -> Any:
    return engine.main_context


def test_a_captured_run_is_the_same(plan: Path, half_alignment: ExportedGraph, gpu: SimpleNamespace) -> None:
    with open_engine(plan) as engine:
        main_context(engine).capture(2)
        assert len(gpu.graphs.GRAPHS) == 1
        for seed in (1, 2):
            feeds = feeds_of(half_alignment, 2, seed)
            assert same(engine.run(feeds), expected(half_alignment, feeds))
        main_context(engine).capture(2)  # in the place of the first
        assert len(gpu.graphs.GRAPHS) == 1
    assert not gpu.graphs.GRAPHS


def test_a_captured_run_stays_where_each_batch_has_a_context(
    plan: Path,
    half_alignment: ExportedGraph,
    gpu: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with open_engine(plan) as engine, caplog.at_level(logging.WARNING, logger="engines"):
        for batch in (2, 1):
            main_context(engine).capture(batch)
        assert len(gpu.graphs.GRAPHS) == 2
        engine.run(feeds_of(half_alignment, 3))
        with monkeypatch.context() as patch:
            launched = lambda self, stream_handle: pytest.fail("enqueued")  # noqa: E731
            patch.setattr(gpu.trt.IExecutionContext, "execute_async_v3", launched)
            for batch in (1, 2, 2, 1):
                feeds = feeds_of(half_alignment, batch, seed=batch)
                assert same(engine.run(feeds), expected(half_alignment, feeds))
    assert not caplog.records


def test_a_captured_run_puts_one_thing_on_the_stream(
    plan: Path, half_alignment: ExportedGraph, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_engine(plan) as engine:
        main_context(engine).capture(2)
        monkeypatch.setattr(gpu.trt.IExecutionContext, "execute_async_v3", lambda self, stream: pytest.fail("enqueued"))
        engine.run(feeds_of(half_alignment, 2))


def test_another_batch_of_the_profile_drops_the_graph_and_says_so(
    whole: Path, half_alignment: ExportedGraph, gpu: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    with open_engine(whole) as engine, caplog.at_level(logging.WARNING, logger="engines"):
        main_context(engine).capture(2)
        feeds = feeds_of(half_alignment, 3)
        assert same(engine.run(feeds), expected(half_alignment, feeds))
        assert "alignment_bag had a CUDA graph for batch 2 and runs 3 without" in caplog.text
        assert not gpu.graphs.GRAPHS
        caplog.clear()
        back = feeds_of(half_alignment, 2)
        assert same(engine.run(back), expected(half_alignment, back))
        for batch in (2, 1):  # in the place of the other, and no word of it, for it was asked for
            main_context(engine).capture(batch)
            assert len(gpu.graphs.GRAPHS) == 1
        assert not caplog.text


def test_a_capture_that_fails_leaves_the_context_working(
    plan: Path, half_alignment: ExportedGraph, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    invalid = (gpu.graphs.CUresult.CUDA_ERROR_INVALID_VALUE, None)
    with open_engine(plan) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(gpu.graphs, "cuGraphInstantiate", lambda graph, flags: invalid)
            with pytest.raises(EngineError, match="graph failed \\(CUDA_ERROR_INVALID_VALUE\\); run without capturing"):
                main_context(engine).capture(2)
        with monkeypatch.context() as patch:
            patch.setattr(gpu.trt.IExecutionContext, "execute_async_v3", refuse_when_recording(gpu))
            with pytest.raises(EngineError, match="alignment_bag does not run"):
                main_context(engine).capture(2)
        feeds = feeds_of(half_alignment, 2)
        assert same(engine.run(feeds), expected(half_alignment, feeds))


def refuse_when_recording(gpu: SimpleNamespace) -> Any:
    accept = gpu.trt.IExecutionContext.execute_async_v3

    def enqueue(self: Any, stream_handle: int) -> bool:
        return gpu.cuda.STREAMS[stream_handle].recording is None and accept(self, stream_handle)

    return enqueue


def test_cuda_graphs_need_their_package(plan: Path, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings", None)
    with open_engine(plan) as engine, pytest.raises(EngineError, match="need the package cuda-bindings; pip install"):
        main_context(engine).capture(1)


def test_contexts_run_at_the_same_time(plan: Path, half_alignment: ExportedGraph, gpu: SimpleNamespace) -> None:
    with open_engine(plan) as engine:
        contexts = [engine.main_context, engine.new_context(), engine.new_context()]  # type: ignore[attr-defined]
        contexts[1].capture(2)
        work = [(context, feeds_of(half_alignment, 2, seed)) for seed, context in enumerate(contexts * 4)]
        # One at a time on each context, all contexts at once.
        with ThreadPoolExecutor(3) as pool:
            made = list(pool.map(lambda i: [context.run(feeds) for context, feeds in work[i::3]], range(3)))
        for index in range(3):
            for outputs, (_, feeds) in zip(made[index], work[index::3], strict=True):
                assert same(outputs, expected(half_alignment, feeds))
        contexts[2].close()
    assert not gpu.cuda.ALLOCATED


def test_layer_and_compute_times(plan: Path, half_alignment: ExportedGraph, gpu: SimpleNamespace) -> None:
    feeds = feeds_of(half_alignment, 2)
    with open_engine(plan) as engine:
        context = main_context(engine)
        times = context.layer_times(feeds)
        assert times["node__symbolic"] == 0.5  # of one run, the warm-up left out
        assert context._contexts[1].context.profiler is None
        measured = context.compute_times(feeds, repeats=3)
        assert len(measured) == 3
        assert min(measured) > 0
        assert same(engine.run(feeds), expected(half_alignment, feeds))


def test_a_closed_engine_holds_nothing(plan: Path, half_alignment: ExportedGraph, gpu: SimpleNamespace) -> None:
    engine = open_engine(plan)
    assert len(gpu.cuda.ALLOCATED) == 5  # SOURCE, MASK, WARPED, MATCH, WEIGHT
    engine.close()
    engine.close()
    assert not gpu.cuda.ALLOCATED
    assert gpu.cuda.depth() == 0
    with pytest.raises(EngineError, match="is closed"):
        engine.run(feeds_of(half_alignment, 1))


def test_a_run_that_fails_says_why(
    plan: Path, half_alignment: ExportedGraph, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, stream_handle: int) -> bool:
        log.log(gpu.trt.ILogger.Severity.ERROR, "enqueueV3: an illegal memory access.")
        return False

    with open_engine(plan) as engine:
        log = main_context(engine)._log
        with monkeypatch.context() as patch:
            patch.setattr(gpu.trt.IExecutionContext, "execute_async_v3", fail)
            with pytest.raises(
                EngineError, match=r"alignment_bag does not run \(enqueueV3: an illegal memory access\)"
            ):
                engine.run(feeds_of(half_alignment, 1))
        assert gpu.cuda.depth() == 0


def test_errors_of_the_gpu_are_said(plan: Path, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(bytes: int) -> None:
        raise gpu.cuda.MemoryError("cuMemAlloc failed: out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(gpu.cuda, "mem_alloc", full)
        with pytest.raises(EngineError, match=r"out of memory \(cuMemAlloc failed: out of memory\); free some"):
            open_engine(plan)
    with monkeypatch.context() as patch:
        patch.setattr(gpu.trt.ICudaEngine, "create_execution_context", lambda self, strategy: None)
        with pytest.raises(EngineError, match=r"gives alignment_bag no context \(TensorRT gave no reason\)"):
            open_engine(plan)
    with monkeypatch.context() as patch:
        patch.setattr(gpu.cuda.Device, "count", staticmethod(lambda: 0))
        with pytest.raises(EngineError, match="shows no GPU; check CUDA_VISIBLE_DEVICES"):
            open_engine(plan)

    def dead(flags: int = 0) -> None:
        raise gpu.cuda.LogicError("cuInit failed: unknown error")

    with monkeypatch.context() as patch:
        patch.setattr(gpu.cuda, "init", dead)
        with pytest.raises(EngineError, match=r"driver does not start \(cuInit failed: unknown error\); check it"):
            open_engine(plan)
    assert not gpu.cuda.ALLOCATED
