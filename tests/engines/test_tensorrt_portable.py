"""The tensorrt runtime on a TensorRT without our plugin, as JetPack 6 has it: our own code over a simulated one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from simulation import simulated

from engines.engine_store import EngineStore
from engines.manifest import Profile, read_manifest
from engines.registry import load_runtime, open_engine
from engines.tensorrt import tensorrt_runtime
from export.boundary import AlignmentGraph
from export.exported import ExportedGraph
from export.exporter import export_graph
from export.forms import PORTABLE
from export.onnx_runner import onnx_runner
from export.parity import compare, parity_feeds, shortfalls
from outfitgan.config import load_preset
from outfitgan.errors import EngineError, UnsupportedError
from outfitgan.networks.alignment import SemanticAlignment


@pytest.fixture(scope="module")
def portable_alignment(half_alignment: ExportedGraph, tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    torch.manual_seed(7)
    module = AlignmentGraph(SemanticAlignment(load_preset("tiny").model.generator))
    path = tmp_path_factory.mktemp("portable") / "alignment_bag.fp16.onnx"
    return export_graph(module, half_alignment.contract, "fp16", path, form=PORTABLE)


@pytest.fixture
def jetpack(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """TensorRT 10.3 on an Orin: no `tensorrt.plugin`, no kernel compiler, and what is younger left out."""
    with simulated() as modules:
        modules.cuda.NAME, modules.cuda.CAPABILITY = "Simulated Orin", (8, 7)
        monkeypatch.setattr(modules.trt, "__version__", "10.3.0")
        monkeypatch.setitem(sys.modules, "tensorrt.plugin", None)
        monkeypatch.delattr(modules.trt, "plugin")
        monkeypatch.setattr(modules.trt, "HardwareCompatibilityLevel", Enum("Level", ["NONE", "AMPERE_PLUS"]))
        monkeypatch.setattr(modules.trt, "SerializationFlag", Enum("Flag", ["EXCLUDE_WEIGHTS"]))
        find = tensorrt_runtime.find_spec
        monkeypatch.setattr(tensorrt_runtime, "find_spec", lambda name: None if name == "triton" else find(name))
        yield modules


@pytest.mark.parametrize(
    ("version", "form"), [("10.3.0.26", "portable"), ("10.14.1", "portable"), ("10.15.0", "standard")]
)
def test_the_version_says_the_form(version: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with simulated() as modules:
        monkeypatch.setattr(modules.trt, "__version__", version)
        runtime = load_runtime("tensorrt")
        assert runtime.form() == form
        assert ("correlate" in runtime.versions()) == (form == "standard")
    assert load_runtime("onnxruntime").form() == "standard"


def test_a_plan_without_the_plugin(portable_alignment: ExportedGraph, jetpack: SimpleNamespace, tmp_path: Path) -> None:
    folder = EngineStore(tmp_path).build(portable_alignment, "tensorrt", "fp16")
    manifest = read_manifest(folder)
    assert manifest.profile == Profile(1, 1, 2)
    assert manifest.details["kernels"] == []
    assert "Correlate" not in manifest.details["layers"]
    assert manifest.versions["tensorrt"] == "10.3.0"
    assert "engines.tensorrt.plugin" not in sys.modules
    contract, expected = portable_alignment.contract, onnx_runner(portable_alignment.path, portable_alignment.contract)
    with open_engine(folder) as engine:
        for feeds in parity_feeds(contract):
            assert not shortfalls(compare(expected(feeds), engine.run(feeds), contract), contract, "fp16")


def test_a_graph_of_the_other_form_is_refused(
    portable_alignment: ExportedGraph, half_alignment: ExportedGraph, jetpack: SimpleNamespace, tmp_path: Path
) -> None:
    says = (
        r"tensorrt 10\.3\.0 builds from portable graphs, and .*onnx is standard; export the run with '--form portable'"
    )
    with pytest.raises(UnsupportedError, match=says):
        EngineStore(tmp_path).build(half_alignment, "tensorrt", "fp16")
    jetpack.trt.__version__ = "11.4.0"
    with pytest.raises(UnsupportedError, match=r"builds from standard graphs, and .*onnx is portable; export the run"):
        EngineStore(tmp_path).build(portable_alignment, "tensorrt", "fp16")


def test_what_tensorrt_10_3_cannot_do_is_said(
    portable_alignment: ExportedGraph, jetpack: SimpleNamespace, tmp_path: Path
) -> None:
    store = EngineStore(tmp_path)
    store.choose("tensorrt", {"hardware": "same_compute_capability"})
    with pytest.raises(EngineError, match=r"TensorRT 10\.3\.0 builds no plans for hardware = same_compute_capability"):
        store.build(portable_alignment, "tensorrt", "fp16")
    store.choose("tensorrt", {"hardware": "this_gpu", "refittable": True})
    with pytest.raises(EngineError, match=r"TensorRT 10\.3\.0 keeps no refittable plans; build it with"):
        store.build(portable_alignment, "tensorrt", "fp16")
    assert [path.name for path in tmp_path.iterdir()] == ["tensorrt.toml"]
