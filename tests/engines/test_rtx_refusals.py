"""What TensorRT for RTX does not build, or builds otherwise than its graph says; every sentence that a person reads."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rtx_cases import convolution, correlation, needs_rtx, settings, spoilt, without_gpu

from engines.engine_store import EngineStore
from engines.manifest import Profile
from export.exported import ExportedGraph
from outfitgan.errors import ConfigError, EngineError, UnsupportedError

pytestmark = needs_rtx

OPTIONS = "the options are compute_capabilities, correlation, specialization, cuda_graphs."
KNOWN = "it builds for 7.5, 8.0, 8.6, 8.9, 12.0, 12.1"


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    without_gpu(monkeypatch)


def details_of(graph: ExportedGraph, profile: Profile = Profile(1, 1, 8), **choices: Any) -> dict[str, Any]:  # noqa: B008
    from engines.tensorrt_rtx.rtx_build import build_plan

    return build_plan(graph, settings(profile, **choices))[1]


def exactly(sentence: str) -> str:
    return f"^{re.escape(sentence)}$"


# Graphs


def precise_softmax(model: onnx.ModelProto) -> None:
    for node in model.functions[0].node:
        if node.op_type == "Attention":
            node.attribute.append(helper.make_attribute("softmax_precision", TensorProto.FLOAT))


def unpadded(model: onnx.ModelProto) -> None:
    body = model.functions[0].node
    plain = {node.output[0]: node.input[0] for node in body if node.op_type == "Pad"}
    kept = [node for node in body if node.op_type != "Pad"]
    for node in kept:
        node.input[:] = [plain.get(name, name) for name in node.input]
    del body[:]
    body.extend(kept)


def test_a_graph_of_an_earlier_export_is_refused(half_generator: ExportedGraph, tmp_path: Path) -> None:
    graph = spoilt(half_generator, tmp_path / "old.onnx", precise_softmax)
    says = (
        f"{graph.path} is of an earlier export: its correlation sets softmax_precision, which TensorRT does not read; "
        "export the run again."
    )
    store = EngineStore(tmp_path / "engines")
    with pytest.raises(EngineError, match=exactly(says)):
        store.build(graph, "tensorrt-rtx", "fp16")
    assert not list(store.root.iterdir())


def test_the_parser_itself_refuses_it(
    half_generator: ExportedGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is why: the day that it reads the attribute, the check can go."""
    from engines.tensorrt_rtx import rtx_build

    facts = rtx_build.graph_facts(half_generator.path)
    monkeypatch.setattr(rtx_build, "graph_facts", lambda path: facts)
    graph = spoilt(half_generator, tmp_path / "old.onnx", precise_softmax)
    with pytest.raises(EngineError, match="Setting softmax precision is not supported in TensorRT Attention"):
        details_of(graph)


def test_a_body_without_pads_is_refused_where_widths_differ(tmp_path: Path) -> None:
    equal = spoilt(correlation(tmp_path / "equal.onnx", 63, 64), tmp_path / "plain.onnx", unpadded)
    assert details_of(equal)["fused_correlations"] == 1
    graph = spoilt(correlation(tmp_path / "unequal.onnx", 64, 32), tmp_path / "unpadded.onnx", unpadded)
    says = (
        rf"^TensorRT for RTX does not read {re.escape(str(graph.path))}: correlate\.n\d+: .*Key and Value must have the"
    )
    with pytest.raises(EngineError, match=says):
        details_of(graph)


@pytest.mark.parametrize(("channels", "values"), [(8, 8), (8, 3), (15, 15), (64, 32), (32, 64), (255, 256)])
def test_every_width_up_to_256_is_fused(channels: int, values: int, tmp_path: Path) -> None:
    assert details_of(correlation(tmp_path / "any.onnx", channels, values))["fused_correlations"] == 1


