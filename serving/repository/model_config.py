"""What every model config starts from: Triton's own message, with a tensor for each spec of a boundary."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from outfitgan.contracts import MAX_BATCH, TensorSpec

_NUMPY_TYPES = {"uint8": pb.TYPE_UINT8, "int32": pb.TYPE_INT32, "float32": pb.TYPE_FP32, "bytes": pb.TYPE_STRING}


def model_config(
    name: str,
    backend: str,  # empty for an ensemble
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
    max_batch: int = MAX_BATCH,
    optional: Collection[str] = (),  # inputs that a request may leave out
) -> Any:
    """Return a config with its tensors; the caller adds instances, steps and parameters."""
    config = pb.ModelConfig(name=name, backend=backend, max_batch_size=max_batch)
    for spec in inputs:
        tensor = config.input.add(name=spec.name, data_type=_NUMPY_TYPES[spec.dtype], dims=spec.shape)
        tensor.optional = spec.name in optional
    for spec in outputs:
        config.output.add(name=spec.name, data_type=_NUMPY_TYPES[spec.dtype], dims=spec.shape)
    return config


def file_spec(name: str) -> TensorSpec:
    """Return the boundary of one file's bytes."""
    return TensorSpec(name, "bytes", (1,), 0, 255)
