"""What is opened and what is not, and other weights in a plan: our own code over a simulated TensorRT."""

from __future__ import annotations

import ast
import dataclasses
import json
import shutil
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from engines.engine_folder import find_engines
from engines.engine_store import EngineStore
from engines.manifest import MANIFEST, hash_files, read_manifest, write_manifest
from engines.registry import open_engine
from engines.tensorrt import tensorrt_runtime
from engines.tensorrt.tensorrt_runtime import TensorrtRuntime
from export.exported import ExportedGraph
from export.parity import adversarial_inputs
from outfitgan.errors import EngineError, UnsupportedError
from outfitgan.files import sha256_of


def copied(folder: Path, to: Path, **changes: Any) -> Path:
    shutil.copytree(folder, to)
    write_manifest(dataclasses.replace(read_manifest(folder), **changes), to)
    return to


def test_a_plan_of_another_gpu_is_not_opened(plan: Path, gpu: SimpleNamespace, tmp_path: Path) -> None:
    foreign = {"name": "NVIDIA H100", "compute_capability": "9.0", "driver": "13.0"}
    folder = copied(plan, tmp_path / "a", device=foreign)
    says = (
        r"built on NVIDIA H100 \(compute_capability 9\.0\) and runs only there, not on Simulated A10 \(.* 8\.6\); build"
    )
    with pytest.raises(EngineError, match=says):
        open_engine(folder)
    options = {**read_manifest(plan).options, "hardware": "ampere_plus"}
    open_engine(copied(folder, tmp_path / "b", options=options)).close()
    options["hardware"] = "same_compute_capability"
    with pytest.raises(EngineError, match="runs only there"):
        open_engine(copied(folder, tmp_path / "c", options=options))
    sibling = {**foreign, "compute_capability": "8.6"}
    open_engine(copied(folder, tmp_path / "d", options=options, device=sibling)).close()


