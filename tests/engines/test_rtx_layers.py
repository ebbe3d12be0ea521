"""The table of layers: read as it stands, refused where it is not as expected; and what is read of a graph."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtx_cases import correlation, listened, needs_rtx, settings, table_of

from engines.tensorrt_rtx.graph_facts import Correlation, GraphFacts, graph_facts
from engines.tensorrt_rtx.layer_table import HEAD, Layer, LayerTensor, read_layers
from export.exported import ExportedGraph
from outfitgan.errors import EngineError

REAL = (
    "Layers:\n"
    "Name: __mye11115_0_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , "
    "StreamId: 0, Metadata: \n"
    "Name: __mye34632_myl0_4, LayerType: signal, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, "
    "EventId: 1, Metadata: \n"
    "Name: node_Conv_13_myl0_12, LayerType: correlation, Inputs: [ { Name: a_myl0, Dimensions: [-1,16,16,16], "
    "Strides: [4096,1,256,16], StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) Channel major format }], "
    "Constants: [ { Name: w_myl0, Dimensions: [16,16,3,3], Strides: [144,1,48,16], StrideOrder: [3,0,2,1], "
    "Datatype: Half, Format: (NHWC) Channel major format }, { Name: one, Dimensions: [1], Strides: [1], "
    "StrideOrder: [0], Datatype: Float, Format: (Linear) Row major linear format }], Outputs: [ { Name: b_myl0, "
    "Dimensions: [-1,16,16,16], Strides: [4096,1,256,16], StrideOrder: [3,0,2,1], Datatype: Half, "
    "Format: (NHWC) Channel major format }], TacticName: __xmma_0x5b, StreamId: 0, "
    "Metadata: [ONNX Layer: node_Conv_13]\n"
    "Name: __myl_CastMulMean_myl0_15, LayerType: kgen, Inputs: [ { Name: b_myl0, Dimensions: [-1,16,16,16], "
    "Strides: [4096,1,256,16], StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) Channel major format }], "
    "Constants: [], Outputs: [ { Name: c_myl0, Dimensions: [-1,1,16,16], Strides: [256,1,16,1], "
    "StrideOrder: [3,1,2,0], Datatype: Float, Format: (Arbitrary) Format with stride order = [3,1,2,0] }], "
    "TacticName: __myl_CastMulMean_0x3f, StreamId: 1, Metadata: [ONNX Layer: node_pow_5][ONNX Layer: node_mean_4]\n"
    "Name: _gemm_mha_v2_myl0_58, LayerType: kgen, Inputs: [ { Name: q_myl0, Dimensions: [-1,256,16], "
    "Strides: [16,-1,1], StrideOrder: [1,2,0], Datatype: Half, Format: (Arbitrary) Format with stride order = [1,2,0] "
    "}], Constants: [], Outputs: [ { Name: o_myl0, Dimensions: [-1,256,16], Strides: [16,-1,1], StrideOrder: [1,2,0], "
    "Datatype: Half, Format: (Arbitrary) Format with stride order = [1,2,0] }], "
    "TacticName: _gemm_mha_v2_0x64d5, StreamId: 0, "
    "Metadata: [ONNX Layer: correlate.n37 | node__symbolic (Correlate)]\n"
    "\n"
    "Bindings:\n"
    "SOURCE\n"
)
"""What a plan's table looks like, cut short."""


def half(name: str, *shape: int) -> LayerTensor:
    return LayerTensor(name, "Half", shape)


SHAPE = Layer("__mye11115_0_myl0_0", "shape_call", (), (), (), ())
CONVOLUTION = Layer(
    "node_Conv_13_myl0_12",
    "correlation",
    (half("a_myl0", -1, 16, 16, 16),),
    (half("w_myl0", 16, 16, 3, 3), LayerTensor("one", "Float", (1,))),
    (half("b_myl0", -1, 16, 16, 16),),
    ("node_Conv_13",),
)
NORM = Layer(
    "__myl_CastMulMean_myl0_15",
    "kgen",
    (half("b_myl0", -1, 16, 16, 16),),
    (),
    (LayerTensor("c_myl0", "Float", (-1, 1, 16, 16)),),
    ("node_pow_5", "node_mean_4"),
)
ATTENTION = Layer(
    "_gemm_mha_v2_myl0_58",
    "kgen",
    (half("q_myl0", -1, 256, 16),),
    (),
    (half("o_myl0", -1, 256, 16),),
    ("correlate.n37 | node__symbolic (Correlate)",),
)
LAYERS = [SHAPE, CONVOLUTION, NORM, ATTENTION]


def rendered(layers: Sequence[Layer]) -> str:
    """Return a table as TensorRT writes it."""
    return "\n".join([HEAD, *map(line, layers), "", "Bindings:", "SOURCE"])


def line(layer: Layer) -> str:
    lists = [", ".join(map(tensor, part)) for part in (layer.inputs, layer.constants, layer.outputs)]
    inputs, constants, outputs = (f"[ {text}]" if text else "[]" for text in lists)
    nodes = "".join(f"[ONNX Layer: {node}]" for node in layer.nodes)
    return (
        f"Name: {layer.name}, LayerType: {layer.kind}, Inputs: {inputs}, Constants: {constants}, Outputs: {outputs}, "
        f"TacticName: {layer.name}_0x1, StreamId: 0, Metadata: {nodes}"
    )


