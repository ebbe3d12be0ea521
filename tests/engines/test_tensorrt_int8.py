"""INT8 plans of a tiny generator: our own code over a simulated TensorRT."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from engines.engine_store import EngineStore
from engines.manifest import Profile, read_manifest
from engines.registry import engine_precision, graph_precision, open_engine
from export.exported import ExportedGraph
from export.parity import adversarial_inputs
from export.qdq import check_quantised
from outfitgan.errors import EngineError, UnsupportedError


def test_an_int8_plan(rounded: ExportedGraph, store: EngineStore, gpu: SimpleNamespace) -> None:
    folder = store.build(rounded, "tensorrt", "int8")
    manifest = read_manifest(folder)
    assert manifest.precision == "int8"
    assert manifest.details["layers"]["CaskConvolution"] == len(check_quantised(onnx.load(rounded.path)))
    assert {kernel["dtype"] for kernel in manifest.details["kernels"]} == {"fp16"}  # of the correlation
    feeds = adversarial_inputs(rounded.contract, 2, seed=3)[0][1]
    session = onnxruntime.InferenceSession(str(rounded.path), providers=["CPUExecutionProvider"])
    with open_engine(folder) as engine:
        assert np.array_equal(engine.run(feeds)["IMAGE"], session.run(["IMAGE"], feeds)[0])


def retyped(gpu: SimpleNamespace, wanted: Callable[[int], str]) -> Callable[[Any, Any], Any]:
    """Return what describes a layer, with the type that `wanted` gives the n-th layer with weights."""
    described, count = gpu.trt.build._described, iter(range(10_000))

    def describe(layer: Any, config: Any) -> Any:
        told = described(layer, config)
        return {**told, "Weights": {"Type": wanted(next(count))}} if "Weights" in told else told

    return describe


def test_a_convolution_may_stay_in_fp16(
    rounded: ExportedGraph, store: EngineStore, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of three channels may."""
    monkeypatch.setattr(gpu.trt.build, "_described", retyped(gpu, lambda place: "Half" if place == 0 else "Int8"))
    assert store.build(rounded, "tensorrt", "int8", Profile(1, 1, 2)).is_dir()


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (lambda place: "Half", "The plan of generator_bag has no weights in INT8; build it in fp16"),
        (lambda place: "Float" if place == 1 else "Int8", "has its weights in Float, not in int8-fp16; TensorRT has"),
    ],
)
def test_a_plan_that_is_no_int8_is_refused(
    wanted: Callable[[int], str],
    says: str,
    rounded: ExportedGraph,
    store: EngineStore,
    gpu: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu.trt.build, "_described", retyped(gpu, wanted))
    before = sorted(store.root.glob("generator*"))
    with pytest.raises(EngineError, match=says):
        store.build(rounded, "tensorrt", "int8", Profile(1, 1, 3))
    assert sorted(store.root.glob("generator*")) == before


def test_int8_takes_its_own_graph(half_generator: ExportedGraph, rounded: ExportedGraph, store: EngineStore) -> None:
    assert graph_precision("tensorrt", "int8") == "int8-fp16"
    assert engine_precision("collocation", "tensorrt", "int8") == "fp16"
    for graph, precision in ((half_generator, "int8"), (rounded, "fp16")):
        with pytest.raises(UnsupportedError, match=f"in its graph's precision, {graph.precision}, not in {precision}"):
            store.build(graph, "tensorrt", precision)
