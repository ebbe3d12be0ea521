"""The config of a plan on a Triton Inference Server with NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from engines.manifest import EngineManifest
from outfitgan.contracts import GraphContract
from outfitgan.errors import ConfigError
from serving.repository.model_config import model_config

PLAN = "model.plan"
"""The plan for every GPU that no other plan is for."""


@dataclass(frozen=True)
class GpuServing:
    """How a server runs each engine on each of its GPUs."""

    instances: int = 1  # a second copies while the first computes, and takes as much memory again
    cuda_graphs: tuple[int, ...] = ()  # batches recorded as one launch: spares the CPU, costs memory and start-up
    tensorrt: str = ""  # the server's version, which plans of another are refused for; empty: not known


DEFAULT_GPU_SERVING = GpuServing()


def gpu_config(
    contract: GraphContract,
    serving: GpuServing = DEFAULT_GPU_SERVING,
    plans: Sequence[EngineManifest] = (),  # the first is the default, the others are for other GPUs
) -> Any:
    """Return the production config of an engine: TensorRT on every NVIDIA GPU of the server.

    Raises:
        ConfigError: if there is to be no instance, or a CUDA graph of a batch that the graph does not take.

    """
    if serving.instances < 1:
        raise ConfigError(f"An engine has 1 instance or more on a GPU, not {serving.instances}.")
    config = model_config(contract.name, "tensorrt", contract.inputs, contract.outputs, contract.max_batch)
    config.default_model_filename = PLAN
    group = config.instance_group.add(count=serving.instances, kind=pb.ModelInstanceGroup.KIND_GPU)
    if plans and len(plans[0].profiles) > 1:
        _list_profiles(config, group, len(plans[0].profiles))
    config.dynamic_batching.SetInParent()
    for batch in sorted(set(serving.cuda_graphs)):
        _record(config, contract, batch)
    for batch in sorted({1, contract.max_batch}):
        warm_up(config, contract, batch)
    if plans:
        _map_plans(config, plans)
    return config


def plan_file(plan: EngineManifest, plans: Sequence[EngineManifest]) -> str:
    """Return what one of `plans` is called in a version folder."""
    return PLAN if plan == plans[0] else f"model.{short_capability(plan)}.plan"


def short_capability(plan: EngineManifest) -> str:
    """Return the compute capability of a plan's GPU as compilers write it, as in sm87."""
    return f"sm{plan.device['compute_capability'].replace('.', '')}"


def _list_profiles(config: Any, group: Any, count: int) -> None:
    """Have the backend make a context for each profile, each with its own memory; a batch runs in its profile's."""
    group.profile.extend(map(str, range(count)))  # without them it knows the first alone, and takes no larger batch
    config.parameters["execution_context_allocation_strategy"].string_value = "ON_PROFILE_CHANGE"


def _record(config: Any, contract: GraphContract, batch: int) -> None:
    """Have the backend record a batch; it tries each context, and logs an error for those of other batches."""
    if not 1 <= batch <= contract.max_batch:
        raise ConfigError(f"{contract.name} takes batches of 1 to {contract.max_batch}: record none of {batch}.")
    config.optimization.cuda.graphs = True
    spec = config.optimization.cuda.graph_spec.add(batch_size=batch)
    for tensor in contract.inputs:
        spec.input[tensor.name].dim.extend(tensor.shape)  # without the batch, which the backend puts before


def warm_up(config: Any, contract: GraphContract, batch: int) -> None:
    """Run the engine on black images before the model is ready: the first run of a batch size loads its kernels."""
    sample = config.model_warmup.add(name=f"batch_{batch}", batch_size=batch)
    for tensor, declared in zip(contract.inputs, config.input, strict=True):
        given = sample.inputs[tensor.name]
        given.data_type, given.zero_data = declared.data_type, True
        given.dims.extend(tensor.shape)


def _map_plans(config: Any, plans: Sequence[EngineManifest]) -> None:
    """Map each GPU to its plan, where there are several, and record what the plans were built with."""
    for plan in plans if len(plans) > 1 else ():
        config.cc_model_filenames[plan.device["compute_capability"]] = plan_file(plan, plans)
    config.parameters["tensorrt_version"].string_value = plans[0].versions["tensorrt"]
    config.parameters["built_on"].string_value = ", ".join(plan.device["name"] for plan in plans)
