"""Traces of architectures: tracing takes seconds, putting other weights into a trace takes none."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import onnx
import torch
from torch import nn

from outfitgan.contracts import GraphContract
from outfitgan.errors import GraphError

_EXAMPLE_BATCH = 2  # a batch of one would be taken for a constant


@dataclass
class Traces:
    """Unoptimised graphs of one opset by architecture."""

    opset: int
    models: dict[str, bytes] = field(default_factory=dict)

    def model_of(self, module: nn.Module, contract: GraphContract, precision: str) -> onnx.ModelProto:
        """Return the graph of `module` with its own weights; raise GraphError if it does not use one of them."""
        key = architecture(module, contract, precision)
        if key not in self.models:
            self.models[key] = _trace(module, contract, self.opset).SerializeToString()
        model: onnx.ModelProto = onnx.ModelProto.FromString(self.models[key])
        put_weights(model, module)
        return model


def architecture(module: nn.Module, contract: GraphContract, precision: str) -> str:
    """Name everything a trace depends on: the modules with their settings, the weights' shapes, the boundary."""
    settings = [
        (name, type(part).__qualname__, part.extra_repr(), _plain(part)) for name, part in module.named_modules()
    ]
    shapes = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in module.state_dict().items()]
    boundary = {**contract.to_json(), "name": ""}
    return repr((settings, shapes, boundary, precision))


def put_weights(model: onnx.ModelProto, module: nn.Module) -> None:
    """Write a module's weights into a trace of its architecture; raise GraphError if the trace lacks one."""
    # Integers, such as a batch norm's count of batches, only serve training.
    weights = {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    missing = sorted(set(weights) - set(initializers))
    if missing:
        raise GraphError(
            f"The traced graph lacks {len(missing)} weights, {missing[0]} first; use each in the module's forward."
        )
    for name, weight in weights.items():
        initializers[name].CopyFrom(onnx.numpy_helper.from_array(weight.numpy(), name))


def _plain(module: nn.Module) -> list[tuple[str, Any]]:
    """Return a module's own plain attributes, as `temperature`, which end as constants in the graph."""
    return sorted((k, v) for k, v in vars(module).items() if isinstance(v, int | float | str | tuple))


def _trace(module: nn.Module, contract: GraphContract, opset: int) -> onnx.ModelProto:
    example = tuple(torch.zeros(_EXAMPLE_BATCH, *spec.shape, dtype=torch.uint8) for spec in contract.inputs)
    batch = torch.export.Dim("batch", min=1, max=contract.max_batch)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=tuple({0: batch} for _ in example),
            input_names=[spec.name for spec in contract.inputs],
            output_names=[spec.name for spec in contract.outputs],
            optimize=False,  # folding would hide the weights under other names
            verbose=False,
        )
    if program is None:
        raise GraphError(f"torch.onnx gave no graph for {contract.name}; check the torch version.")
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporter's warnings of its own deprecations and of torchvision, which no graph uses."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
