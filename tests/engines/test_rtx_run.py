"""Plans of the real builder on a simulated GPU: measured, opened, run, and their compiled kernels kept."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from rtx_cases import needs_rtx, spoilt

from engines.engine_store import EngineStore
from engines.manifest import Profile, hash_files, read_manifest, write_manifest
from engines.registry import open_engine
from engines.verification import verify
from export.exported import ExportedGraph
from export.onnx_runner import onnx_runner
from export.parity import adversarial_inputs
from outfitgan.contracts import Arrays
from outfitgan.errors import EngineError, InputError, UnsupportedError

pytestmark = needs_rtx


@pytest.fixture(autouse=True)
def _forgotten(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    rtx = request.getfixturevalue("gpu").rtx
    rtx.PLANS.clear()
    rtx.COMPILED.clear()
    rtx.IRuntimeConfig.made.clear()


def loaded(gpu: SimpleNamespace, plan: bytes, graph: ExportedGraph, profile: Profile) -> None:
    """Tell the GPU which graph a plan is of."""
    batches = profile.min_batch, profile.opt_batch, profile.max_batch
    shapes = {spec.name: [(batch, *spec.shape) for batch in batches] for spec in graph.contract.inputs}
    gpu.rtx.PLANS[hashlib.sha256(plan).hexdigest()] = gpu.rtx.Plan(graph.path.read_bytes(), shapes)


@pytest.fixture
def unverified(rtx_plan: Path, half_generator: ExportedGraph, gpu: SimpleNamespace, tmp_path: Path) -> Path:
    """An engine that has never run, and a GPU that knows its plan."""
    loaded(gpu, (rtx_plan / "model.plan").read_bytes(), half_generator, Profile(1, 1, 8))
    return Path(shutil.copytree(rtx_plan, tmp_path / rtx_plan.name))


@pytest.fixture
def verified(unverified: Path) -> Path:
    verify(unverified)
    return unverified


@pytest.fixture
def retrained(half_generator: ExportedGraph, tmp_path: Path) -> ExportedGraph:
    """A generator of other weights."""

    def shift(model: onnx.ModelProto) -> None:
        for weight in [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4]:
            shifted = numpy_helper.to_array(weight)[::-1] * np.float16(2)
            weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(shifted), weight.name))

    return spoilt(half_generator, tmp_path / "retrained.onnx", shift)


def rewritten(folder: Path, **changes: Any) -> Path:
    write_manifest(replace(read_manifest(folder), **changes), folder)
    return folder


def feeds_of(graph: ExportedGraph, batch: int, seed: int = 5) -> Arrays:
    return adversarial_inputs(graph.contract, batch, seed)[0][1]


def exactly(sentence: str) -> str:
    return f"^{re.escape(sentence)}$"


# Measuring


def test_an_engine_that_never_ran_is_not_opened(unverified: Path, gpu: SimpleNamespace) -> None:
    says = (
        f"The engine {unverified} is not verified: it was built where it cannot run, or failed there; "
        f"'outfitgan verify {unverified}' on a machine with the GPU that is to run it measures its accuracy."
    )
    with pytest.raises(EngineError, match=exactly(says)):
        open_engine(unverified)
    assert not gpu.rtx.IRuntimeConfig.made


def test_verified_it_is_opened_and_runs(unverified: Path, half_generator: ExportedGraph, gpu: SimpleNamespace) -> None:
    before = read_manifest(unverified)
    manifest = verify(unverified)
    assert read_manifest(unverified) == manifest
    assert manifest.parity == {"IMAGE": {"max_abs": 0.0, "psnr_db": 200.0, "nan_count": 0, "agreement": 1.0}}
    assert manifest.device == {"name": "Simulated A10", "compute_capability": "8.6", "driver": "13.0"}
    assert replace(manifest, verified=False, parity={}, device=before.device) == before
    run = onnx_runner(half_generator.path, half_generator.contract)
    with open_engine(unverified) as engine:
        for batch in (1, 2, 8, 3):
            feeds = feeds_of(half_generator, batch, seed=batch)
            assert np.array_equal(engine.run(feeds)["IMAGE"], run(feeds)["IMAGE"])
        with pytest.raises(InputError, match="one batch size from 1 to 8"):
            engine.run(feeds_of(half_generator, 9))
    assert not gpu.cuda.ALLOCATED


def test_what_is_compared_is_measured_at_batches_1_2_and_the_largest(
    unverified: Path, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an engine that is wrong in one row of its largest batch alone is found out."""
    verify(unverified)
    assert {shape[0] for name, shape in gpu.rtx.COMPILED if name == "SOURCE"} == {1, 2, 8}
    compute = gpu.trt.run.IExecutionContext._compute

    def wrong_in_one_row(self: Any, shapes: dict[str, tuple[int, ...]]) -> None:
        compute(self, shapes)
        if shapes["SOURCE"][0] == 8:
            self._view("IMAGE", (8, 64, 64, 3))[4] ^= 255

    monkeypatch.setattr(gpu.trt.run.IExecutionContext, "_compute", wrong_in_one_row)
    with pytest.raises(EngineError, match="out of tolerance"):
        verify(unverified)


