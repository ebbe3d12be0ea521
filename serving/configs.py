"""Every model config of a repository, generated from the model's config and the graph contracts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from export.contract import MAX_BATCH, GraphContract, TensorSpec
from export.graphs import collocation_contract, image_spec, mask_spec, run_contracts
from outfitgan.config import ModelConfig
from outfitgan.errors import ConfigError
from outfitgan.files import atomic_write
from outfitgan.items import COLLOCATION_ORDER
from serving.pbtxt import render

CPU_THREAD_PARAMETER = {"onnxruntime": "intra_op_thread_count", "openvino": "INFERENCE_NUM_THREADS"}
"""The engine targets of a CPU server and the parameter by which NVIDIA's backend of that name sets its threads."""

ENGINE_FILENAME = {"tensorrt": "model.plan", "onnxruntime": "model.onnx", "openvino": "model.xml"}
"""The file in a version folder that Triton hands to each backend."""

DEFAULT_CPU_TARGET = "openvino"
"""The target of the committed `configs/cpu.pbtxt` files."""

CPU_RESOURCE = "engine_on_cpu"
"""The rate limiter's resource that every engine holds while it runs on a CPU."""

_INSTANCES = {"prepare": 1, "decode": 2, "finish": 1, "encode": 2, "score": 1}
_NUMPY_TYPES = {"uint8": pb.TYPE_UINT8, "int32": pb.TYPE_INT32, "float32": pb.TYPE_FP32, "bytes": pb.TYPE_STRING}


def repository_configs(model: ModelConfig, cpu_target: str = DEFAULT_CPU_TARGET, threads: int = 0) -> dict[str, str]:
    """Return every config file of a repository for `model` as {path inside the repository: text}.

    `threads` is what one engine may use on a CPU server; 0 lets it take all cores. Raises ConfigError if there is no
    such CPU target or the threads are negative.
    """
    if cpu_target not in CPU_THREAD_PARAMETER:
        raise ConfigError(f"A CPU server runs {' or '.join(CPU_THREAD_PARAMETER)} engines, not '{cpu_target}'.")
    if threads < 0:
        raise ConfigError(f"threads must be 0 (all cores) or more, not {threads}.")
    files = {}
    for config, purpose in _python_models(model):
        files[f"{config.name}/config.pbtxt"] = render(config, purpose)
    for contract in run_contracts(model).values():
        purpose = _purpose(contract)
        files[f"{contract.name}/config.pbtxt"] = render(gpu_config(contract), f"{purpose}, on an NVIDIA GPU")
        cpu = cpu_config(contract, cpu_target, threads)
        files[f"{contract.name}/configs/cpu.pbtxt"] = render(cpu, f"{purpose}, for `--model-config-name=cpu`")
    for config, purpose in _ensembles(model):
        files[f"{config.name}/config.pbtxt"] = render(config, purpose)
    return files


def write_configs(files: Mapping[str, str], repository: Path) -> None:
    """Write what `repository_configs` returned below `repository`."""
    for name, text in files.items():
        atomic_write(repository / name, text.encode())


def gpu_config(contract: GraphContract) -> Any:
    """Return the production config of an engine: TensorRT on an NVIDIA GPU."""
    config = _config(contract.name, "tensorrt", contract.inputs, contract.outputs, contract.max_batch)
    config.default_model_filename = ENGINE_FILENAME["tensorrt"]
    config.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_GPU)
    config.dynamic_batching.SetInParent()
    return config


def cpu_config(contract: GraphContract, target: str, threads: int) -> Any:
    """Return the config of the same engine on a server without a GPU."""
    config = _config(contract.name, target, contract.inputs, contract.outputs, contract.max_batch)
    config.default_model_filename = ENGINE_FILENAME[target]
    group = config.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)
    group.rate_limiter.resources.add(name=CPU_RESOURCE, count=1, **{"global": True})  # a keyword in Python
    config.dynamic_batching.SetInParent()
    config.parameters[CPU_THREAD_PARAMETER[target]].string_value = str(threads)
    return config


def _python_models(model: ModelConfig) -> list[tuple[Any, str]]:
    """Return the first and last steps of the ensembles, each with what it is for."""
    size = model.image_size
    names = _mask_names(model)
    source, masks = image_spec("SOURCE", size), [mask_spec(name, size) for name in names]
    source_file, mask_files = _file_spec("SOURCE"), [_file_spec(name) for name in names]
    image, mask = image_spec("IMAGE", size), mask_spec("MASK", size)
    (compatibility,) = collocation_contract(model).outputs
    optional = ("SOURCE", *names)  # the scheduler answers a missing one that is not with "unexpected deadlock"
    return [
        (_python("prepare", [source, *masks], [source, *masks], optional), "checks tensors; zeros for a mask not sent"),
        (_python("decode", [source_file, *mask_files], [source, *masks], optional), "JPEG or PNG files to tensors"),
        (_python("finish", [image, mask], [image]), "hands out an image if its mask was sent"),
        (_python("encode", [image, mask], [_file_spec("PNG")]), "an image to a PNG file if its mask was sent"),
        (_python("score", [compatibility, *masks], [compatibility]), "hands out the score if all masks were sent"),
    ]


