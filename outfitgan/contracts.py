"""A graph's inputs and outputs: plain data, so that an edge box reads it without torch or onnx."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outfitgan.errors import GraphError, InputError

Arrays = dict[str, NDArray[Any]]
"""Tensor name -> array, whose first axis is the batch."""

MAX_BATCH = 8
"""Largest batch that every graph, engine profile and server model of a run accepts."""


@dataclass(frozen=True)
class TensorSpec:
    """One boundary tensor; `shape` leaves the batch axis out, `low` and `high` bound its values."""

    name: str
    dtype: str  # a numpy name: uint8, int32, float32
    shape: tuple[int, ...]
    low: float
    high: float


@dataclass(frozen=True)
class GraphContract:
    """The boundary of one graph, the same in every precision and on every engine."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int = MAX_BATCH

    def to_json(self) -> dict[str, Any]:
        """Return the contract as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> GraphContract:
        """Rebuild a contract from `to_json`; raise GraphError if fields are missing or unknown."""
        try:
            return cls(
                name=data["name"],
                inputs=tuple(TensorSpec(**{**s, "shape": tuple(s["shape"])}) for s in data["inputs"]),
                outputs=tuple(TensorSpec(**{**s, "shape": tuple(s["shape"])}) for s in data["outputs"]),
                max_batch=data["max_batch"],
            )
        except (KeyError, TypeError) as error:
            raise GraphError(f"The graph contract is not readable ({error}); export the graph again.") from error

    def check_inputs(self, feeds: Arrays) -> int:
        """Check names, dtypes and shapes of `feeds` and return their batch; raise InputError if they differ."""
        expected = {spec.name: spec for spec in self.inputs}
        if set(feeds) != set(expected):
            raise InputError(f"{self.name} takes {sorted(expected)}, not {sorted(feeds)}.")
        for name, array in feeds.items():
            spec = expected[name]
            if array.dtype != np.dtype(spec.dtype):
                raise InputError(f"{self.name}: {name} must be {spec.dtype}, not {array.dtype}; convert it first.")
            if array.shape[1:] != spec.shape:
                raise InputError(
                    f"{self.name}: {name} must be (batch, {', '.join(map(str, spec.shape))}), not {array.shape}."
                )
        batches = {array.shape[0] for array in feeds.values()}
        if len(batches) != 1 or not 1 <= (batch := batches.pop()) <= self.max_batch:
            sizes = {name: array.shape[0] for name, array in feeds.items()}
            raise InputError(f"{self.name}: every input needs one batch size from 1 to {self.max_batch}, not {sizes}.")
        return batch