def test_an_engine_of_other_weights_is_out_of_tolerance(
    unverified: Path, retrained: ExportedGraph, gpu: SimpleNamespace
) -> None:
    before = (unverified / "manifest.json").read_bytes()
    loaded(gpu, (unverified / "model.plan").read_bytes(), retrained, Profile(1, 1, 8))
    says = (
        rf"^The engine {re.escape(str(unverified))} is out of tolerance on Simulated A10: IMAGE: PSNR -?\d+\.\d dB "
        r"\(at least 35\)\. Do not use it there; build another precision, and report it\.$"
    )
    with pytest.raises(EngineError, match=says):
        verify(unverified)
    assert (unverified / "manifest.json").read_bytes() == before
    with pytest.raises(EngineError, match="is not verified"):
        open_engine(unverified)


def test_an_engine_that_fails_where_it_was_right_is_refused_from_then_on(
    verified: Path, retrained: ExportedGraph, gpu: SimpleNamespace
) -> None:
    """As on another card of the same compute capability."""
    open_engine(verified).close()
    loaded(gpu, (verified / "model.plan").read_bytes(), retrained, Profile(1, 1, 8))
    with pytest.raises(EngineError, match="is out of tolerance on Simulated A10"):
        verify(verified)
    assert (read_manifest(verified).verified, read_manifest(verified).parity) == (False, {})
    with pytest.raises(EngineError, match="is not verified"):
        open_engine(verified)


def test_an_fp32_engine_is_held_to_what_fp32_owes(
    rtx_fp32_plan: Path, alignment: ExportedGraph, gpu: SimpleNamespace, tmp_path: Path
) -> None:
    """100 dB, which outputs kept in FP16 would not show."""
    folder = Path(shutil.copytree(rtx_fp32_plan, tmp_path / rtx_fp32_plan.name))
    loaded(gpu, (folder / "model.plan").read_bytes(), alignment, Profile(1, 1, 2))
    assert verify(folder).parity["WARPED"]["psnr_db"] > 100


def test_an_engine_is_verified_again(verified: Path, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.cuda, "DRIVER", 13020)
    assert verify(verified).device["driver"] == "13.2"
    open_engine(verified).close()


@pytest.mark.parametrize(
    ("capability", "way"),
    [
        ((8, 9), "build it for that with --set compute_capabilities=8.9"),
        ((9, 0), "build for tensorrt there"),
    ],
)
def test_a_gpu_of_another_capability_runs_none(
    capability: tuple[int, int], way: str, verified: Path, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.cuda, "CAPABILITY", capability)
    shown = ".".join(map(str, capability))
    says = f"The engine {verified} is for compute capabilities 8.6, not for Simulated A10 ({shown}); {way}."
    with pytest.raises(EngineError, match=exactly(says)):
        open_engine(verified)
    says = f"{verified} cannot be verified here: Simulated A10 has compute capability {shown}, not 8.6."
    with pytest.raises(UnsupportedError, match=exactly(says)):
        verify(verified)


