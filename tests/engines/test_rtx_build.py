"""Real plans of TensorRT for RTX, built as on a machine without a GPU, and what their manifests say."""

from __future__ import annotations

import logging
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from rtx_cases import CAPABILITY, correlation, listened, needs_rtx, settings, table_of, without_gpu

from engines.engine_store import EngineStore
from engines.manifest import MANIFEST, Profile, read_manifest
from engines.registry import engine_precision
from engines.tensorrt_rtx.rtx_options import DEFAULT_CAPABILITIES
from engines.tensorrt_rtx.rtx_runtime import TensorrtRtx
from export.exported import ExportedGraph
from export.onnx_runner import onnx_runner
from export.parity import adversarial_inputs
from export.qdq import check_quantised
from outfitgan.errors import EngineError

pytestmark = needs_rtx

GRAPHS = {
    "half_generator": (1, 8),
    "half_alignment": (1, 2),
    "half_outfit_graph": (1, 8),
    "half_collocation": (0, 8),
    "half_mask_graph": (0, 8),
}
"""Fixture -> its correlations and the largest batch."""

FUSED = re.compile("_gemm_mha")


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    without_gpu(monkeypatch)


def test_a_plan_and_its_manifest(rtx_plan: Path, half_generator: ExportedGraph) -> None:
    manifest = read_manifest(rtx_plan)
    assert rtx_plan.name == f"generator_bag.tensorrt-rtx.fp16.{manifest.key[:12]}"
    assert set(manifest.files) == {"model.plan", "references.npz"}
    assert {path.name for path in rtx_plan.iterdir()} == {*manifest.files, MANIFEST}
    assert manifest.versions == {"tensorrt_rtx": version("tensorrt-rtx-cu13")}
    assert manifest.device == {"name": "none yet"}
    assert (manifest.verified, manifest.parity) == (False, {})
    assert (manifest.graph_sha256, manifest.precision) == (half_generator.sha256, "fp16")
    assert manifest.options == {
        "compute_capabilities": ["8.6"],
        "correlation": "fused",
        "specialization": "eager",
        "cuda_graphs": "off",
    }
    assert manifest.details["compute_capabilities"] == ["8.6"]
    assert manifest.details["activation_bytes"] > 1_000_000


@pytest.mark.parametrize("name", GRAPHS)
def test_every_fp16_graph_is_built_fused(name: str, rtx_store: EngineStore, request: pytest.FixtureRequest) -> None:
    graph: ExportedGraph = request.getfixturevalue(name)
    correlations, largest = GRAPHS[name]
    manifest = read_manifest(rtx_store.build(graph, "tensorrt-rtx", "fp16"))
    assert manifest.profile == Profile(1, 1, largest)
    details = manifest.details
    kernels = [layer for layer in details["layer_table"] if FUSED.search(layer["name"])]
    assert details["fused_correlations"] == len(kernels) == correlations
    for kernel in kernels:
        assert {text.partition(" ")[0] for text in kernel["inputs"] + kernel["outputs"]} == {"Half"}
        assert any("(Correlate)" in node for node in kernel["nodes"])
    assert sum(details["layers"].values()) == len(details["layer_table"])
    assert details["int8_convolutions"] == 0
    convolutions = {node.name for node in onnx.load(graph.path).graph.node if node.op_type == "Conv"}
    assert details["convolutions"] >= len(convolutions) > 0


def test_every_convolution_is_among_those_that_are_checked(rtx_plan: Path, half_generator: ExportedGraph) -> None:
    """By TensorRT's words for them, which are found in another way than the checks do: 4-D weights in FP16."""
    layers = read_manifest(rtx_plan).details["layer_table"]
    multiplied = [layer for layer in layers if layer["kind"] in ("correlation", "gemm", "runtime_fusion")]
    found = {node for layer in multiplied for node in layer["nodes"]}
    convolutions = {node.name for node in onnx.load(half_generator.path).graph.node if node.op_type == "Conv"}
    assert convolutions <= found
    assert {layer["constants"][0].partition(" ")[0] for layer in multiplied} == {"Half"}