def test_a_compatible_plan_is_not_opened_before_ampere(
    plan: Path, gpu: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(plan, tmp_path / "a", options={**read_manifest(plan).options, "hardware": "ampere_plus"})
    monkeypatch.setattr(gpu.cuda, "CAPABILITY", (7, 5))
    with pytest.raises(EngineError, match="is for Ampere and newer, not for Simulated A10; take another GPU"):
        open_engine(folder)


def test_a_plan_of_another_version_is_not_opened(plan: Path, tmp_path: Path) -> None:
    versions = {**read_manifest(plan).versions, "tensorrt": "11.3.0"}
    folder = copied(plan, tmp_path / "a", versions=versions)
    with pytest.raises(EngineError, match=r"is of TensorRT 11\.3\.0, and 11\.4\.0 is installed; build it here"):
        open_engine(folder)
    compatible = {**read_manifest(plan).options, "version_compatible": True}
    open_engine(copied(folder, tmp_path / "b", options=compatible)).close()
    later = copied(folder, tmp_path / "c", options=compatible, versions={"tensorrt": "11.10.0"})
    with pytest.raises(EngineError, match=r"is of TensorRT 11\.10\.0"):
        open_engine(later)


def test_an_old_driver_is_said(plan: Path, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.cuda, "DRIVER", 11080)
    with pytest.raises(
        EngineError, match=r"drivers of CUDA 12\.0 or newer, and this one is of 11\.8; update the NVIDIA"
    ):
        open_engine(plan)


def test_a_newer_driver_is_no_other_device(
    half_alignment: ExportedGraph, store: EngineStore, plan: Path, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.cuda, "DRIVER", 13020)
    assert store.find(half_alignment, "tensorrt", "fp16") == plan
    open_engine(plan).close()


@pytest.mark.parametrize("broken", ["altered", "truncated"])
def test_a_broken_plan_is_not_opened(broken: str, plan: Path, tmp_path: Path) -> None:
    folder = copied(plan, tmp_path / "engine")
    content = (plan / "model.plan").read_bytes()
    (folder / "model.plan").write_bytes(b"no" + content[2:] if broken == "altered" else content[:-7])
    with pytest.raises(EngineError, match="was altered after the build"):
        open_engine(folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": hash_files(folder)}))  # by whoever altered both
    with pytest.raises(EngineError, match=r"refuses the plan of .*model\.plan \(Serialization .*\); build it again"):
        open_engine(folder)


def test_host_code_runs_only_where_it_was_chosen(
    half_alignment: ExportedGraph, gpu: SimpleNamespace, tmp_path: Path
) -> None:
    store = EngineStore(tmp_path)
    store.choose("tensorrt", {"version_compatible": True, "hardware": "ampere_plus"})
    folder = store.build(half_alignment, "tensorrt", "fp16")
    open_engine(folder).close()
    plain = {**read_manifest(folder).options, "version_compatible": False}
    with pytest.raises(EngineError, match="Host code is not allowed"):
        open_engine(copied(folder, tmp_path / "plain", options=plain))


def test_a_plan_with_another_boundary_is_not_opened(plan: Path, tmp_path: Path) -> None:
    contract = read_manifest(plan).contract
    narrow = dataclasses.replace(contract, outputs=contract.outputs[:-1])
    says = r"has \('gives', 'float32', \(-1, 16, 16\)\) as WEIGHT, its manifest nothing; build the engine again"
    with pytest.raises(EngineError, match=says):
        open_engine(copied(plan, tmp_path / "a", contract=narrow))


@pytest.mark.parametrize("version", ["9.3.0", "10.2.0.19", "12.0.0"])
def test_other_versions_of_tensorrt_are_refused(
    version: str, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.trt, "__version__", version)
    with pytest.raises(UnsupportedError, match=rf"takes TensorRT 10\.3 to 11\.x, not {version}; install another"):
        TensorrtRuntime().versions()


@pytest.mark.parametrize("version", ["10.15.0", "10.16.1.11", "11.99.0"])
def test_versions_of_tensorrt_that_are_taken(
    version: str, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.trt, "__version__", version)
    assert TensorrtRuntime().versions()["tensorrt"] == version


def imports_of(module: str) -> set[str]:
    """Return our modules that a module imports, anywhere in it, and those that they import."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    nodes = ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    direct = {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    ours = {name for name in direct if name.startswith(("engines.", "outfitgan."))} - {"outfitgan.errors"}
    return ours.union(*map(imports_of, ours))


def test_the_digest_is_of_all_that_the_plugin_comes_from() -> None:
    plugin = "engines.tensorrt.plugin"
    assert set(tensorrt_runtime._KERNEL_SOURCES) == {plugin} | imports_of(plugin)


@pytest.mark.parametrize(
    "changed", range(len(tensorrt_runtime._KERNEL_SOURCES)), ids=lambda place: tensorrt_runtime._KERNEL_SOURCES[place]
)
def test_another_kernel_builds_anew(
    changed: int, half_alignment: ExportedGraph, store: EngineStore, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = TensorrtRuntime().versions()
    assert store.find(half_alignment, "tensorrt", "fp16") == plan
    sources = list(tensorrt_runtime._KERNEL_SOURCES)
    sources[changed] = "outfitgan.errors"
    monkeypatch.setattr(tensorrt_runtime, "_KERNEL_SOURCES", tuple(sources))
    assert TensorrtRuntime().versions()["correlate"] != before["correlate"]
    assert store.find(half_alignment, "tensorrt", "fp16") is None


def test_another_compiler_builds_anew(
    half_alignment: ExportedGraph, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, copy = EngineStore(tmp_path), shutil.copytree(plan, tmp_path / plan.name)
    compiler = read_manifest(plan).versions["triton"]
    assert {kernel["compiler"] for kernel in read_manifest(plan).details["kernels"]} == {f"triton {compiler}"}
    monkeypatch.setattr(tensorrt_runtime, "package_version", lambda name: "3.99.0")
    assert store.find(half_alignment, "tensorrt", "fp16") is None
    assert store.build(half_alignment, "tensorrt", "fp16") != copy


def test_a_box_without_the_compiler_opens_a_plan(plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(tensorrt_runtime, "package_version", absent)
    assert "triton" not in TensorrtRuntime().versions()
    copy = shutil.copytree(plan, tmp_path / plan.name)
    open_engine(copy).close()
    assert find_engines(tmp_path, "tensorrt", "fp16") == {"alignment_bag": copy}


# Other weights


def test_refit(
    half_alignment: ExportedGraph, retrained_alignment: ExportedGraph, gpu: SimpleNamespace, tmp_path: Path
) -> None:
    store = EngineStore(tmp_path)
    store.choose("tensorrt", {"refittable": True})
    built = store.build(half_alignment, "tensorrt", "fp16")
    builders = len(gpu.trt.Builder.made)
    other = store.refit(built, retrained_alignment)
    assert len(gpu.trt.Builder.made) == builders
    assert other != built
    assert store.find(retrained_alignment, "tensorrt", "fp16") == other
    manifest = read_manifest(other)
    assert manifest.graph_sha256 == retrained_alignment.sha256
    assert manifest.details["refitted"] == read_manifest(built).key
    feeds = adversarial_inputs(half_alignment.contract, 2, seed=3)[0][1]
    with open_engine(built) as first, open_engine(other) as second:
        assert not np.array_equal(first.run(feeds)["WARPED"], second.run(feeds)["WARPED"])
    assert store.refit(other, half_alignment) == built  # it was there, and a refitted engine can be refitted
    shutil.rmtree(built)
    assert read_manifest(store.refit(other, half_alignment)).details["refitted"] == manifest.key


def test_a_refit_that_does_not_fit_leaves_nothing(
    half_alignment: ExportedGraph, half_generator: ExportedGraph, retrained_alignment: ExportedGraph, tmp_path: Path
) -> None:
    store = EngineStore(tmp_path)
    plain = store.build(half_alignment, "tensorrt", "fp16")
    with pytest.raises(EngineError, match="alignment_bag takes no other weights; build it with refittable = true"):
        store.refit(plain, retrained_alignment)
    with pytest.raises(EngineError, match="is no engine of generator_bag with this store's options; build it"):
        store.refit(plain, half_generator)
    store.choose("tensorrt", {"refittable": True})
    refittable = store.build(half_alignment, "tensorrt", "fp16")
    model = onnx.load(retrained_alignment.path)
    model.graph.initializer[0].name = "another"
    path = tmp_path / "other.onnx"
    onnx.save(model, path)
    strange = dataclasses.replace(retrained_alignment, path=path, sha256=sha256_of(path))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(
        EngineError, match=r"of alignment_bag do not fit the engine \(the graph: No weights .*\); build it"
    ):
        store.refit(refittable, strange)
    assert sorted(tmp_path.iterdir()) == before
