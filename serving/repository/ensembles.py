"""The public API of a repository: ensembles over a run's graphs, and their first and last steps.

Every public output has a leaf step to itself and one first step reads every public input: the scheduler answers a
request for a subset of the outputs with "unexpected deadlock" for other shapes (server issue 7482).

In the maps CAPITALS are an ensemble's own tensors, small letters live between steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tritonclient.grpc import model_config_pb2 as pb

from outfitgan.config import ModelConfig
from outfitgan.contracts import TensorSpec
from outfitgan.items import COLLOCATION_ORDER
from outfitgan.model_graphs import (
    COLLOCATION,
    collocation_contract,
    image_spec,
    item_graphs,
    mask_generator_name,
    mask_name,
    mask_spec,
)
from serving.repository.model_config import file_spec, model_config

_INSTANCES = {
    "prepare": 1, "decode": 2, "decode_source": 2, "clean": 1,
    "finish": 1, "encode": 2, "encode_mask": 1, "score": 1,
}  # fmt: skip
_REQUEST = "ask for the items you want"
_SEND = f"{_REQUEST}.\n# Send SOURCE, the mask of each item you ask for, and all masks for COMPATIBILITY"


class DocumentedConfig(NamedTuple):
    """A model config, and the sentence on its purpose that stands above it in the file."""

    config: Any
    purpose: str


def steps_with_masks(model: ModelConfig) -> list[DocumentedConfig]:
    """Return the first and last steps of the ensembles that take reference masks."""
    size, names = model.image_size, _mask_names(model)
    source, masks = image_spec("SOURCE", size), [mask_spec(name, size) for name in names]
    files = [file_spec(name) for name in ("SOURCE", *names)]
    image, mask = image_spec("IMAGE", size), mask_spec("MASK", size)
    (compatibility,) = collocation_contract(model).outputs
    optional = ("SOURCE", *names)  # the scheduler answers a missing one that is not with "unexpected deadlock"
    return [
        DocumentedConfig(
            _python("prepare", [source, *masks], [source, *masks], optional),
            "checks tensors; zeros for a mask not sent",
        ),
        DocumentedConfig(_python("decode", files, [source, *masks], optional), "JPEG or PNG files to tensors"),
        DocumentedConfig(_python("finish", [image, mask], [image]), "hands out an image if its mask was sent"),
        DocumentedConfig(
            _python("encode", [image, mask], [file_spec("PNG")]), "an image to a PNG file if its mask was sent"
        ),
        DocumentedConfig(
            _python("score", [compatibility, *masks], [compatibility]), "hands out the score if all masks were sent"
        ),
    ]


def steps_from_source(model: ModelConfig) -> list[DocumentedConfig]:
    """Return the steps that `outfit_from_source` needs besides."""
    source, mask = image_spec("SOURCE", model.image_size), mask_spec("MASK", model.image_size)
    decode_source = _python("decode_source", [file_spec("SOURCE")], [source], ("SOURCE",))
    return [
        DocumentedConfig(decode_source, "a JPEG or PNG file to a tensor"),
        DocumentedConfig(
            _python("clean", [mask], [mask]), "a generated mask in black and white, without specks and pinholes"
        ),
        DocumentedConfig(_python("encode_mask", [mask], [file_spec("PNG")]), "a mask to a PNG file"),
    ]


def ensembles_with_masks(model: ModelConfig) -> list[DocumentedConfig]:
    """Return `outfit`, tensors in and out, and `outfit_encoded`, files in and out."""
    size, names = model.image_size, _mask_names(model)
    tensors = [image_spec("SOURCE", size), *(mask_spec(name, size) for name in names)]
    images = [image_spec(kind.name, size) for kind in model.targets]
    files = [file_spec(name) for name in ("SOURCE", *names)]
    pngs = [file_spec(kind.name) for kind in model.targets]
    score = collocation_contract(model).outputs
    outfit = model_config("outfit", "", tensors, [*images, *score], optional=("SOURCE", *names))
    encoded = model_config("outfit_encoded", "", files, [*pngs, *score], optional=("SOURCE", *names))
    for config, first, leaf, png in ((outfit, "prepare", "finish", "IMAGE"), (encoded, "decode", "encode", "PNG")):
        config.platform = "ensemble"
        masks = {name: name.lower() for name in names}
        _step(config, first, {name: name for name in ("SOURCE", *names)}, {"SOURCE": str(model.source), **masks})
        _generate_and_score(config, model, leaf, png)
    given = f"one {model.source} item to an outfit"
    return [
        DocumentedConfig(outfit, f"{given}, as tensors; {_SEND}"),
        DocumentedConfig(encoded, f"{given}, JPEG or PNG files in, PNG files out; {_SEND}"),
    ]


def ensemble_from_source(model: ModelConfig) -> DocumentedConfig:
    """Return `outfit_from_source`: one photo in, no masks needed."""
    names = _mask_names(model)
    pngs = [file_spec(name) for name in (*(kind.name for kind in model.targets), *names)]
    outputs = [*pngs, *collocation_contract(model).outputs]
    config = model_config("outfit_from_source", "", [file_spec("SOURCE")], outputs, optional=("SOURCE",))
    config.platform = "ensemble"
    _step(config, "decode_source", {"SOURCE": "SOURCE"}, {"SOURCE": str(model.source)})
    for kind in model.targets:
        _step(config, mask_generator_name(kind), {"SOURCE": str(model.source)}, {"MASK": f"soft_{kind}"})
    for kind in model.targets:
        _step(config, "clean", {"MASK": f"soft_{kind}"}, {"MASK": mask_name(kind).lower()})
    _generate_and_score(config, model, "encode", "PNG")
    for name in names:
        _step(config, "encode_mask", {"MASK": name.lower()}, {"PNG": name})
    purpose = f"a photo of one {model.source} item to an outfit and the masks made for it, PNG files out; {_REQUEST}"
    return DocumentedConfig(config, f"{purpose}.\n# Send SOURCE alone")


def _generate_and_score(config: Any, model: ModelConfig, leaf: str, leaf_output: str) -> None:
    """Add the steps from a source and masks to the public items and COMPATIBILITY."""
    for item_graph in item_graphs(model):
        masks = {name: mask_name(kind).lower() for name, kind in item_graph.masks.items()}
        images = {name: str(kind) for name, kind in item_graph.images.items()}
        _step(config, item_graph.contract.name, {"SOURCE": str(model.source), **masks}, images)
    _step(config, COLLOCATION, {k.name: str(k) for k in COLLOCATION_ORDER}, {"COMPATIBILITY": "compatibility"})
    for kind in model.targets:
        _step(config, leaf, {"IMAGE": str(kind), "MASK": mask_name(kind).lower()}, {leaf_output: kind.name})
    every = {name: name.lower() for name in _mask_names(model)}
    _step(config, "score", {"COMPATIBILITY": "compatibility", **every}, {"COMPATIBILITY": "COMPATIBILITY"})


def _step(config: Any, name: str, taken: Mapping[str, str], given: Mapping[str, str]) -> None:
    step = config.ensemble_scheduling.step.add(model_name=name, model_version=-1)
    step.input_map.update(taken)
    step.output_map.update(given)


def _python(
    name: str, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec], optional: tuple[str, ...] = ()
) -> Any:
    config = model_config(name, "python", inputs, outputs, optional=optional)
    config.instance_group.add(count=_INSTANCES[name], kind=pb.ModelInstanceGroup.KIND_CPU)
    return config


def _mask_names(model: ModelConfig) -> list[str]:
    return [mask_name(kind) for kind in model.targets]
