"""One log for every engine of a process, and what is left after a fault: over a simulated TensorRT and GPU."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_tensorrt_runtime import feeds_of, main_context

from engines.registry import open_engine
from export.exported import ExportedGraph
from outfitgan.errors import EngineError


def test_one_log_serves_every_engine(
    plan: Path, tmp_path: Path, gpu: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """TensorRT keeps the first that it is given, without a reference, and warns of every other."""
    with caplog.at_level(logging.WARNING, logger="engines"):
        first = open_engine(plan)
        with open_engine(plan) as second:
            assert main_context(first)._log is main_context(second)._log
            first.close()
            del first
            gc.collect()
            with open_engine(plan):
                pass
    assert not caplog.records


def test_an_engine_is_not_blamed_for_anothers_errors(
    plan: Path, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_engine(plan) as engine:
        main_context(engine)._log.log(gpu.trt.ILogger.Severity.ERROR, "of the first engine")
        monkeypatch.setattr(gpu.trt.Runtime, "deserialize_cuda_engine", lambda self, serialized_engine: None)
        with pytest.raises(EngineError, match=r"TensorRT refuses the plan of .* \(TensorRT gave no reason\)"):
            open_engine(plan)


def test_a_fault_of_the_gpu_is_what_is_raised_and_all_is_released(
    plan: Path,
    half_alignment: ExportedGraph,
    gpu: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After an illegal access every call on the stream fails with it, those of closing as well."""

    calls: list[Any] = []

    def faulty(self: Any) -> None:
        calls.append(self)
        raise gpu.cuda.LogicError(f"illegal memory access, call {len(calls)}")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, logger="engines"):
        engine: Any = open_engine(plan)
        contexts = [engine.main_context, engine.new_context()]
        contexts[1].capture(1)
        patch.setattr(gpu.cuda.Stream, "synchronize", faulty)
        with pytest.raises(EngineError, match=r"illegal memory access, call 1\); start the program again"), engine:
            engine.run(feeds_of(half_alignment, 1))
        said = [record.message for record in caplog.records]
        assert said == [
            f"alignment_bag: the GPU failed while it was closed: illegal memory access, call {call}" for call in (2, 3)
        ]
    assert not gpu.cuda.ALLOCATED
    assert not gpu.graphs.GRAPHS
    assert gpu.cuda.depth() == 0
    assert not any(hasattr(made, "context") for context in contexts for made in context._contexts.values())
    assert not hasattr(engine, "_plan")


def test_a_context_that_does_not_close_keeps_nothing_else_open(
    plan: Path, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised, as on Ctrl-C."""
    engine = open_engine(plan)
    contexts = [main_context(engine), engine.new_context()]  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(contexts[1], "close", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            engine.close()
    assert contexts[0]._closed
    assert not hasattr(engine, "_plan")
    contexts[1].close()
    assert not gpu.cuda.ALLOCATED