def test_an_engine_is_verified_for_one_kind_of_gpu(
    unverified: Path, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, both = read_manifest(unverified), {"compute_capabilities": ["8.6", "8.9"]}
    rewritten(unverified, options=manifest.options | both, details=manifest.details | both)
    verify(unverified)
    monkeypatch.setattr(gpu.cuda, "NAME", "Simulated L4")
    monkeypatch.setattr(gpu.cuda, "CAPABILITY", (8, 9))
    says = (
        f"The engine {unverified} was verified on Simulated A10 (8.6), not on a GPU as Simulated L4 (8.9); run "
        f"'outfitgan verify {unverified}' here."
    )
    with pytest.raises(EngineError, match=exactly(says)):
        open_engine(unverified)
    assert verify(unverified).device["compute_capability"] == "8.9"
    open_engine(unverified).close()


def test_references_that_are_not_readable_are_said(unverified: Path) -> None:
    path = unverified / "references.npz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(
        EngineError, match=exactly(f"{path} was altered after the build (its SHA-256 differs); build the engine again.")
    ):
        verify(unverified)
    rewritten_files(unverified)
    with pytest.raises(
        EngineError, match=rf"^{re.escape(str(path))} is not readable \(.*\); build the engine again\.$"
    ):
        verify(unverified)
    np.savez_compressed(path, OTHER=np.zeros(1))
    rewritten_files(unverified)
    with pytest.raises(EngineError, match=r"is not readable \(.*IMAGE"):
        verify(unverified)
    path.unlink()
    rewritten_files(unverified)
    says = (
        f"The engine {unverified} keeps no outputs to compare with: it was measured when it was built, where it runs."
    )
    with pytest.raises(EngineError, match=exactly(says)):
        verify(unverified)


def rewritten_files(folder: Path) -> None:
    """Whoever altered a file altered the manifest as well."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": hash_files(folder)}))


def test_a_plan_that_is_none_is_refused_by_the_library(unverified: Path, gpu: SimpleNamespace) -> None:
    gpu.rtx.PLANS.clear()
    says = (
        rf"^TensorRT for RTX refuses the plan of {re.escape(str(unverified / 'model.plan'))} \(Serialization assertion "
        r"header\.magicTag == kEXPECTED_MAGIC_TAG failed\); build it again on this machine\.$"
    )
    with pytest.raises(EngineError, match=says):
        verify(unverified)
    assert gpu.cuda.depth() == 0


# Building on a machine that has a GPU


@pytest.fixture
def builds_are_loaded(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the real builder makes, the GPU knows."""
    from engines.tensorrt_rtx import rtx_build

    build = rtx_build.build_plan

    def known(graph: ExportedGraph, settings: Any) -> tuple[bytes, dict[str, Any]]:
        plan, details = build(graph, settings)
        loaded(gpu, plan, graph, settings.profile)
        return plan, details

    monkeypatch.setattr(rtx_build, "build_plan", known)


@pytest.mark.usefixtures("builds_are_loaded")
def test_built_beside_a_gpu_it_is_measured_at_once(
    half_alignment: ExportedGraph, gpu: SimpleNamespace, tmp_path: Path
) -> None:
    store = EngineStore(tmp_path)
    store.choose("tensorrt-rtx", {"compute_capabilities": "8.6"})
    folder = store.build(half_alignment, "tensorrt-rtx", "fp16")
    manifest = read_manifest(folder)
    assert (manifest.verified, manifest.device["name"]) == (True, "Simulated A10")
    assert set(manifest.parity) == {"WARPED", "MATCH", "WEIGHT"}
    beside = {path.name for path in tmp_path.iterdir()}
    assert beside == {folder.name, f"{folder.name}.kernels", "tensorrt-rtx.toml"}
    gpu.rtx.COMPILED.clear()
    with open_engine(folder) as engine:
        assert engine.run(feeds_of(half_alignment, 2))["MATCH"].shape == (2, 16, 16, 2)
    assert not gpu.rtx.COMPILED  # what was compiled to measure it is there
    assert verify(folder).verified  # elsewhere it is measured again


@pytest.mark.usefixtures("builds_are_loaded")
def test_built_beside_a_gpu_of_another_kind_it_is_left_unverified(
    half_alignment: ExportedGraph, gpu: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.cuda, "CAPABILITY", (9, 0))
    store = EngineStore(tmp_path)
    store.choose("tensorrt-rtx", {"compute_capabilities": "8.6"})
    manifest = read_manifest(store.build(half_alignment, "tensorrt-rtx", "fp16"))
    assert (manifest.verified, manifest.parity, manifest.device) == (False, {}, {"name": "none yet"})
