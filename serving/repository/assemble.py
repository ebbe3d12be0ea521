"""Assemble a model repository that Triton loads unchanged: generated configs, the Python steps, the engines."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from engines.manifest import MANIFEST, EngineManifest, read_manifest
from engines.registry import largest_batch, require_verified
from outfitgan.config import ModelConfig
from outfitgan.contracts import GraphContract
from outfitgan.errors import ConfigError, EngineError, GraphError, ServerError
from outfitgan.files import partial_folder
from outfitgan.model_graphs import contracts_of
from serving.models.thread_parameters import CPU_THREAD_PARAMETER
from serving.repository.configs import (
    DEFAULT_CPU_RUNTIME,
    ENGINE_FILENAME,
    repository_configs,
    write_configs,
)
from serving.repository.gpu_config import DEFAULT_GPU_SERVING, GpuServing, plan_file, short_capability
from serving.repository.pbtxt import parse
from serving.repository.plans import check_plans
from serving.repository.rtx_config import check_rtx_plans

Engines = Mapping[str, Path]
"""Graph name -> engine folder."""

TEMPLATE = Path(__file__).parents[2] / "triton_repo"
"""The committed repository: its Python models serve every image size and architecture."""


def assemble(
    model: ModelConfig,
    engines: Engines,  # all of one runtime
    output: Path,
    threads: int = 0,  # what one engine may use on a CPU server; 0: all cores
    gpu: GpuServing = DEFAULT_GPU_SERVING,
    also: Sequence[Engines] = (),  # plans of the same graphs for GPUs of other compute capabilities
) -> Path:
    """Write a complete repository for `model` to `output` and return it.

    With engines of mask generators it serves `outfit_from_source` too.

    Raises:
        GraphError: if the engines are not those of the model's graphs.
        EngineError: if one is altered, not verified, of another runtime or for fewer batches than a server sends, or
            if plans do not go together or with the server's TensorRT.
        ConfigError: if `gpu` cannot be had, or is asked for with engines of a CPU.
        ServerError: if `output` holds something else than a repository.

    """
    _check_output(output)
    contracts = contracts_of(model, engines)
    sets = [_checked(model, contracts_of(model, folders), folders) for folders in (engines, *also)]
    manifests = sets[0]
    runtime = _common_runtime(manifests)
    on_cpu = runtime in CPU_THREAD_PARAMETER
    if on_cpu and (also or gpu != DEFAULT_GPU_SERVING):
        raise ConfigError(f"These engines are for {runtime}, on a CPU: leave the options of a GPU server out.")
    plans: dict[str, list[EngineManifest]] = {}
    if not on_cpu:
        if runtime == "tensorrt-rtx":
            check_rtx_plans(manifests, also)
        else:
            check_plans(sets, gpu.tensorrt)
        plans = {name: [found[name] for found in sets] for name in contracts}
    configs = repository_configs(model, contracts, runtime if on_cpu else DEFAULT_CPU_RUNTIME, threads, gpu, plans)
    if not on_cpu:
        configs = {name: text for name, text in configs.items() if not name.endswith("cpu.pbtxt")}
    with partial_folder(output) as partial:
        write_configs(configs, partial)
        for name in sorted({path.split("/")[0] for path in configs}):
            version = partial / name / "1"
            version.mkdir()
            if name in manifests:
                for file in (*manifests[name].files, MANIFEST):
                    shutil.copy(engines[name] / file, version)
                for folders, found in zip(also, sets[1:], strict=True):
                    _put_beside(folders[name], found[name], plans[name], version)
            elif parse(configs[f"{name}/config.pbtxt"]).backend == "python":
                shutil.copy(_python_model(name), version)
    return output


def _checked(model: ModelConfig, contracts: Mapping[str, GraphContract], engines: Engines) -> dict[str, EngineManifest]:
    """Return every engine's manifest, each checked against its graph's contract."""
    manifests = {}
    for name, contract in contracts.items():
        manifests[name] = read_manifest(engines[name])
        if manifests[name].contract.max_batch < contract.max_batch:
            raise EngineError(
                f"The engine {engines[name]} is of a portable graph, which takes batches of 1 to "
                f"{manifests[name].contract.max_batch}, and a server sends 1 to {contract.max_batch}: generate in the "
                "process or with the edge program, or build it with TensorRT 10.15 or newer."
            )
        if manifests[name].contract != contract:
            raise GraphError(
                f"The engine {engines[name]} does not take and give what {name} of this model does "
                f"(image size {model.image_size}, source {model.source}): export and build that graph again."
            )
        require_verified(engines[name], manifests[name])
        profile, largest = manifests[name].profile, largest_batch(manifests[name].runtime, contract)
        if (profile.min_batch, profile.max_batch) != (1, largest):
            raise EngineError(
                f"The engine {engines[name]} is for batches of {profile.min_batch} to {profile.max_batch}; a server "
                f"sends 1 to {largest}: build it without a profile of its own."
            )
    return manifests


def _put_beside(folder: Path, plan: EngineManifest, plans: Sequence[EngineManifest], version: Path) -> None:
    """Copy the plan of a further GPU, and its manifest, under names of their own."""
    (model_file,) = plan.files
    shutil.copy(folder / model_file, version / plan_file(plan, plans))
    shutil.copy(folder / MANIFEST, version / f"manifest.{short_capability(plan)}.json")


def _common_runtime(manifests: Mapping[str, EngineManifest]) -> str:
    found = {name: manifest.runtime for name, manifest in manifests.items()}
    if len(set(found.values())) > 1:
        listing = ", ".join(f"{name} for {runtime}" for name, runtime in found.items())
        raise EngineError(f"The engines of one repository must have one runtime, not {listing}: build them alike.")
    runtime = next(iter(found.values()))
    if runtime not in ENGINE_FILENAME:
        served = ", ".join(ENGINE_FILENAME)
        raise EngineError(f"A repository serves engines for {served}, not for {runtime}: build them for one of those.")
    return runtime


def _python_model(name: str) -> Path:
    path = TEMPLATE / name / "1" / "model.py"
    if not path.is_file():
        raise ServerError(f"There is no {path}: install outfitgan again, or assemble in a checkout of the project.")
    return path


def _check_output(output: Path) -> None:
    """Refuse to replace a folder that is not an assembled repository."""
    if output.resolve() == TEMPLATE.resolve():
        raise ServerError(f"{output} holds the committed configs: assemble to another folder.")
    replaceable = output.is_dir() and ((output / "outfit" / "config.pbtxt").is_file() or not any(output.iterdir()))
    if output.exists() and not replaceable:
        raise ServerError(f"{output} exists and is not a model repository: choose a new folder.")
