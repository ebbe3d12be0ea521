"""Assemble a model repository that Triton loads unchanged: generated configs, the Python steps, the engines."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from engines.manifest import EngineManifest, read_manifest
from export.contract import GraphContract
from export.graphs import contracts_of
from outfitgan.config import ModelConfig
from outfitgan.errors import EngineError, GraphError, ServerError
from outfitgan.files import partial_folder
from serving.configs import CPU_THREAD_PARAMETER, DEFAULT_CPU_TARGET, repository_configs, write_configs
from serving.pbtxt import parse

TEMPLATE = Path(__file__).parents[1] / "triton_repo"
"""The committed repository: its Python models serve every image size and architecture."""


def assemble(model: ModelConfig, engines: Mapping[str, Path], output: Path, threads: int = 0) -> Path:
    """Write a complete repository for `model` to `output` and return it.

    `engines` is {graph name: engine folder}, all of one target; `threads` is what one engine may use on a CPU server,
    0 for all cores. With engines of mask generators it serves `outfit_from_source` too.

    Raises:
        GraphError: if the engines are not those of the model's graphs.
        EngineError: if one is altered or of another target.
        ServerError: if `output` holds something else than a repository.

    """
    _check_output(output)
    contracts = contracts_of(model, engines)
    manifests = _checked(model, contracts, engines)
    target = _common_target(manifests)
    on_cpu = target in CPU_THREAD_PARAMETER
    configs = repository_configs(model, contracts, target if on_cpu else DEFAULT_CPU_TARGET, threads)
    if not on_cpu:
        configs = {name: text for name, text in configs.items() if not name.endswith("cpu.pbtxt")}
    with partial_folder(output) as partial:
        write_configs(configs, partial)
        for name in sorted({path.split("/")[0] for path in configs}):
            version = partial / name / "1"
            version.mkdir()
            if name in manifests:
                for file in (*manifests[name].files, "manifest.json"):
                    shutil.copy(engines[name] / file, version)
            elif parse(configs[f"{name}/config.pbtxt"]).backend == "python":
                shutil.copy(_python_model(name), version)
    return output


def _checked(
    model: ModelConfig, contracts: Mapping[str, GraphContract], engines: Mapping[str, Path]
) -> dict[str, EngineManifest]:
    """Return every engine's manifest, each checked against its graph's contract."""
    manifests = {}
    for name, contract in contracts.items():
        manifests[name] = read_manifest(engines[name])
        if manifests[name].contract != contract:
            raise GraphError(
                f"The engine {engines[name]} does not take and give what {name} of this model does "
                f"(image size {model.image_size}, source {model.source}): export and build that graph again."
            )
    return manifests


def _common_target(manifests: Mapping[str, EngineManifest]) -> str:
    found = {name: manifest.target for name, manifest in manifests.items()}
    if len(set(found.values())) > 1:
        listing = ", ".join(f"{name} for {target}" for name, target in found.items())
        raise EngineError(f"The engines of one repository must have one target, not {listing}: build them alike.")
    return next(iter(found.values()))


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
