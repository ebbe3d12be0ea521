"""What is left of the networks in their graphs: a norm of weights leaves nothing, FP16 graphs have no FP32 inside."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import onnx
import pytest

from export.exported import FLOATS, ExportedGraph
from outfitgan.networks.architectures import OutfitGenerator
from outfitgan.networks.norms import WeightNormConv2d

Exported = dict[tuple[str, str], ExportedGraph]
GENERATORS = ("generator_bag", "generator_lower", "generator_shoes")
NORMS = {
    *("ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "Pow", "Sqrt", "Reciprocal"),
    *("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "LpNormalization"),
    *("RMSNormalization", "MeanVarianceNormalization"),
}


def graph_of(exported: Exported, name: str, precision: str) -> onnx.GraphProto:
    return onnx.load(exported[name, precision].path).graph


@pytest.mark.parametrize("precision", FLOATS)
@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_holds_no_trace_of_its_norm(
    name: str, precision: str, exported: Exported, generator: OutfitGenerator
) -> None:
    graph = graph_of(exported, name, precision)
    found = Counter(node.op_type for node in graph.node)
    assert not NORMS & set(found)
    assert any(isinstance(module, WeightNormConv2d) for module in generator.modules())
    weights = {tensor.name for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 24
    assert all(set(node.input[1:]) <= weights for node in convolutions)


@pytest.mark.parametrize("name", GENERATORS)
def test_an_fp16_generator_casts_at_its_boundary_alone(name: str, exported: Exported) -> None:
    """Bytes to FP32 to FP16, and back; the correlation's own are in its function."""
    graph = graph_of(exported, name, "fp16")
    makers = {output: node for node in graph.node for output in node.output}
    ends = {value.name for value in chain(graph.input, graph.output)}
    outer, inner = [], []
    for cast in (node for node in graph.node if node.op_type == "Cast"):
        steps = _towards(cast, makers) if cast.attribute[0].i == onnx.TensorProto.FLOAT16 else []
        at_input = cast.input[0] in ends or bool(steps and steps[-1] in ends)
        at_output = cast.output[0] in ends or (not at_input and makers[cast.input[0]].op_type == "Tanh")
        (outer if at_input or at_output else inner).append(cast.name)
    assert inner == []
    assert len(outer) == 6


def _towards(cast: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> list[str]:
    """Return the tensors from a cast back to the input that it follows from, through at most five nodes."""
    names = [cast.input[0]]
    while names[-1] in makers and len(names) <= 5:
        names.append(makers[names[-1]].input[0])
    return names
