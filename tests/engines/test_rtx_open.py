"""What is not opened, run or verified on a machine without a GPU: real plans, and the sentences that a person reads."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rtx_cases import needs_rtx, without_gpu

from engines.engine_store import EngineStore
from engines.manifest import hash_files, read_manifest, write_manifest
from engines.registry import open_engine
from engines.tensorrt_rtx.rtx_runtime import TensorrtRtx
from engines.verification import verify
from export.exported import ExportedGraph
from outfitgan.errors import EngineError, UnsupportedError

pytestmark = needs_rtx

NO_GPU = "Running TensorRT's plans needs the package pycuda; pip install pycuda, beside a CUDA toolkit."


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    without_gpu(monkeypatch)


@pytest.fixture
def engine(rtx_plan: Path, tmp_path: Path) -> Path:
    """A copy for a test to spoil."""
    return Path(shutil.copytree(rtx_plan, tmp_path / rtx_plan.name))


def as_verified(folder: Path, **changes: Any) -> Path:
    """Return the engine as if it had run on some GPU."""
    device = {"name": "NVIDIA A10", "compute_capability": "8.6", "driver": "13.0"}
    write_manifest(replace(read_manifest(folder), verified=True, device=device, **changes), folder)
    return folder


def exactly(sentence: str) -> str:
    return f"^{re.escape(sentence)}$"


def test_an_engine_that_never_ran_is_not_opened(engine: Path) -> None:
    says = (
        f"The engine {engine} is not verified: it was built where it cannot run, or failed there; "
        f"'outfitgan verify {engine}' on a machine with the GPU that is to run it measures its accuracy."
    )
    with pytest.raises(EngineError, match=exactly(says)):
        open_engine(engine)


def test_nothing_is_verified_without_a_gpu(engine: Path) -> None:
    with pytest.raises(UnsupportedError, match=exactly(f"{engine} cannot be verified here: {NO_GPU}")):
        verify(engine)
    assert not read_manifest(engine).verified


def test_a_verified_engine_does_not_run_without_a_gpu(engine: Path) -> None:
    with pytest.raises(EngineError, match=exactly(NO_GPU)):
        open_engine(as_verified(engine))


def test_a_driver_that_shows_no_gpu_is_said(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that was given none."""
    driver = ModuleType("pycuda.driver")
    driver.Error = OSError  # type: ignore[attr-defined]
    driver.init = lambda: None  # type: ignore[attr-defined]
    driver.Device = type("Device", (), {"count": staticmethod(lambda: 0)})  # type: ignore[attr-defined]
    package = ModuleType("pycuda")
    package.driver = driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    says = "The NVIDIA driver shows no GPU; check CUDA_VISIBLE_DEVICES and nvidia-smi."
    with pytest.raises(UnsupportedError, match=exactly(f"{engine} cannot be verified here: {says}")):
        verify(engine)


@pytest.mark.parametrize("broken", ["altered", "truncated"])
def test_a_broken_plan_is_not_opened(broken: str, engine: Path) -> None:
    plan = engine / "model.plan"
    content = plan.read_bytes()
    plan.write_bytes(content[:-7] if broken == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    says = exactly(f"{plan} was altered after the build (its SHA-256 differs); build the engine again.")
    for use in (open_engine, verify):
        with pytest.raises(EngineError, match=says):
            use(engine)


def test_a_broken_engine_is_built_again(
    rtx_plan: Path, half_generator: ExportedGraph, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def build(self: TensorrtRtx, graph: ExportedGraph, folder: Path, precision: str, settings: Any) -> dict[str, Any]:
        built.append(graph.name)
        shutil.copy(rtx_plan / "model.plan", folder)
        return read_manifest(rtx_plan).details

    monkeypatch.setattr(TensorrtRtx, "build", build)
    store = EngineStore(engine.parent)
    store.choose("tensorrt-rtx", {"compute_capabilities": "8.6"})
    (engine / "model.plan").write_bytes(b"")
    assert store.build(half_generator, "tensorrt-rtx", "fp16") == engine
    assert built == ["generator_bag"]
    assert read_manifest(engine).files["model.plan"] == read_manifest(rtx_plan).files["model.plan"]


def test_a_plan_of_another_version_is_not_opened(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorrtRtx, "device", lambda self: {"name": "NVIDIA A10", "compute_capability": "8.6"})
    installed = version("tensorrt-rtx-cu13")
    says = f"The engine {engine} is of TensorRT for RTX 1.6.0.1, and {installed} is installed; build it here."
    with pytest.raises(EngineError, match=exactly(says)):
        open_engine(as_verified(engine, versions={"tensorrt_rtx": "1.6.0.1"}))


@pytest.mark.parametrize(
    ("value", "says"),
    [("yes", "verified is neither true nor false"), (None, "verified is neither true nor false")],
)
def test_a_manifest_says_whether_its_engine_was_verified(value: Any, says: str, engine: Path) -> None:
    path = engine / "manifest.json"
    content = json.loads(path.read_text())
    assert content["verified"] is False
    path.write_text(json.dumps(content | {"verified": value}))
    with pytest.raises(EngineError, match=exactly(f"The engine's manifest is not readable ({says}); build it again.")):
        read_manifest(engine)


def test_an_engine_that_was_measured_when_built_has_nothing_to_compare_with(
    alignment: ExportedGraph, built: EngineStore
) -> None:
    folder = built.build(alignment, "onnxruntime", "fp32")
    says = f"The engine {folder} keeps no outputs to compare with: it was measured when it was built, where it runs."
    with pytest.raises(EngineError, match=exactly(says)):
        verify(folder)


def test_references_are_hashed_with_the_plan(engine: Path) -> None:
    assert set(hash_files(engine)) == set(read_manifest(engine).files) == {"model.plan", "references.npz"}


def test_what_runs_a_plan_imports_no_builder(engine: Path) -> None:
    """A box with a GPU has neither torch nor onnx."""
    code = (
        "import pathlib, sys\n"
        "from engines.registry import open_engine\n"
        "from outfitgan.errors import EngineError\n"
        "try:\n"
        f"    open_engine(pathlib.Path({str(as_verified(engine))!r}))\n"
        "except EngineError as error:\n"
        "    names = ('torch', 'onnx', 'onnxscript', 'onnxruntime', 'engines.tensorrt_rtx.rtx_build', 'pydantic')\n"
        "    print([name for name in names if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