@pytest.mark.parametrize(("channels", "values"), [(256, 16), (16, 257)])
def test_a_wider_correlation_is_built_decomposed_alone(
    channels: int, values: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graph = correlation(tmp_path / "wide.onnx", channels, values)
    says = (
        "The correlation of wide has 257 channels, and TensorRT fuses 256 at most: train a narrower one, or build with "
        "correlation=decomposed, which holds its whole matrix."
    )
    with pytest.raises(EngineError, match=exactly(says)):
        details_of(graph)
    details = details_of(graph, correlation="decomposed")
    assert details["fused_correlations"] == 0
    assert "wide holds its correlation's matrix: " in caplog.text


def test_a_profile_of_batch_1_alone_is_refused(half_generator: ExportedGraph, tmp_path: Path) -> None:
    """TensorRT builds it, takes the attention apart, and says nothing."""
    store = EngineStore(tmp_path)
    store.choose("tensorrt-rtx", {"compute_capabilities": "8.6"})
    before = sorted(tmp_path.iterdir())
    says = (
        r"^The plan of generator_bag for compute capability 8\.6 holds the correlation's matrix of 256 by 256 in "
        r"memory \(layer \w+\): TensorRT did not fuse it; build for batches of 2 or more\.$"
    )
    with pytest.raises(EngineError, match=says):
        store.build(half_generator, "tensorrt-rtx", "fp16", Profile(1, 1, 1))
    assert sorted(tmp_path.iterdir()) == before


def test_a_convolution_in_fp32_is_refused(tmp_path: Path) -> None:
    assert details_of(convolution(tmp_path / "half.onnx", TensorProto.FLOAT16))["convolutions"] == 1
    says = (
        r"^The plan of single for compute capability 8\.6 multiplies convolution\w+ in Float, not in fp16; TensorRT "
        r"has built another precision than the graph's\.$"
    )
    with pytest.raises(EngineError, match=says):
        details_of(convolution(tmp_path / "single.onnx", TensorProto.FLOAT))


def test_casts_around_one_convolution_are_optimised_away(half_generator: ExportedGraph, tmp_path: Path) -> None:
    """A strongly typed network is none where TensorRT sees that FP16 gives the same: so the plan is what is checked."""

    def cast(model: onnx.ModelProto) -> None:
        nodes, weights = model.graph.node, model.graph.initializer
        place = [node.op_type for node in nodes].index("Conv")
        node = onnx.NodeProto.FromString(nodes[place].SerializeToString())
        weight = next(numpy_helper.to_array(tensor) for tensor in weights if tensor.name == node.input[1])
        weights.append(numpy_helper.from_array(weight.astype(np.float32), "single"))
        before = helper.make_node("Cast", [node.input[0]], ["wide"], "widen", to=TensorProto.FLOAT)
        after = helper.make_node("Cast", ["made"], [node.output[0]], "narrow", to=TensorProto.FLOAT16)
        node.input[:], node.output[:] = ["wide", "single"], ["made"]
        rest = [*nodes[:place], before, node, after, *nodes[place + 1 :]]
        del nodes[:]
        nodes.extend(rest)

    table = details_of(spoilt(half_generator, tmp_path / "cast.onnx", cast))["layer_table"]
    multiplies = ("correlation", "runtime_fusion", "gemm")
    (layer,) = [layer for layer in table if "widen" in layer["nodes"] and layer["kind"] in multiplies]
    assert {text.partition(" ")[0] for text in layer["inputs"] + layer["constants"][:1]} == {"Half"}


def test_a_graph_that_is_fp32_after_all_is_refused(collocation_graph: ExportedGraph) -> None:
    graph = dataclasses.replace(collocation_graph, precision="fp16")
    with pytest.raises(
        EngineError, match=r"^The plan of collocation .* multiplies \w+ in Float, not in fp16; TensorRT"
    ):
        details_of(graph)


def test_an_int8_graph_without_an_int8_convolution_is_refused(tmp_path: Path) -> None:
    graph = dataclasses.replace(convolution(tmp_path / "half.onnx", TensorProto.FLOAT16), precision="int8-fp16")
    says = (
        "The plan of half for compute capability 8.6 has no convolution in INT8; build it in fp16, which is more exact."
    )
    with pytest.raises(EngineError, match=exactly(says)):
        details_of(graph)


# Precisions and options


@pytest.mark.parametrize("precision", ["bf16", "fp32", "int8"])
def test_a_precision_that_is_not_the_graphs_is_refused(
    precision: str, half_generator: ExportedGraph, tmp_path: Path
) -> None:
    says = (
        f"tensorrt-rtx builds generator_bag in its graph's precision, fp16, not in {precision}; choose from fp32, "
        "fp16, int8."
    )
    with pytest.raises(UnsupportedError, match=exactly(says)):
        EngineStore(tmp_path).build(half_generator, "tensorrt-rtx", precision)


@pytest.mark.parametrize("written", ["8.6", "sm_86", "sm86", 8.6, ["8.6"], [8.6], ["sm_86", "8.6"], "8.6,", ("8.6",)])
def test_a_capability_may_be_written_in_any_way(written: Any, tmp_path: Path) -> None:
    store, other = EngineStore(tmp_path / "a"), EngineStore(tmp_path / "b")
    store.choose("tensorrt-rtx", {"compute_capabilities": written})
    other.choose("tensorrt-rtx", {"compute_capabilities": "8.6"})
    assert store.options("tensorrt-rtx") == other.options("tensorrt-rtx")
    assert store.options("tensorrt-rtx")["compute_capabilities"] == ["8.6"]


def test_options_of_a_file_are_read(tmp_path: Path) -> None:
    """A person may write numbers into it, in any order."""
    (tmp_path / "tensorrt-rtx.toml").write_text("compute_capabilities = [12.0, 8.9, 8.9]\n")
    assert EngineStore(tmp_path).options("tensorrt-rtx")["compute_capabilities"] == ["8.9", "12.0"]


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        (
            {"compute_capabilities": "sm_90"},
            f"compute_capabilities = 'sm_90' does not do: there is no 9.0 in TensorRT for RTX; {KNOWN}; {OPTIONS}",
        ),
        (
            {"compute_capabilities": ["9.0"]},
            f"compute_capabilities = ['9.0'] does not do: there is no 9.0 in TensorRT for RTX; {KNOWN}; {OPTIONS}",
        ),
        ({"compute_capabilities": []}, f"compute_capabilities = [] does not do: name one at least; {OPTIONS}"),
        ({"compute_capabilities": " "}, f"compute_capabilities = ' ' does not do: name one at least; {OPTIONS}"),
        ({"refittable": True}, f"refittable = True does not do: Unexpected keyword argument; {OPTIONS}"),
        (
            {"correlation": "plugin"},
            f"correlation = 'plugin' does not do: Input should be 'fused' or 'decomposed'; {OPTIONS}",
        ),
        (
            {"specialization": "EAGER"},
            f"specialization = 'EAGER' does not do: Input should be 'eager', 'lazy' or 'none'; {OPTIONS}",
        ),
        ({"cuda_graphs": True}, f"cuda_graphs = True does not do: Input should be 'off' or 'whole'; {OPTIONS}"),
    ],
)
def test_options_are_checked(choices: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=exactly(f"The tensorrt-rtx option {says}")):
        EngineStore(tmp_path).choose("tensorrt-rtx", choices)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (
            "tensorrt_rtx",
            "The runtime tensorrt-rtx needs the package tensorrt_rtx, which is not installed; pip install "
            "'outfitgan[rtx]'.",
        ),
        ("onnx", "Building for tensorrt-rtx needs the package onnx; pip install 'outfitgan[rtx]'."),
    ],
)
def test_a_missing_package_is_said(missing: str, says: str, half_generator: ExportedGraph, tmp_path: Path) -> None:
    code = (
        "import importlib.abc, pathlib, sys\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {missing!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import importlib.util\n"
        "from engines.manifest import Profile\n"
        "from engines.registry import load_runtime\n"
        "from engines.settings import BuildSettings\n"
        "from export.exported import load_graph\n"
        "from outfitgan.errors import EngineError\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *rest: None if name == {missing!r} else find(name, *rest)\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "try:\n"
        "    runtime = load_runtime('tensorrt-rtx')\n"
        "    graph = load_graph(pathlib.Path(sys.argv[2]))\n"
        "    settings = BuildSettings(Profile(1, 1, 2), runtime.options({}), folder, print)\n"
        "    runtime.build(graph, folder, 'fp16', settings)\n"
        "except EngineError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", code, tmp_path, half_generator.path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == says