def tensor(given: LayerTensor) -> str:
    dims = ",".join(map(str, given.shape))
    return (
        f"{{ Name: {given.name}, Dimensions: [{dims}], Strides: [{dims}], StrideOrder: [1,0], Datatype: {given.dtype}, "
        "Format: (Arbitrary) Format with stride order = [1,0] }"
    )


# The table


def test_a_real_table_is_read() -> None:
    assert read_layers(["Fusing", REAL, "Total Activation Memory: 9 bytes"]) == LAYERS
    assert [str(tensor) for tensor in CONVOLUTION.constants] == ["Half 16x16x3x3", "Float 1"]
    assert CONVOLUTION.to_json() == {
        "name": "node_Conv_13_myl0_12",
        "kind": "correlation",
        "inputs": ["Half ?x16x16x16"],
        "constants": ["Half 16x16x3x3", "Float 1"],
        "outputs": ["Half ?x16x16x16"],
        "nodes": ["node_Conv_13"],
    }


NAMES = st.text("abzAZ09_./:|() ", max_size=20).map(str.strip)
TENSORS = st.builds(
    LayerTensor,
    NAMES,
    st.sampled_from(["Half", "Float", "Int8", "UInt8", "Int32", "Bool", "BFloat16"]),
    st.lists(st.integers(-1, 70_000), max_size=5).map(tuple),
)
SOME = st.lists(TENSORS, max_size=3).map(tuple)
NODES = st.lists(NAMES.filter(bool), max_size=4).map(tuple)
KINDS = st.sampled_from(["kgen", "correlation", "gemm", "runtime_fusion", "shape_call"])


@given(st.lists(st.builds(Layer, NAMES, KINDS, SOME, SOME, SOME, NODES), min_size=1, max_size=5))
def test_whatever_is_told_is_read(layers: list[Layer]) -> None:
    assert read_layers([rendered(layers)]) == layers


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "TensorRT for RTX told 0 tables of layers, not one; its version is not supported."),
        ([REAL, REAL], "TensorRT for RTX told 2 tables of layers, not one; its version is not supported."),
        (
            ["Layers:\n\nBindings:\nSOURCE"],
            "TensorRT for RTX told a table without layers; its version is not supported.",
        ),
        (
            [REAL.replace("LayerType: correlation", "Kind: correlation")],
            "TensorRT for RTX tells a layer otherwise than expected (Name: node_Conv_13_myl0_12, Kind: correlation, "
            "Inputs: [ { Name: a_myl0, Dimensi); report its version.",
        ),
        (
            [REAL.replace("Datatype: Float", "Type: Float", 1)],
            "TensorRT for RTX tells a layer otherwise than expected (Name: node_Conv_13_myl0_12, LayerType: "
            "correlation, Inputs: [ { Name: a_myl0, Di); report its version.",
        ),
        (
            [REAL.replace("Dimensions: [-1,256,16]", "Dimensions: [E0,256,16]", 1)],
            "TensorRT for RTX tells a layer otherwise than expected (Name: _gemm_mha_v2_myl0_58, LayerType: kgen, "
            "Inputs: [ { Name: q_myl0, Dimension); report its version.",
        ),
    ],
)
def test_other_tables_are_refused(messages: list[str], says: str) -> None:
    with pytest.raises(EngineError, match=f"^{re.escape(says)}$"):
        read_layers(messages)


@needs_rtx
def test_every_tensor_of_a_build_is_read(half_generator: ExportedGraph, caplog: pytest.LogCaptureFixture) -> None:
    from engines.tensorrt_rtx.rtx_build import build_plan

    with listened(caplog):
        build_plan(half_generator, settings())
    table = table_of(caplog)
    layers = read_layers([table])
    tensors = [tensor for layer in layers for tensor in layer.tensors + layer.constants]
    assert len(tensors) == table.count("Datatype: ") > 150
    lines = [line for line in table.splitlines() if line.startswith("Name: ")]
    assert len(layers) == sum(not re.search("LayerType: (signal|wait),", line) for line in lines)
    made = {tensor.name for layer in layers for tensor in layer.outputs}
    assert {tensor.name for layer in layers for tensor in layer.inputs} - made == {"SOURCE", "MASK"}
    nodes = {node for layer in layers for node in layer.nodes if "(Correlate)" not in node}
    assert nodes <= {node.name for node in onnx.load(half_generator.path).graph.node}


# The graph


def test_facts_of_a_graph(half_generator: ExportedGraph, tmp_path: Path) -> None:
    facts = graph_facts(half_generator.path)
    nodes = onnx.load(half_generator.path).graph.node
    assert facts.correlations == (Correlation(queries=16 * 16, keys=16 * 16, features=16, values=16),)
    assert facts.convolutions == {node.name for node in nodes if node.op_type == "Conv"}
    assert not facts.fp32 & facts.convolutions
    assert {node.name for node in nodes if node.op_type == "ReduceMean"} <= facts.fp32
    graph = correlation(tmp_path / "wide.onnx", 32, 64, side=5)
    assert graph_facts(graph.path) == GraphFacts((Correlation(25, 25, 32, 64),), frozenset(), frozenset())