def test_fp32_is_where_the_graph_has_it(rtx_plan: Path, half_generator: ExportedGraph) -> None:
    """In the correlation's norms, and at the boundary of images in levels."""
    boundary = boundary_nodes(onnx.load(half_generator.path).graph)
    found = set()
    for layer in read_manifest(rtx_plan).details["layer_table"]:
        tensors = layer["inputs"] + layer["outputs"]
        if not any(text.startswith("Float ") for text in tensors):
            continue
        kinds = {
            "correlation": any("(Correlate)" in node for node in layer["nodes"]) and not FUSED.search(layer["name"]),
            "boundary": bool(boundary.intersection(layer["nodes"])) or any("UInt8" in text for text in tensors),
        }
        assert any(kinds.values()), layer
        found |= {kind for kind, given in kinds.items() if given}
    assert found == {"correlation", "boundary"}


def boundary_nodes(graph: onnx.GraphProto) -> set[str]:
    """Return the elementwise nodes that end in an output."""
    makers = {name: node for node in graph.node for name in node.output}
    ways, found = [makers[info.name] for info in graph.output], set()
    while ways:
        node = ways.pop()
        if node.op_type in ("Cast", "Round", "Clip", "Transpose", "Add", "Mul", "Tanh"):
            found.add(node.name)
            ways += [makers[name] for name in node.input if name in makers]
    return found


def test_references_are_what_the_graph_gives(rtx_plan: Path, half_generator: ExportedGraph) -> None:
    run = onnx_runner(half_generator.path, half_generator.contract)
    outputs = [run(feeds)["IMAGE"] for _, feeds in adversarial_inputs(half_generator.contract, 1, 0)]
    with np.load(rtx_plan / "references.npz") as stored:
        assert set(stored) == {"IMAGE"}
        assert np.array_equal(stored["IMAGE"], np.concatenate(outputs))


def test_features_are_kept_in_fp16(rtx_store: EngineStore, half_alignment: ExportedGraph) -> None:
    folder = rtx_store.build(half_alignment, "tensorrt-rtx", "fp16")
    with np.load(folder / "references.npz") as stored:
        assert {name: stored[name].dtype.name for name in stored} == {
            "WARPED": "float16",
            "WEIGHT": "float16",
            "MATCH": "int32",
        }


def test_an_int8_plan(rounded: ExportedGraph, rtx_store: EngineStore) -> None:
    details = read_manifest(rtx_store.build(rounded, "tensorrt-rtx", "int8")).details
    wanted = len(check_quantised(onnx.load(rounded.path)))
    assert details["int8_convolutions"] == wanted > 20
    assert details["fused_correlations"] == 1
    assert engine_precision("collocation", "tensorrt-rtx", "int8") == "fp16"


def test_turing_multiplies_an_int8_graph_in_fp16(rounded: ExportedGraph) -> None:
    from engines.tensorrt_rtx.rtx_build import build_plan

    _, details = build_plan(rounded, settings(compute_capabilities="sm_75"))
    assert (details["int8_convolutions"], details["fused_correlations"]) == (0, 1)


def test_an_fp32_plan_holds_the_matrix_and_says_so(
    alignment: ExportedGraph, rtx_store: EngineStore, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="engines.tensorrt_rtx"):
        details = read_manifest(rtx_store.build(alignment, "tensorrt-rtx", "fp32")).details
    assert details["fused_correlations"] == 0
    megabytes = details["activation_bytes"] // 10**6
    assert megabytes > 0
    (record,) = [record for record in caplog.records if record.name.startswith("engines.tensorrt_rtx")]
    says = f"alignment_bag holds its correlation's matrix: {megabytes} MB of activations at batch 2."
    assert record.getMessage() == says


