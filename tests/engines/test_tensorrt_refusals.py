"""What the tensorrt runtime refuses to build, and why: our own code over a simulated TensorRT."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from simulation import simulated

from engines.engine_store import EngineStore
from engines.manifest import Profile
from engines.tensorrt import tactics, tensorrt_runtime
from export.exported import ExportedGraph
from outfitgan.errors import ConfigError, EngineError, UnsupportedError
from outfitgan.files import sha256_of


def test_a_gpu_before_ampere_is_refused(half_alignment: ExportedGraph, tmp_path: Path) -> None:
    with simulated() as modules:
        modules.cuda.CAPABILITY = (7, 5)
        with pytest.raises(EngineError, match=r"needs compute capability 8\.0 or newer \(Ampere\), not 7\.5"):
            EngineStore(tmp_path).build(half_alignment, "tensorrt", "fp16")


def test_precision_is_the_graphs(half_alignment: ExportedGraph, alignment: ExportedGraph, store: EngineStore) -> None:
    with pytest.raises(UnsupportedError, match="alignment_bag in its graph's precision, fp16, not in fp32; use that"):
        store.build(half_alignment, "tensorrt", "fp32")
    with pytest.raises(UnsupportedError, match="in its graph's precision, fp32, not in bf16"):
        store.build(alignment, "tensorrt", "bf16")


def test_a_graph_without_the_plugins_node_is_refused(
    half_alignment: ExportedGraph, store: EngineStore, plan: Path, gpu: SimpleNamespace
) -> None:
    """Without the plugin the parser imports the node's function body, which is no error to it."""
    plugins = gpu.trt.plugin.PLUGINS
    held = plugins.pop("outfitgan::Correlate")  # registered when the plan was built, once a process
    try:
        with pytest.raises(EngineError, match="took 0 of the 1 Correlate nodes of alignment_bag for the plugin; it"):
            store.build(half_alignment, "tensorrt", "fp16", Profile(1, 1, 3))
    finally:
        plugins["outfitgan::Correlate"] = held


@pytest.mark.parametrize("other", ["{}_0", "no{}", "{}.1", "a/{}"])
def test_a_plan_without_the_plugin_is_refused(
    other: str, half_alignment: ExportedGraph, store: EngineStore, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does another layer pass for it whose name contains the plugin's."""
    described = gpu.trt.build._described

    def hidden(layer: Any, config: Any) -> Any:
        told = described(layer, config)
        if layer.type == gpu.trt.LayerType.PLUGIN_V3:
            return {**told, "Name": other.format(layer.name), "Metadata": ""}
        return told

    monkeypatch.setattr(gpu.trt.build, "_described", hidden)
    with pytest.raises(EngineError, match="The plan of alignment_bag lacks the plugin's layer node__symbolic; build"):
        store.build(half_alignment, "tensorrt", "fp16", Profile(1, 1, 3))


def test_a_plan_in_another_precision_is_refused(
    half_alignment: ExportedGraph, store: EngineStore, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = gpu.trt.build._described

    def widened(layer: Any, config: Any) -> Any:
        told = described(layer, config)
        return {**told, "Weights": {"Type": "Float"}} if "Weights" in told else told

    monkeypatch.setattr(gpu.trt.build, "_described", widened)
    with pytest.raises(EngineError, match="has its weights in Float, not in fp16; TensorRT has built another"):
        store.build(half_alignment, "tensorrt", "fp16", Profile(1, 1, 3))


def test_a_network_in_another_precision_is_refused(
    half_alignment: ExportedGraph, alignment: ExportedGraph, store: EngineStore
) -> None:
    """An FP32 graph under an FP16 graph's name."""
    wrong = dataclasses.replace(alignment, precision="fp16")
    with pytest.raises(EngineError, match="of alignment_bag computes in FLOAT, not in fp16; export the graph again"):
        store.build(wrong, "tensorrt", "fp16")


def test_a_plan_that_tells_of_no_layers_is_refused(
    half_alignment: ExportedGraph, store: EngineStore, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.trt.build, "_described", lambda layer, config: layer.name)
    with pytest.raises(EngineError, match="gives names of layers only; the plan was not built in detail"):
        store.build(half_alignment, "tensorrt", "fp16", Profile(1, 1, 3))


def test_a_graph_that_does_not_parse_is_refused(
    half_alignment: ExportedGraph, store: EngineStore, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, model: str) -> bool:
        self._errors += [gpu.trt.ParserError("No importer registered for op: Foo."), gpu.trt.ParserError("And more.")]
        return False

    monkeypatch.setattr(gpu.trt.OnnxParser, "parse_from_file", refuse)
    reason = r"does not read .*\.onnx: the graph: No importer registered for op: Foo; the graph: And more\.$"
    with pytest.raises(EngineError, match=reason):
        store.build(half_alignment, "tensorrt", "fp16", Profile(1, 1, 3))


def test_a_plugin_that_fails_says_why(half_alignment: ExportedGraph, store: EngineStore, tmp_path: Path) -> None:
    """TensorRT would only say that a plugin failed."""
    model = onnx.load(half_alignment.path)
    node = next(node for node in model.graph.node if node.op_type == "Correlate")
    next(attribute for attribute in node.attribute if attribute.name == "temperature").f = -1
    path = tmp_path / "cold.onnx"
    onnx.save(model, path)
    cold = dataclasses.replace(half_alignment, path=path, sha256=sha256_of(path))
    with pytest.raises(ConfigError, match=r"kernel needs a finite temperature above 0, not -1\.0"):
        store.build(cold, "tensorrt", "fp16")


def test_stopping_while_a_kernel_is_compiled_stops_the_build(
    half_generator: ExportedGraph, store: EngineStore, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self: tactics.Kernels, correlation: tactics.Correlation) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tactics.Kernels, "_compile", stopped)
    model = onnx.load(half_generator.path)
    node = next(node for node in model.graph.node if node.op_type == "Correlate")
    next(attribute for attribute in node.attribute if attribute.name == "temperature").f = 0.03  # not compiled yet
    path = half_generator.path.with_name("warm.onnx")
    onnx.save(model, path)
    warm = dataclasses.replace(half_generator, path=path, sha256=sha256_of(path))
    with pytest.raises(KeyboardInterrupt):
        store.build(warm, "tensorrt", "fp16")


def test_what_building_needs_is_said_first(
    half_alignment: ExportedGraph, store: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = tensorrt_runtime.find_spec
    monkeypatch.setattr(tensorrt_runtime, "find_spec", lambda name: None if name == "triton" else find(name))
    with pytest.raises(EngineError, match="needs the package triton; pip install"):
        store.build(half_alignment, "tensorrt", "fp16", Profile(1, 1, 5))
