"""ONNX to a plan of TensorRT for RTX: parsed, optimised and serialised, for GPUs that this machine need not have.

The builder's own account of its layers is held against the graph, for each compute capability by itself: a plan for
several has one account, and it is not said of which.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, cast

import tensorrt_rtx as trt

from engines.plan.api import api
from engines.plan.network import batch_profile, parse_file
from engines.settings import BuildSettings
from engines.tensorrt_rtx.graph_facts import GraphFacts, graph_facts
from engines.tensorrt_rtx.layer_checks import check_fused, check_types, fused_kernels, int8_convolutions, is_convolution
from engines.tensorrt_rtx.layer_table import Layer, read_layers
from engines.tensorrt_rtx.rtx_options import RtxOptions
from export.exported import ExportedGraph
from outfitgan.errors import EngineError
from outfitgan.progress import Progress

_log = logging.getLogger(__name__)

WIDEST = 256
"""The most channels, of features or of values, that TensorRT fuses; the body of `Correlate` pads those under 16."""

_NO_INT8 = "7.5"
"""Turing: TensorRT for RTX runs the convolutions of an INT8 graph in FP16 there."""

_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+) bytes")


def build_plan(graph: ExportedGraph, settings: BuildSettings) -> tuple[bytes, dict[str, Any]]:
    """Build a graph's plan.

    Args:
        graph: its types are the plan's: networks are strongly typed.
        settings: profile, options as in `RtxOptions`, progress.

    Returns:
        The plan, and the manifest's details of it: compute capabilities, bytes of activations at the largest batch,
        how many layers of each kind, fused correlations, convolutions and those in INT8, and every layer.

    Raises:
        EngineError: if it cannot be built, a correlation is not fused, or it is not in the graph's precision.

    """
    options, facts = RtxOptions(**settings.options), graph_facts(graph.path)
    fused = options.correlation == "fused" and graph.precision != "fp32"
    if fused:
        _require_width(graph, facts)
    capabilities = options.compute_capabilities
    builds: list[tuple[str, ...]] = [(capability,) for capability in capabilities]
    if len(capabilities) > 1:
        builds.append(capabilities)
    for index, targets in enumerate(builds):
        what = f"The plan of {graph.name} for compute capability {' and '.join(targets)}"
        plan, layers, activations = _build(graph, settings, targets, fused, _part(settings, index, len(builds)))
        if fused:
            check_fused(layers, facts.correlations, what)
        check_types(layers, facts, graph.precision, what)
        if graph.precision == "int8-fp16" and targets != (_NO_INT8,) and not int8_convolutions(layers, facts):
            raise EngineError(f"{what} has no convolution in INT8; build it in fp16, which is more exact.")
    kernels = len(fused_kernels(layers))  # one that may be taken apart need not be
    if kernels < len(facts.correlations):
        _log.warning(
            "%s holds its correlation's matrix: %d MB of activations at batch %d.",
            *(graph.name, activations // 10**6, settings.profile.max_batch),
        )
    return plan, {
        "compute_capabilities": list(capabilities),
        "activation_bytes": activations,
        "layers": dict(Counter(layer.kind for layer in layers)),
        "fused_correlations": kernels,
        "convolutions": sum(is_convolution(layer, facts) for layer in layers),
        "int8_convolutions": int8_convolutions(layers, facts),
        "layer_table": [layer.to_json() for layer in layers],
    }


def _build(
    graph: ExportedGraph, settings: BuildSettings, capabilities: Sequence[str], fused: bool, progress: Progress
) -> tuple[bytes, list[Layer], int]:
    """Return a plan for `capabilities`, its layers, and its bytes of activations."""
    plan_api = api("tensorrt_rtx")
    builder = plan_api.started(trt.Builder)
    network = builder.create_network(0)  # strongly typed: there is no other
    parse_file(plan_api, network, graph.path)
    if not fused:
        for attention in _attentions(network):
            attention.decomposable = True
    config = builder.create_builder_config()
    config.add_optimization_profile(batch_profile(builder, graph.contract, settings.profile))
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the log has no table of layers
    config.clear_flag(trt.BuilderFlag.TF32)  # FP32 is FP32
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}"), index)
    config.progress_monitor = monitor = plan_api.progress(progress)
    plan_api.log.errors.clear()  # what it reported before is no reason for what follows
    with plan_api.log.kept() as messages:
        plan = builder.build_serialized_network(network, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise EngineError(f"TensorRT for RTX builds no engine of {graph.name}: {plan_api.log.reason()}.")
    activations = [int(match[1]) for match in map(_ACTIVATIONS.search, messages) if match]
    return bytes(plan), read_layers(messages), max(activations, default=0)


def _attentions(network: trt.INetworkDefinition) -> Iterator[trt.IAttention]:
    """Yield the attentions of a network."""
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # the binding gives a bare ILayer
            yield cast("trt.IAttentionInputLayer", layer).attention


def _require_width(graph: ExportedGraph, facts: GraphFacts) -> None:
    for correlation in facts.correlations:
        if correlation.width > WIDEST:
            raise EngineError(
                f"The correlation of {graph.name} has {correlation.width} channels, and TensorRT fuses {WIDEST} at "
                "most: train a narrower one, or build with correlation=decomposed, which holds its whole matrix."
            )


def _part(settings: BuildSettings, index: int, parts: int) -> Progress:
    """Return a progress that shows build number `index` of `parts` as its share of the whole."""
    return lambda what, done, total: settings.progress(what, index * total + done, parts * total)
