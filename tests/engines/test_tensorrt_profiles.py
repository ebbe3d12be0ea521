"""Optimisation profiles, and the contexts that run them: our own code over a simulated TensorRT and GPU.

It counts what leaks in the real one: a change of shape in a context (NVIDIA/TensorRT issue 4849).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_tensorrt_runtime import expected, feeds_of, main_context, same

from engines.engine_store import EngineStore
from engines.manifest import MANIFEST, Profile, read_manifest, write_manifest
from engines.registry import open_engine
from export.exported import ExportedGraph
from outfitgan.errors import EngineError, InputError


@pytest.fixture
def contexts(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the simulated contexts record, from now on."""
    for name in ("runs", "strategies"):
        monkeypatch.setattr(gpu.trt.IExecutionContext, name, [])
    return gpu.trt.IExecutionContext


def shape_changes(runs: list[list[int]]) -> int:
    return sum(one != other for batches in runs for one, other in itertools.pairwise(batches))


def test_a_profile_for_each_batch(plan: Path, store: EngineStore, half_alignment: ExportedGraph) -> None:
    manifest = read_manifest(plan)
    assert manifest.profiles == tuple(Profile(batch, batch, batch) for batch in range(1, 9))
    assert manifest.profile == Profile(1, 1, 8)
    some = read_manifest(store.build(half_alignment, "tensorrt", "fp16", Profile(2, 3, 4)))
    assert some.profiles == (Profile(2, 2, 2), Profile(3, 3, 3), Profile(4, 4, 4))
    one = read_manifest(store.build(half_alignment, "tensorrt", "fp16", Profile(1, 1, 1)))
    assert one.profiles == (Profile(1, 1, 1),)


def test_a_graph_without_the_plugin_has_one(store: EngineStore, collocation_graph: ExportedGraph) -> None:
    manifest = read_manifest(store.build(collocation_graph, "tensorrt", "fp32"))
    assert manifest.options["profiles"] == "each_batch"
    assert manifest.profiles == (Profile(1, 1, 8),)


@pytest.mark.parametrize("captured", [False, True])
def test_no_context_changes_its_shapes(
    captured: bool, plan: Path, half_alignment: ExportedGraph, contexts: Any
) -> None:
    feeds = {batch: feeds_of(half_alignment, batch, seed=batch) for batch in (1, 8)}
    with open_engine(plan) as engine:
        for batch in feeds if captured else ():
            main_context(engine).capture(batch)
        for _ in range(100):
            for batch in feeds:
                outputs = engine.run(feeds[batch])
                assert all(len(array) == batch for array in outputs.values())
        assert same(engine.run(feeds[8]), expected(half_alignment, feeds[8]))
    assert len(contexts.runs) == 2  # none for a batch that did not come
    assert shape_changes(contexts.runs) == 0


def test_one_profile_changes_its_shapes_at_every_turn(
    whole: Path, half_alignment: ExportedGraph, contexts: Any
) -> None:
    """Which is what the count is there to find."""
    with open_engine(whole) as engine:
        for batch in (1, 8) * 10:
            engine.run(feeds_of(half_alignment, batch))
    assert shape_changes(contexts.runs) == 19


def test_contexts_take_the_memory_of_their_own_profile(
    plan: Path, whole: Path, half_alignment: ExportedGraph, contexts: Any, gpu: SimpleNamespace
) -> None:
    strategies = gpu.trt.ExecutionContextAllocationStrategy
    with open_engine(plan) as engine:
        before = set(gpu.cuda.ALLOCATED), set(gpu.cuda.STREAMS)
        engine.run(feeds_of(half_alignment, 3))
        assert (gpu.cuda.ALLOCATED, set(gpu.cuda.STREAMS)) == before  # buffers and stream are shared
    assert contexts.strategies == [strategies.ON_PROFILE_CHANGE] * 2
    open_engine(whole).close()
    assert contexts.strategies[2:] == [strategies.STATIC]


def test_an_engine_that_records_no_profiles_has_one(whole: Path, half_alignment: ExportedGraph, tmp_path: Path) -> None:
    """As those of earlier versions."""
    manifest = read_manifest(whole)
    assert manifest.profiles == (manifest.profile,)
    details = {name: value for name, value in manifest.details.items() if name != "profiles"}
    folder = shutil.copytree(whole, tmp_path / "engine")
    write_manifest(dataclasses.replace(manifest, details=details), folder)
    assert read_manifest(folder).profiles == (Profile(1, 1, 8),)
    with open_engine(folder) as engine:
        for batch in (3, 1):
            feeds = feeds_of(half_alignment, batch)
            assert same(engine.run(feeds), expected(half_alignment, feeds))


def altered(folder: Path, to: Path, profiles: Any) -> Path:
    shutil.copytree(folder, to)
    content = json.loads((to / MANIFEST).read_text())
    content["details"]["profiles"] = profiles
    (to / MANIFEST).write_text(json.dumps(content))
    return to


@pytest.mark.parametrize("profiles", [3, [3], [{"min_batch": 1}], [{"least": 1, "opt_batch": 1, "max_batch": 1}]])
def test_profiles_that_are_none_are_not_read(profiles: Any, plan: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"manifest is not readable \(.*\); build it again"):
        read_manifest(altered(plan, tmp_path / "engine", profiles))


def test_profiles_that_the_plan_has_not_are_said(
    plan: Path, whole: Path, half_alignment: ExportedGraph, tmp_path: Path
) -> None:
    each = [dataclasses.asdict(Profile(batch, batch, batch)) for batch in range(1, 9)]
    with open_engine(altered(whole, tmp_path / "a", each)) as engine:
        engine.run(feeds_of(half_alignment, 1))
        with pytest.raises(EngineError, match=r"plan of alignment_bag has no profile 1 \(.*\); build it again"):
            engine.run(feeds_of(half_alignment, 2))
    with open_engine(altered(plan, tmp_path / "b", [each[0], each[2]])) as engine:
        with pytest.raises(InputError, match="not 2; send less at a time"):
            engine.run(feeds_of(half_alignment, 2))
        with pytest.raises(EngineError, match=r"refuses batch 3 for SOURCE \(.*\); build it again"):
            engine.run(feeds_of(half_alignment, 3))
