"""The config of a plan of TensorRT for RTX, which this project's Python-based backend runs on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from engines.manifest import EngineManifest
from outfitgan.errors import ConfigError, EngineError
from serving.repository.gpu_config import PLAN, GpuServing, warm_up
from serving.repository.model_config import model_config

RTX_BACKEND = "tensorrt_rtx"


def rtx_config(plan: EngineManifest, serving: GpuServing) -> Any:
    """Return the config of a plan; its largest batch is the plan's, which may be less than its graph's.

    Raises:
        ConfigError: if `serving` asks for what only Triton's own TensorRT backend does.

    """
    if serving.cuda_graphs or serving.tensorrt:
        raise ConfigError(
            "Plans of TensorRT for RTX take no --cuda-graph and no --server-tensorrt: CUDA graphs are the build option "
            "cuda_graphs=whole, and the server's version is that of the package beside its Python."
        )
    contract, largest = plan.contract, plan.profile.max_batch
    config = model_config(contract.name, RTX_BACKEND, contract.inputs, contract.outputs, largest)
    config.default_model_filename = PLAN
    # The runner takes the first GPU; without the list Triton would make instances for each.
    config.instance_group.add(count=serving.instances, kind=pb.ModelInstanceGroup.KIND_GPU, gpus=[0])
    config.dynamic_batching.SetInParent()
    for batch in sorted({1, largest}):
        warm_up(config, contract, batch)
    config.parameters["tensorrt_rtx_version"].string_value = plan.versions["tensorrt_rtx"]
    config.parameters["verified_on"].string_value = plan.device["name"]
    return config


def check_rtx_plans(manifests: Mapping[str, EngineManifest], others: Sequence[object]) -> None:
    """Raise EngineError if plans are of several versions, or there are `others`: one plan is for every GPU."""
    if others:
        raise EngineError(
            "Plans of TensorRT for RTX take no plans of other GPUs beside them (--also): one is for several compute "
            "capabilities, as its option compute_capabilities says."
        )
    versions = sorted({manifest.versions.get("tensorrt_rtx", "unknown") for manifest in manifests.values()})
    if len(versions) > 1:
        raise EngineError(f"One server has one TensorRT for RTX, and these plans are of {', '.join(versions)}.")
