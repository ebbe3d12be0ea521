"""The builder: it parses ONNX as TensorRT does, as far as this project looks; a plan is the graph in a sealed box."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx

from tensorrt.plugin import PLUGINS, TensorDesc
from tensorrt.types import (
    BuilderFlag,
    DataType,
    HardwareCompatibilityLevel,
    IHostMemory,
    ILogger,
    LayerType,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    ProfilingVerbosity,
    TensorFormat,
    made,
    registered,
)

VERSION = "11.4.0"
SEAL = b"simulated plan"

_TYPES = {"Conv": LayerType.CONVOLUTION, "ConvTranspose": LayerType.DECONVOLUTION}


class ILayer:
    def __init__(self, node: onnx.NodeProto, inputs: list[Any], kind: LayerType, rounded: bool) -> None:
        self.name, self.type, self.node, self.rounded = node.name, kind, node, rounded
        self._inputs = inputs

    def get_input(self, index: int) -> Any:
        return self._inputs[index]


class INetworkDefinition:
    def __init__(self) -> None:
        self.model: onnx.ModelProto | None = None
        self.layers: list[ILayer] = []

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_layer(self, index: int) -> ILayer:
        return self.layers[index]


class ParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text

    def node_name(self) -> str:
        return ""


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse_from_file(self, model: str) -> bool:
        try:
            loaded = onnx.load(model)
            inferred = onnx.shape_inference.infer_shapes(loaded).graph
        except Exception as error:
            self._errors.append(ParserError(f"Failed to parse ONNX model: {error}"))
            return False
        infos = {info.name: info.type.tensor_type for info in (*inferred.value_info, *inferred.input)}
        kinds = {name: (info.elem_type, _dims(info)) for name, info in infos.items()}
        kinds |= {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in loaded.graph.initializer}
        rounded = {node.output[0] for node in loaded.graph.node if node.op_type == "DequantizeLinear"}
        for node in loaded.graph.node:
            inputs = [_tensor(*kinds[name]) for name in node.input if name in kinds]
            self._network.layers.append(ILayer(node, inputs, _kind(node), {*node.input[:2]} <= rounded))
        self._network.model = loaded
        return True


def _kind(node: onnx.NodeProto) -> LayerType:
    """A node is a plugin if its namespace says so and the plugin is registered; else its function is taken."""
    spaces = [attribute.s.decode() for attribute in node.attribute if attribute.name == "plugin_namespace"]
    if spaces and f"{spaces[0]}::{node.op_type}" in PLUGINS:
        return LayerType.PLUGIN_V3
    return _TYPES.get(node.op_type, LayerType.OTHER)


def _dims(info: Any) -> tuple[int, ...]:
    return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in info.shape.dim)


def _tensor(element: int, dims: tuple[int, ...]) -> Any:
    name = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element)).name
    return SimpleNamespace(dtype=DataType(name), shape=dims)


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None:
        self.shapes[input] = [min, opt, max]


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self.timings = json.loads(content) if content else {}

    def serialize(self) -> IHostMemory:
        return IHostMemory(json.dumps(self.timings).encode())


class IBuilderConfig:
    def __init__(self) -> None:
        self.builder_optimization_level = 3
        self.hardware_compatibility_level = HardwareCompatibilityLevel.NONE
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.progress_monitor: Any = None
        self.flags = {BuilderFlag.TF32}
        self.pools: dict[MemoryPoolType, int] = {}
        self.profiles: list[IOptimizationProfile] = []
        self.cache: ITimingCache | None = None

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.pools[pool] = pool_size

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        try:
            return ITimingCache(serialized_timing_cache)
        except ValueError:
            return None

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self.cache


class Builder:
    made: list[Builder] = []  # noqa: RUF012 - what a test looks into

    def __init__(self, logger: ILogger) -> None:
        self._logger = registered(logger)
        self.config: IBuilderConfig | None = None
        self.launches: list[Any] = []
        Builder.made.append(self)

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        assert flags == 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        self.config = IBuilderConfig()
        return self.config

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        try:
            self._tune(network, config)
        except Exception as error:  # a plugin's exception never passes through TensorRT
            self._logger.log(ILogger.Severity.ERROR, f"a plugin failed: {type(error).__name__}")
            return None
        if not _steps(config.progress_monitor, [layer.name for layer in network.layers]):
            self._logger.log(ILogger.Severity.ERROR, "the build was cancelled")
            return None
        assert network.model is not None
        if config.cache:
            config.cache.timings |= {layer.name: 1 for layer in network.layers}
        header = {
            "version": VERSION,
            "profiles": [profile.shapes for profile in config.profiles],
            "refittable": BuilderFlag.REFIT in config.flags,
            "host_code": BuilderFlag.VERSION_COMPATIBLE in config.flags,
            "layers": [_described(layer, config) for layer in network.layers],
        }
        return IHostMemory(seal(header, network.model.SerializeToString()))

    def _tune(self, network: INetworkDefinition, config: IBuilderConfig) -> None:
        """Ask the plugin for its kernels as the builder does: formats and tactics, then a launch of each format."""
        for layer in network.layers:
            if layer.type == LayerType.PLUGIN_V3:
                plugin = PLUGINS[f"outfitgan::{layer.node.op_type}"]
                temperature = next(a.f for a in layer.node.attribute if a.name == "temperature")
                inputs = [TensorDesc(tensor.shape, tensor.dtype) for tensor in layer._inputs]
                output = plugin.register(*inputs, temperature)
                for offer in plugin.autotune(*inputs, temperature, (output,)):
                    for tensor in inputs:
                        tensor.format = TensorFormat[offer.layouts]
                    self.launches.append(plugin.aot_impl(*inputs, temperature, (output,), offer.tactics[0]))


def _described(layer: ILayer, config: IBuilderConfig) -> Any:
    if config.profiling_verbosity != ProfilingVerbosity.DETAILED:
        return layer.name
    told = {"Name": layer.name, "LayerType": layer.node.op_type, "Metadata": f"[ONNX Layer: {layer.name}]"}
    if layer.type in (LayerType.CONVOLUTION, LayerType.DECONVOLUTION):
        kind = {"float16": "Half", "float32": "Float"}[layer.get_input(1).dtype.value]
        kind = "Int8" if layer.rounded else kind
        return {**told, "LayerType": "CaskConvolution", "Weights": {"Type": kind, "Count": 1}}
    return told


def _steps(monitor: Any, names: list[str]) -> bool:
    """Report a phase with a phase inside it."""
    if monitor is None:
        return True
    made(monitor).phase_start("Building Engine", None, 2)
    monitor.phase_start("Tactics", "Building Engine", len(names))
    going = all(monitor.step_complete("Tactics", step) for step in range(len(names)))
    monitor.phase_finish("Tactics")
    going = going and monitor.step_complete("Building Engine", 0)
    monitor.phase_finish("Building Engine")
    return going


def seal(header: dict[str, Any], model: bytes) -> bytes:
    """Return a plan."""
    text = json.dumps(header).encode()
    content = len(text).to_bytes(4, "big") + text + model
    return SEAL + hashlib.sha256(content).digest() + content