def test_one_plan_for_all_kinds_of_gpu(half_collocation: ExportedGraph, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    store = EngineStore(tmp_path)
    folder = store.build(half_collocation, "tensorrt-rtx", "fp16", None, lambda what, *told: seen.append(told))
    manifest = read_manifest(folder)
    assert manifest.options["compute_capabilities"] == list(DEFAULT_CAPABILITIES)
    assert manifest.details["compute_capabilities"] == ["8.0", "8.6", "8.9", "12.0", "12.1"]
    totals = {total for _, total in seen}
    assert {total % 6 for total in totals} == {0}  # each by itself, for the checks, then all together
    assert {done * 6 // total for done, total in seen} == {0, 1, 2, 3, 4, 5, 6}


def test_a_build_is_watched_and_can_be_stopped(half_alignment: ExportedGraph, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    store = EngineStore(tmp_path)
    store.choose("tensorrt-rtx", {"compute_capabilities": "8.6,8.9"})
    before = sorted(tmp_path.iterdir())

    def stop_at_the_second(what: str, done: int, total: int) -> None:
        seen.append((what, done, total))
        if done * 3 > total:  # of the builds for 8.6, for 8.9 and for both
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.build_all({"alignment_bag": half_alignment}, "tensorrt-rtx", "fp16", stop_at_the_second)
    assert sorted(tmp_path.iterdir()) == before
    assert seen[0][0].startswith("alignment_bag: ")
    shares = [done / total for _, done, total in seen]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert 1 / 3 < max(shares) <= 2 / 3


def test_an_engine_is_not_built_twice(
    rtx_plan: Path, rtx_store: EngineStore, half_generator: ExportedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TensorrtRtx, "build", None)
    assert rtx_store.find(half_generator, "tensorrt-rtx", "fp16") == rtx_plan
    assert rtx_store.build(half_generator, "tensorrt-rtx", "fp16") == rtx_plan
    # On another machine, with a GPU: a plan is of no device.
    monkeypatch.setattr(TensorrtRtx, "device", lambda self: {"name": "NVIDIA", "compute_capability": "12.0"})
    monkeypatch.setattr(TensorrtRtx, "why_not_here", lambda self, options: "")
    assert rtx_store.build(half_generator, "tensorrt-rtx", "fp16") == rtx_plan


@pytest.mark.parametrize(
    "change", [{"cuda_graphs": "whole"}, {"specialization": "lazy"}, {"compute_capabilities": [CAPABILITY, "8.9"]}]
)
def test_another_option_or_version_is_another_engine(
    change: dict[str, Any],
    rtx_plan: Path,
    half_generator: ExportedGraph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / rtx_plan.name).symlink_to(rtx_plan)
    store = EngineStore(tmp_path)
    store.choose("tensorrt-rtx", {"compute_capabilities": [CAPABILITY]})
    assert store.find(half_generator, "tensorrt-rtx", "fp16") == tmp_path / rtx_plan.name
    assert store.find(half_generator, "tensorrt-rtx", "fp16", Profile(1, 1, 2)) is None
    with monkeypatch.context() as patch:
        patch.setattr(TensorrtRtx, "versions", lambda self: {"tensorrt_rtx": "1.8.0.1"})
        assert store.find(half_generator, "tensorrt-rtx", "fp16") is None
    store.choose("tensorrt-rtx", change)
    assert store.find(half_generator, "tensorrt-rtx", "fp16") is None


def test_what_may_be_taken_apart_may_stay_fused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is then no matrix that a warning tells of."""
    from engines.tensorrt_rtx.rtx_build import build_plan

    graph = correlation(tmp_path / "plain.onnx", 64, 32)
    with listened(caplog):
        _, details = build_plan(graph, settings(correlation="decomposed"))
    assert FUSED.search(table_of(caplog))
    assert details["fused_correlations"] == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_builders_reason_is_said(tmp_path: Path) -> None:
    """Of one position by one, which no kernel is for."""
    from engines.tensorrt_rtx.rtx_build import build_plan

    graph = correlation(tmp_path / "point.onnx", 32, 32, side=1)
    says = r"^TensorRT for RTX builds no engine of point: .*Attention operation was not supported by a dedicated kernel"
    with pytest.raises(EngineError, match=says):
        build_plan(graph, settings())
