"""ONNX to a plan: a strongly typed network, optimisation profiles, a timing cache, then checks of what came out.

Written for TensorRT 10.3 to 11.x by one code path and held against its official bindings; the builder itself is not
among PyPI's wheels, and no plan has been built here. A portable graph takes no plugin, which is then not imported.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tensorrt as trt

from engines.manifest import Profile
from engines.plan.api import api
from engines.plan.network import batch_profile, parse_file
from engines.plan.runner import load_plan
from engines.settings import BuildSettings
from engines.tensorrt.inspect import check_network, inspect_plan
from engines.tensorrt.options import TensorrtOptions
from engines.tensorrt.tactics import NAME, NAMESPACE, Kernels, architectures
from export.exported import ExportedGraph
from outfitgan.errors import EngineError
from outfitgan.files import atomic_write

_HARDWARE = {"this_gpu": "NONE", "same_compute_capability": "SAME_COMPUTE_CAPABILITY", "ampere_plus": "AMPERE_PLUS"}
"""The option's values, and TensorRT's names for them, not all of which an old one has."""


def build_plan(graph: ExportedGraph, settings: BuildSettings, device: dict[str, str]) -> tuple[bytes, dict[str, Any]]:
    """Build a graph's plan for `device`, this machine's GPU.

    Args:
        graph: its types are the plan's: the network is strongly typed.
        settings: profile, options as in `TensorrtOptions`, folder of the timing cache, progress.
        device: as `engines.plan.cuda.gpu` returns it.

    Returns:
        The plan, and the manifest's details of it: its layers, its kernels, its profiles.

    Raises:
        EngineError: if it cannot be built, the plugin is not in it, or it is not in the graph's precision.

    """
    options = TensorrtOptions(**settings.options)
    kernels = _plugin_kernels(graph, device, options)
    plan_api = api("tensorrt")
    builder, log = plan_api.started(trt.Builder), plan_api.log
    # TensorRT 11 has strongly typed networks only and ignores the flag.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parse_file(plan_api, network, graph.path)
    plugins = check_network(network, graph, _correlations(graph.path))
    progress = plan_api.progress(settings.progress)
    cache = settings.cache / f"tensorrt-{_digest(device, trt.__version__)}.timing"
    profiles = _profiles(settings.profile, bool(plugins) and options.profiles == "each_batch")
    config = _config(builder, options)
    for profile in profiles:
        config.add_optimization_profile(batch_profile(builder, graph.contract, profile))
    config.progress_monitor = progress
    _load_timings(config, cache)
    log.reason()  # what it reported of the cache is no reason for what follows
    plan = builder.build_serialized_network(network, config)
    if progress.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise kernels.failure or EngineError(f"TensorRT builds no engine of {graph.name}: {log.reason()}.")
    timings = config.get_timing_cache()
    if timings is not None:
        atomic_write(cache, bytes(timings.serialize()))
    loaded = load_plan(plan_api, bytes(plan), graph.name, options.version_compatible)
    return bytes(plan), {
        "layers": inspect_plan(loaded, graph, plugins),
        "kernels": _kernel_records(kernels),
        "profiles": [asdict(profile) for profile in profiles],
    }


def _profiles(whole: Profile, each_batch: bool) -> list[Profile]:
    """Return a plan's profiles: one, or one for each of its batch sizes, which are then tuned for alone.

    The plugin leaks GPU memory where a context changes its shapes (NVIDIA/TensorRT issue 4849, open): so each batch
    has a context of its own. A server forms every batch up to the largest and its backend pads none: no size is left
    out.
    """
    if not each_batch:
        return [whole]
    return [Profile(batch, batch, batch) for batch in range(whole.min_batch, whole.max_batch + 1)]


def _plugin_kernels(graph: ExportedGraph, device: dict[str, str], options: TensorrtOptions) -> Kernels:
    """Register the plugin if the graph's form has it, and return its kernels."""
    if graph.form != "standard":
        return Kernels(())
    from engines.tensorrt.plugin import register_correlate  # an old TensorRT has no `tensorrt.plugin`

    kernels = register_correlate(architectures(device["compute_capability"], options.hardware))
    kernels.start()
    return kernels


def _config(builder: trt.Builder, options: TensorrtOptions) -> trt.IBuilderConfig:
    config = builder.create_builder_config()
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the plan keeps no description of its layers
    if options.refittable and not hasattr(trt.SerializationFlag, "INCLUDE_REFIT"):
        raise EngineError(f"TensorRT {trt.__version__} keeps no refittable plans; build it with refittable = false.")
    config.hardware_compatibility_level = _hardware(options.hardware)
    config.clear_flag(trt.BuilderFlag.TF32)  # FP32 is FP32
    if options.workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    for wanted, flag in (
        (options.version_compatible, trt.BuilderFlag.VERSION_COMPATIBLE),
        (options.refittable, trt.BuilderFlag.REFIT),
    ):
        if wanted:
            config.set_flag(flag)
    return config


def _hardware(option: str) -> trt.HardwareCompatibilityLevel:
    """Return TensorRT's level for the option `hardware`; raise EngineError if it has none."""
    level: trt.HardwareCompatibilityLevel | None = getattr(trt.HardwareCompatibilityLevel, _HARDWARE[option], None)
    if level is None:
        raise EngineError(f"TensorRT {trt.__version__} builds no plans for hardware = {option}; choose another.")
    return level


def _correlations(path: Path) -> int:
    """Return how many `Correlate` nodes an ONNX file has."""
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    return sum((node.domain, node.op_type) == (NAMESPACE, NAME) for node in nodes)


def _digest(*facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _load_timings(config: trt.IBuilderConfig, path: Path) -> None:
    """Load what the builder timed before; where there is nothing, or it is not TensorRT's, it starts anew."""
    content = path.read_bytes() if path.is_file() else b""
    timings = config.create_timing_cache(content) or config.create_timing_cache(b"")
    if timings is not None:
        config.set_timing_cache(timings, ignore_mismatch=False)


def _kernel_records(kernels: Kernels) -> list[dict[str, Any]]:
    return [
        {"tactic": tactic, **asdict(correlation), **kernel.to_json()}
        for correlation, offered in kernels.requested.items()
        for tactic, kernel in offered.items()
    ]
