"""Checks of a parsed network and of a built plan: the plugin is in it, and it computes in the graph's precision."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import tensorrt as trt

from engines.plan.runner import Plan
from export.exported import ExportedGraph
from outfitgan.errors import EngineError

_TYPES = {"fp32": trt.DataType.FLOAT, "fp16": trt.DataType.HALF, "int8-fp16": trt.DataType.HALF}
_WEIGHT_TYPES = {"fp32": ("float", "fp32"), "fp16": ("half", "fp16"), "int8-fp16": ("int8", "half", "fp16")}
"""How a plan names the type of weights, in small letters, its own first.

TensorRT may leave a convolution of a graph rounded to INT8 in FP16 where that is as fast, as with few channels.
"""

_WEIGHTED = (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION)
_WEIGHTED_KERNEL = re.compile("conv|gemm", re.IGNORECASE)
"""The kinds of layer in a plan that multiply by weights; constants hold FP32 scalars in an FP16 graph too."""


def check_network(network: trt.INetworkDefinition, graph: ExportedGraph, correlations: int) -> list[str]:
    """Return the names of the plugin's layers in the network that was parsed from `graph`.

    Raises:
        EngineError: if there is not one for each of `correlations` nodes, or a convolution has not the graph's type.

    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    plugins = [layer.name for layer in layers if layer.type == trt.LayerType.PLUGIN_V3]
    if len(plugins) != correlations:
        # An unregistered plugin is no error to the parser: it imports the node's function body instead, and says so
        # in its most verbose messages alone (the parser of TensorRT for RTX, which is of the same source).
        raise EngineError(
            f"TensorRT {trt.__version__} took {len(plugins)} of the {correlations} Correlate nodes of {graph.name} for "
            "the plugin; it needs TensorRT 10.15 or newer and a graph exported by this version."
        )
    for layer in layers:
        if layer.type in _WEIGHTED and layer.get_input(0).dtype != _TYPES[graph.precision]:
            raise EngineError(
                f"{layer.name} of {graph.name} computes in {layer.get_input(0).dtype.name}, not in {graph.precision}; "
                "export the graph again."
            )
    return plugins


def inspect_plan(plan: Plan, graph: ExportedGraph, plugins: Iterable[str]) -> dict[str, int]:
    """Return how many layers of each kind a plan has, after it was checked.

    Raises:
        EngineError: if a layer of `plugins` is not in it, a layer's weights are not in the graph's precision, or no
            layer's are in INT8 where some should be.

    """
    inspector = plan.engine.create_engine_inspector()
    layers = parse_layers(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    names = "\n".join(text for layer in layers for text in layer.values() if isinstance(text, str))
    if missing := [name for name in plugins if not re.search(rf"(?<![\w/.]){re.escape(name)}(?![\w/.])", names)]:
        raise EngineError(
            f"The plan of {graph.name} lacks the plugin's layer {missing[0]}; build it again with another "
            "optimization_level, and report it."
        )
    types = [_weights_type(layer) for layer in layers]
    for layer, found in zip(layers, types, strict=True):
        if found and found.lower() not in _WEIGHT_TYPES[graph.precision]:
            raise EngineError(
                f"The layer {layer.get('Name')} of {graph.name} has its weights in {found}, not in {graph.precision}; "
                "TensorRT has built another precision than the graph's."
            )
    if graph.precision == "int8-fp16" and "int8" not in map(str.lower, types):
        raise EngineError(f"The plan of {graph.name} has no weights in INT8; build it in fp16, which is more exact.")
    return dict(Counter(str(layer.get("LayerType", "unnamed")) for layer in layers))


def parse_layers(information: str) -> list[dict[str, Any]]:
    """Return the layers in the JSON of TensorRT's inspector; raise EngineError if it does not describe them."""
    try:
        layers = json.loads(information)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"TensorRT's inspector gives no layers ({error!r}); its version is not supported.") from error
    if not layers or not all(isinstance(layer, dict) for layer in layers):
        raise EngineError("TensorRT's inspector gives names of layers only; the plan was not built in detail.")
    return list(layers)


def _weights_type(layer: dict[str, Any]) -> str:
    """Return the type of a layer's weights, empty where it has none or TensorRT does not report it."""
    weights = layer.get("Weights")
    if not isinstance(weights, dict) or not _WEIGHTED_KERNEL.search(str(layer.get("LayerType", ""))):
        return ""
    return str(weights.get("Type", ""))
