"""Building for the tensorrt runtime as far as it goes without TensorRT: our own code over a simulated one."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from simulation import simulated

from engines.engine_store import EngineStore
from engines.manifest import Profile, read_manifest
from export.exported import ExportedGraph
from outfitgan.errors import ConfigError, EngineError


def config_of(gpu: SimpleNamespace) -> Any:
    return gpu.trt.Builder.made[-1].config


def test_a_plan_and_its_manifest(plan: Path, half_alignment: ExportedGraph) -> None:
    manifest = read_manifest(plan)
    assert set(manifest.files) == {"model.plan"}
    assert manifest.device == {"name": "Simulated A10", "compute_capability": "8.6", "driver": "13.0"}
    assert manifest.versions["tensorrt"] == "11.4.0"
    assert manifest.profile == Profile(1, 1, 8)
    assert manifest.options == {
        "optimization_level": 3,
        "workspace_mib": 0,
        "hardware": "this_gpu",
        "version_compatible": False,
        "refittable": False,
        "profiles": "each_batch",
    }
    assert manifest.details["layers"]["Correlate"] == 1
    kernels = manifest.details["kernels"]
    assert {kernel["architecture"] for kernel in kernels} == {"sm_80"}
    assert {kernel["layout"] for kernel in kernels} == {"channels_first", "channels_last"}
    assert all(kernel["shared"] <= 49152 and not kernel["spills"] for kernel in kernels)
    assert set(manifest.parity) == {"WARPED", "MATCH", "WEIGHT"}


def test_the_plan_is_untouched(plan: Path, gpu: SimpleNamespace) -> None:
    """Nothing but what TensorRT gave is in the file: others read it too."""
    log = SimpleNamespace(_made=True, log=lambda severity, msg: None)
    assert gpu.trt.Runtime(log).deserialize_cuda_engine((plan / "model.plan").read_bytes()) is not None


def test_the_builder_is_told_everything(store: EngineStore, plan: Path, gpu: SimpleNamespace) -> None:
    config, trt = config_of(gpu), gpu.trt
    for batch, profile in enumerate(config.profiles, start=1):
        assert profile.shapes == {"SOURCE": [(batch, 64, 64, 3)] * 3, "MASK": [(batch, 64, 64, 1)] * 3}
    assert len(config.profiles) == 8
    assert config.flags == set()  # TF32, which is on by default, is off
    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert config.hardware_compatibility_level == trt.HardwareCompatibilityLevel.NONE
    assert config.pools == {}
    assert config.builder_optimization_level == 3


def test_every_option_reaches_the_builder(half_alignment: ExportedGraph, gpu: SimpleNamespace, tmp_path: Path) -> None:
    store = EngineStore(tmp_path)
    choices = {
        "optimization_level": 1,
        "workspace_mib": 512,
        "hardware": "ampere_plus",
        "version_compatible": True,
        "refittable": True,
        "profiles": "one",
    }
    store.choose("tensorrt", choices)
    folder = store.build(half_alignment, "tensorrt", "fp16", Profile(1, 4, 6))
    config, trt = config_of(gpu), gpu.trt
    assert config.builder_optimization_level == 1
    assert config.pools == {trt.MemoryPoolType.WORKSPACE: 512 << 20}
    assert config.hardware_compatibility_level == trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert config.flags == {trt.BuilderFlag.VERSION_COMPATIBLE, trt.BuilderFlag.REFIT}
    assert [shape[0] for shape in config.profiles[0].shapes["MASK"]] == [1, 4, 6]
    assert read_manifest(folder).options == choices
    assert EngineStore(tmp_path).find(half_alignment, "tensorrt", "fp16", Profile(1, 4, 6)) == folder


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"optimisation": 3}, "tensorrt option optimisation = 3 does not do"),
        ({"optimization_level": 6}, "optimization_level = 6 does not do"),
        ({"optimization_level": "3"}, "optimization_level = '3' does not do"),
        ({"workspace_mib": -1}, "workspace_mib = -1 does not do"),
        (
            {"hardware": "hopper"},
            "hardware = 'hopper' does not do: .*'ampere_plus'; the options are optimization",
        ),
        ({"refittable": 1}, "refittable = 1 does not do"),
        ({"profiles": "two"}, "profiles = 'two' does not do: .*'each_batch' or 'one'"),
    ],
)
def test_options_are_checked(choices: dict[str, Any], message: str, gpu: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        EngineStore(tmp_path).choose("tensorrt", choices)
    assert not list(tmp_path.iterdir())


def test_an_option_makes_another_engine(half_alignment: ExportedGraph, plan: Path, tmp_path: Path) -> None:
    store = EngineStore(tmp_path)
    shutil.copytree(plan, tmp_path / plan.name)
    assert store.find(half_alignment, "tensorrt", "fp16") == tmp_path / plan.name
    store.choose("tensorrt", {"optimization_level": 5})
    assert store.find(half_alignment, "tensorrt", "fp16") is None
    store.choose("tensorrt", {"optimization_level": 3})
    assert store.find(half_alignment, "tensorrt", "fp16") == tmp_path / plan.name


def test_the_timing_cache_is_kept_for_the_next_build(
    half_alignment: ExportedGraph, half_generator: ExportedGraph, gpu: SimpleNamespace, tmp_path: Path
) -> None:
    store = EngineStore(tmp_path)
    store.build(half_alignment, "tensorrt", "fp16")
    (cache,) = tmp_path.glob("*.timing")
    first = json.loads(cache.read_bytes())
    assert first
    store.build(half_generator, "tensorrt", "fp16")
    assert list(tmp_path.glob("*.timing")) == [cache]
    second = json.loads(cache.read_bytes())
    assert set(first) < set(second)
    gpu.cuda.CAPABILITY = (8, 9)
    try:
        cache.write_bytes(b"of another GPU")
        store.build(half_alignment, "tensorrt", "fp16")
    finally:
        gpu.cuda.CAPABILITY = (8, 6)
    assert cache.read_bytes() == b"of another GPU"
    assert len(list(tmp_path.glob("*.timing"))) == 2


def test_a_timing_cache_that_cannot_be_read_is_replaced(
    half_alignment: ExportedGraph, gpu: SimpleNamespace, tmp_path: Path
) -> None:
    store = EngineStore(tmp_path)
    folder = store.build(half_alignment, "tensorrt", "fp16")
    (cache,) = tmp_path.glob("*.timing")
    cache.write_bytes(b"{ broken")
    shutil.rmtree(folder)
    assert store.build(half_alignment, "tensorrt", "fp16") == folder
    assert json.loads(cache.read_bytes())
    assert config_of(gpu).cache is not None


def test_a_build_is_watched_and_can_be_stopped(
    half_alignment: ExportedGraph, gpu: SimpleNamespace, tmp_path: Path
) -> None:
    seen: list[tuple[str, int, int]] = []
    store = EngineStore(tmp_path)
    store.build_all({"alignment": half_alignment}, "tensorrt", "fp16", lambda *told: seen.append(told))
    assert seen[0] == ("alignment: Building Engine", 0, 2)
    assert ("alignment: Tactics", 0, 2) in seen  # steps are those of the outermost phase
    assert ("alignment: Building Engine", 1, 2) in seen
    assert seen[-2:] == [("alignment: Building Engine", 2, 2), ("alignment", 1, 1)]

    def stopped(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.build(half_alignment, "tensorrt", "fp16", Profile(1, 2, 2), stopped)
    assert len(list(tmp_path.glob("alignment*"))) == 1


def test_the_plugins_launch(half_generator: ExportedGraph, store: EngineStore, gpu: SimpleNamespace) -> None:
    store.build(half_generator, "tensorrt", "fp16")
    launches = gpu.trt.Builder.made[-1].launches
    assert len(launches) == 2  # one a layout
    for name, ptx, parameters, extras in launches:
        assert f".entry {name}(" in ptx
        assert parameters.grid_y == -1  # the batch, which is not known
        assert list(extras) == [16 * 16, 16 * 16]
        assert parameters.block_x in (128, 256)


def test_a_hopper_gpu_gets_kernels_of_its_own(
    half_alignment: ExportedGraph, gpu: SimpleNamespace, tmp_path: Path
) -> None:
    """In other modules, as in another process: TensorRT has one plugin registry."""
    with simulated() as modules:
        store = EngineStore(tmp_path)
        manifest = read_manifest(store.build(half_alignment, "tensorrt", "fp16"))
        told = [(kernel["tactic"], kernel["architecture"]) for kernel in manifest.details["kernels"]]
        assert told == [(1, "sm_80"), (2, "sm_90a")] * 2  # in each layout
        modules.cuda.CAPABILITY = (8, 0)
        with pytest.raises(EngineError, match="This process builds for other GPUs already"):
            store.build(half_alignment, "tensorrt", "fp16", Profile(1, 1, 2))


def test_an_fp32_plan(alignment: ExportedGraph, store: EngineStore) -> None:
    manifest = read_manifest(store.build(alignment, "tensorrt", "fp32"))
    assert {kernel["dtype"] for kernel in manifest.details["kernels"]} == {"fp32"}


def test_errors_of_tensorrt_go_to_the_log(
    half_alignment: ExportedGraph, store: EngineStore, gpu: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    from engines.plan.api import Api

    log, severity = Api("tensorrt").log, gpu.trt.ILogger.Severity
    with caplog.at_level(logging.DEBUG):
        log.log(severity.WARNING, "careful")
        log.log(severity.ERROR, "first\n  line.")
        log.log(severity.INTERNAL_ERROR, "second")
    assert (caplog.records[0].levelname, caplog.records[0].message) == ("WARNING", "TensorRT: careful")
    assert log.reason() == "first line"
    assert log.reason() == "TensorRT gave no reason"
