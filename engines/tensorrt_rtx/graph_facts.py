"""What a plan's layers are held against: the correlations, convolutions and FP32 nodes of its graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from outfitgan.errors import EngineError

_DOMAIN, _CORRELATE, _CONVOLUTION = "outfitgan", "Correlate", "Conv"


@dataclass(frozen=True)
class Correlation:
    """One `Correlate` node."""

    queries: int  # target positions
    keys: int  # source positions
    features: int  # channels of both
    values: int  # channels

    @property
    def width(self) -> int:
        """Channels of the attention: its body adds one to the features, which takes zero vectors out."""
        return max(self.features + 1, self.values)


@dataclass(frozen=True)
class GraphFacts:
    """What the builder has no reason to change."""

    correlations: tuple[Correlation, ...]
    convolutions: frozenset[str]  # names of nodes
    fp32: frozenset[str]  # names of nodes that read or give FP32


def graph_facts(path: Path) -> GraphFacts:
    """Read a graph.

    Raises:
        EngineError: if its correlation is written in a way that TensorRT does not read.

    """
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    for node in (node for function in model.functions for node in function.node):
        if node.op_type == "Attention" and any(given.name == "softmax_precision" for given in node.attribute):
            raise EngineError(
                f"{path} is of an earlier export: its correlation sets softmax_precision, which TensorRT does not "
                "read; export the run again."
            )
    graph = model.graph
    types = {info.name: info.type.tensor_type for info in (*graph.input, *graph.value_info, *graph.output)}
    shapes = {name: [dim.dim_value for dim in kind.shape.dim] for name, kind in types.items()}
    correlations = [node for node in graph.node if (node.domain, node.op_type) == (_DOMAIN, _CORRELATE)]
    return GraphFacts(
        correlations=tuple(_correlation(*(shapes[name] for name in node.input)) for node in correlations),
        convolutions=frozenset(_name(node) for node in graph.node if node.op_type == _CONVOLUTION),
        fp32=frozenset(_fp32(graph.node, types)),
    )


def _correlation(target: list[int], source: list[int], values: list[int]) -> Correlation:
    return Correlation(target[2] * target[3], source[2] * source[3], target[1], values[1])


def _fp32(nodes: Iterable[onnx.NodeProto], types: dict[str, onnx.TypeProto.Tensor]) -> set[str]:
    return {
        _name(node)
        for node in nodes
        if any(name in types and types[name].elem_type == TensorProto.FLOAT for name in (*node.input, *node.output))
    }


def _name(node: onnx.NodeProto) -> str:
    """Return what TensorRT calls a node."""
    return str(node.name or f"node_of_{node.output[0]}")