def _ensembles(model: ModelConfig) -> list[tuple[Any, str]]:
    """Return the public API: tensors in and out, files in and out."""
    size = model.image_size
    names = _mask_names(model)
    tensors = [image_spec("SOURCE", size), *(mask_spec(name, size) for name in names)]
    images = [image_spec(kind.name, size) for kind in model.targets]
    files = [_file_spec(name) for name in ("SOURCE", *names)]
    pngs = [_file_spec(kind.name) for kind in model.targets]
    score = list(collocation_contract(model).outputs)
    outfit = _config("outfit", "", tensors, images + score, MAX_BATCH, ("SOURCE", *names))
    encoded = _config("outfit_encoded", "", files, pngs + score, MAX_BATCH, ("SOURCE", *names))
    _schedule(outfit, model, first="prepare", leaf="finish", leaf_output="IMAGE")
    _schedule(encoded, model, first="decode", leaf="encode", leaf_output="PNG")
    asked = (
        "ask for the items you want.\n# Send SOURCE, the mask of each item you ask for, and all masks for COMPATIBILITY"
    )
    return [
        (outfit, f"one {model.source} item to an outfit, as tensors; {asked}"),
        (encoded, f"one {model.source} item to an outfit, JPEG or PNG files in, PNG files out; {asked}"),
    ]


def _schedule(config: Any, model: ModelConfig, first: str, leaf: str, leaf_output: str) -> None:
    """Add the steps: CAPITALS are the ensemble's own tensors, small letters live between steps.

    Every public output has a leaf step to itself and one first step reads every public input: the scheduler answers a
    request for a subset of the outputs with "unexpected deadlock" for other shapes (server issue 7482).
    """
    config.platform = "ensemble"
    masks = {name: name.lower() for name in _mask_names(model)}
    public = {name: name for name in ("SOURCE", *masks)}
    _step(config, first, public, {"SOURCE": str(model.source), **masks})
    for kind in model.targets:
        taken = {"SOURCE": str(model.source), "MASK": f"mask_{kind}"}
        _step(config, f"generator_{kind}", taken, {"IMAGE": str(kind)})
    _step(config, "collocation", {k.name: str(k) for k in COLLOCATION_ORDER}, {"COMPATIBILITY": "compatibility"})
    for kind in model.targets:
        _step(config, leaf, {"IMAGE": str(kind), "MASK": f"mask_{kind}"}, {leaf_output: kind.name})
    _step(config, "score", {"COMPATIBILITY": "compatibility", **masks}, {"COMPATIBILITY": "COMPATIBILITY"})


def _step(config: Any, name: str, taken: Mapping[str, str], given: Mapping[str, str]) -> None:
    step = config.ensemble_scheduling.step.add(model_name=name, model_version=-1)
    step.input_map.update(taken)
    step.output_map.update(given)


def _python(
    name: str, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec], optional: Iterable[str] = ()
) -> Any:
    config = _config(name, "python", inputs, outputs, MAX_BATCH, optional)
    config.instance_group.add(count=_INSTANCES[name], kind=pb.ModelInstanceGroup.KIND_CPU)
    return config


def _config(
    name: str,
    backend: str,
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
    max_batch: int,
    optional: Iterable[str] = (),
) -> Any:
    config = pb.ModelConfig(name=name, backend=backend, max_batch_size=max_batch)
    for spec in inputs:
        tensor = config.input.add(name=spec.name, data_type=_NUMPY_TYPES[spec.dtype], dims=spec.shape)
        tensor.optional = spec.name in optional
    for spec in outputs:
        config.output.add(name=spec.name, data_type=_NUMPY_TYPES[spec.dtype], dims=spec.shape)
    return config


def _mask_names(model: ModelConfig) -> list[str]:
    return [f"MASK_{kind.name}" for kind in model.targets]


def _file_spec(name: str) -> TensorSpec:
    return TensorSpec(name, "bytes", (1,), 0, 255)


def _purpose(contract: GraphContract) -> str:
    taken = ", ".join(spec.name for spec in contract.inputs)
    return f"{taken} to {', '.join(spec.name for spec in contract.outputs)}"


if __name__ == "__main__":
    from outfitgan.config import load_preset

    write_configs(repository_configs(load_preset("small").model), Path(__file__).parents[1] / "triton_repo")
