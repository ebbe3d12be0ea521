"""A built plan against its graph: one kernel a correlation, and no other precision than the graph's.

The builder decides in silence: where it has no fused kernel for an attention that it may take apart, it takes it apart
and holds the matrix of queries by keys. So its table of layers is read, and the build fails.
"""

from __future__ import annotations

from collections.abc import Sequence

from engines.tensorrt_rtx.graph_facts import Correlation, GraphFacts
from engines.tensorrt_rtx.layer_table import Layer, LayerTensor
from outfitgan.errors import EngineError

TYPES = {"fp32": ("Float",), "fp16": ("Half",), "int8-fp16": ("Int8", "Half")}
"""Precision of a graph -> what its convolutions multiply, in TensorRT's words, its own first.

TensorRT may leave a convolution of a graph rounded to INT8 in FP16 where that is as fast, as with few channels.
"""

_FUSED = "mha"
_IN_CORRELATION = "(Correlate)"


def check_fused(layers: Sequence[Layer], correlations: Sequence[Correlation], what: str) -> None:
    """Raise EngineError unless each correlation is one kernel and no tensor of queries by keys is held for it.

    Args:
        layers: of a plan.
        correlations: of its graph.
        what: how an error calls the plan.

    """
    own, fused = _own(layers), fused_kernels(layers)
    for correlation in correlations:
        held = [layer for layer in own if any(_is_matrix(tensor, correlation) for tensor in layer.tensors)]
        if held:
            raise EngineError(
                f"{what} holds the correlation's matrix of {correlation.queries} by {correlation.keys} in memory "
                f"(layer {held[0].name}): TensorRT did not fuse it; build for batches of 2 or more."
            )
    if len(fused) != len(correlations):
        raise EngineError(
            f"{what} has {len(fused)} fused attention kernels for {len(correlations)} correlations; export the graph "
            "again with this version, and report it if that does not help."
        )
    for layer in fused:
        if any(tensor.dtype == "Float" for tensor in layer.tensors):
            raise EngineError(f"{what} correlates in FP32 ({layer.name}), which has no fused kernel; report it.")


def fused_kernels(layers: Sequence[Layer]) -> list[Layer]:
    """Return the attention kernels that are a correlation each."""
    return [layer for layer in _own(layers) if _FUSED in layer.name]


def _own(layers: Sequence[Layer]) -> list[Layer]:
    return [layer for layer in layers if any(_IN_CORRELATION in node for node in layer.nodes)]


def check_types(layers: Sequence[Layer], facts: GraphFacts, precision: str, what: str) -> None:
    """Raise EngineError if a convolution is not in the graph's precision, or a layer is in FP32 and none of its nodes.

    What convolutions add up from INT8 may stay in FP32, in which TensorRT scales it: that is more exact.

    Args:
        layers: of a plan.
        facts: of its graph.
        precision: the graph's.
        what: how an error calls the plan.

    """
    allowed = TYPES[precision]
    for layer in (layer for layer in layers if is_convolution(layer, facts)):
        if others := {*operand_types(layer)} - {*allowed}:
            raise EngineError(
                f"{what} multiplies {layer.name} in {', '.join(sorted(others))}, not in {precision}; TensorRT has "
                "built another precision than the graph's."
            )
    sums = {tensor.name for layer in _rounded(layers, facts) for tensor in layer.outputs}
    for layer in layers:
        own = {tensor.name for tensor in layer.tensors if tensor.dtype == "Float"} - sums
        if own and not _may_be_fp32(layer, facts):
            raise EngineError(
                f"{what} computes {layer.name} in FP32, which the graph does not ({', '.join(layer.nodes[:3])}); "
                "export the graph again, and report it if that does not help."
            )


def int8_convolutions(layers: Sequence[Layer], facts: GraphFacts) -> int:
    """Return how many convolutions multiply in INT8."""
    return len(_rounded(layers, facts))


def _rounded(layers: Sequence[Layer], facts: GraphFacts) -> list[Layer]:
    return [layer for layer in layers if is_convolution(layer, facts) and "Int8" in operand_types(layer)]


def is_convolution(layer: Layer, facts: GraphFacts) -> bool:
    """Return whether a layer multiplies by a convolution's weights: TensorRT calls that a correlation."""
    if layer.kind == "correlation" or (layer.kind == "runtime_fusion" and "Corr" in layer.name):
        return True
    return layer.kind == "gemm" and bool(facts.convolutions.intersection(layer.nodes))


def operand_types(layer: Layer) -> list[str]:
    """Return the types of what a convolution multiplies: its first input, and its weights (O, I, kH, kW)."""
    weights = [tensor.dtype for tensor in layer.constants if len(tensor.shape) >= 4]
    return [layer.inputs[0].dtype, *weights[:1]] if layer.inputs else weights


def _may_be_fp32(layer: Layer, facts: GraphFacts) -> bool:
    """Return whether one of a layer's nodes reads or gives FP32 in the graph; the correlation's own norms do."""
    if not layer.nodes:
        return True
    return any(node in facts.fp32 or _IN_CORRELATION in node for node in layer.nodes)


def _is_matrix(tensor: LayerTensor, correlation: Correlation) -> bool:
    """Return whether a tensor is of queries by keys, and neither of positions by channels nor an image."""
    pair = (correlation.queries, correlation.keys)
    one_head = len(tensor.shape) == 3 or tensor.shape[1:2] == (1,)
    channels = {correlation.features, correlation.values, max(correlation.width, 16)}
    return one_head and tensor.shape[-2:] in (pair, pair[::-1]) and channels.isdisjoint(pair)
