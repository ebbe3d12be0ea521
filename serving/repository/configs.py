"""Every model config of a repository, generated from the model's config and the graph contracts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from engines.manifest import EngineManifest
from outfitgan.config import ModelConfig
from outfitgan.contracts import GraphContract
from outfitgan.errors import ConfigError
from outfitgan.files import atomic_write
from outfitgan.model_graphs import mask_contracts, run_contracts
from serving.models.thread_parameters import CPU_THREAD_PARAMETER
from serving.repository.ensembles import ensemble_from_source, ensembles_with_masks, steps_from_source, steps_with_masks
from serving.repository.gpu_config import DEFAULT_GPU_SERVING, PLAN, GpuServing, gpu_config
from serving.repository.model_config import model_config
from serving.repository.pbtxt import render
from serving.repository.rtx_config import rtx_config

ENGINE_FILENAME = {"tensorrt": PLAN, "tensorrt-rtx": PLAN, "onnxruntime": "model.onnx", "openvino": "model.xml"}
"""The file in a version folder that Triton hands to each backend."""

DEFAULT_CPU_RUNTIME = "openvino"
"""The runtime of the committed `configs/cpu.pbtxt` files."""

CPU_RESOURCE = "engine_on_cpu"
"""The rate limiter's resource that every engine holds while it runs on a CPU."""


def repository_configs(
    model: ModelConfig,
    contracts: Mapping[str, GraphContract],  # of the graphs that are served: `outfitgan.model_graphs.contracts_of`
    cpu_runtime: str = DEFAULT_CPU_RUNTIME,
    threads: int = 0,  # what one engine may use on a CPU server; 0 lets it take all cores
    gpu: GpuServing = DEFAULT_GPU_SERVING,
    plans: Mapping[str, Sequence[EngineManifest]] = MappingProxyType({}),  # of a graph, as `gpu_config` takes them
) -> dict[str, str]:
    """Return every config file of a repository for `model` as {path inside the repository: text}.

    Raises:
        ConfigError: if there is no such CPU runtime, the threads are negative, or `gpu_config` refuses `gpu`.

    """
    if cpu_runtime not in CPU_THREAD_PARAMETER:
        raise ConfigError(f"A CPU server runs {' or '.join(CPU_THREAD_PARAMETER)} engines, not '{cpu_runtime}'.")
    if threads < 0:
        raise ConfigError(f"threads must be 0 (all cores) or more, not {threads}.")
    documented = [*steps_with_masks(model), *ensembles_with_masks(model)]
    if set(mask_contracts(model)) <= set(contracts):
        documented += [*steps_from_source(model), ensemble_from_source(model)]
    files = {f"{config.name}/config.pbtxt": render(config, purpose) for config, purpose in documented}
    for name, contract in contracts.items():
        purpose = _purpose(contract)
        files[f"{name}/config.pbtxt"] = render(
            _gpu_config(contract, gpu, plans.get(name, ())), f"{purpose}, on an NVIDIA GPU"
        )
        cpu = cpu_config(contract, cpu_runtime, threads)
        files[f"{name}/configs/cpu.pbtxt"] = render(cpu, f"{purpose}, for `--model-config-name=cpu`")
    return files


def write_configs(files: Mapping[str, str], repository: Path) -> None:
    """Write what `repository_configs` returned below `repository`."""
    for name, text in files.items():
        atomic_write(repository / name, text.encode())


def cpu_config(contract: GraphContract, runtime: str, threads: int) -> Any:
    """Return the config of the same engine on a server without a GPU."""
    config = model_config(contract.name, runtime, contract.inputs, contract.outputs, contract.max_batch)
    config.default_model_filename = ENGINE_FILENAME[runtime]
    group = config.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)
    group.rate_limiter.resources.add(name=CPU_RESOURCE, count=1, **{"global": True})  # a keyword in Python
    config.dynamic_batching.SetInParent()
    config.parameters[CPU_THREAD_PARAMETER[runtime]].string_value = str(threads)
    return config


def _gpu_config(contract: GraphContract, gpu: GpuServing, plans: Sequence[EngineManifest]) -> Any:
    if plans and plans[0].runtime == "tensorrt-rtx":
        return rtx_config(plans[0], gpu)
    return gpu_config(contract, gpu, plans)


def _purpose(contract: GraphContract) -> str:
    inputs = ", ".join(spec.name for spec in contract.inputs)
    return f"{inputs} to {', '.join(spec.name for spec in contract.outputs)}"


if __name__ == "__main__":
    from outfitgan.config import load_preset

    default = load_preset("small").model
    files = repository_configs(default, run_contracts(default) | mask_contracts(default))
    write_configs(files, Path(__file__).parents[2] / "triton_repo")
