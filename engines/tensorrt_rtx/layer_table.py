"""The layers of a plan, as the builder of TensorRT for RTX tells them in its log.

Asking the plan itself takes a GPU; the log's table, which comes with ProfilingVerbosity.DETAILED, is there without one,
and tells the types of activations at a dynamic batch too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from outfitgan.errors import EngineError

HEAD = "Layers:"
"""How the message begins that holds the table."""

_LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<constants>.*?)\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>.*?), StreamId: .*?Metadata: ?(?P<metadata>.*)"
)
_TENSOR = re.compile(r"\{ Name: ([^{}]*?), Dimensions: \[([-\d,]*)\],[^{}]*?Datatype: (\w+),")
_NODE = re.compile(r"\[ONNX Layer: (.*?)\]")

_SYNCHRONISATION = ("signal", "wait")


@dataclass(frozen=True)
class LayerTensor:
    """What a layer reads or writes."""

    name: str  # TensorRT's, one where a layer reads what another writes
    dtype: str  # Half, Float, Int8, UInt8, ...
    shape: tuple[int, ...]  # -1 where it is dynamic

    def __str__(self) -> str:
        return f"{self.dtype} {'x'.join('?' if size < 0 else str(size) for size in self.shape)}"


@dataclass(frozen=True)
class Layer:
    """One kernel of a plan."""

    name: str
    kind: str  # TensorRT's word: kgen, correlation (a convolution), gemm, ...
    inputs: tuple[LayerTensor, ...]
    constants: tuple[LayerTensor, ...]
    outputs: tuple[LayerTensor, ...]
    nodes: tuple[str, ...]  # of the ONNX graph that it computes; of a function's body as in `inner | node (Function)`

    @property
    def tensors(self) -> tuple[LayerTensor, ...]:
        """What is computed while it runs: all but its constants."""
        return self.inputs + self.outputs

    def to_json(self) -> dict[str, Any]:
        """Return the layer as a manifest keeps it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "inputs": [str(tensor) for tensor in self.inputs],
            "constants": [str(tensor) for tensor in self.constants],
            "outputs": [str(tensor) for tensor in self.outputs],
            "nodes": list(self.nodes),
        }


def read_layers(messages: Iterable[str]) -> list[Layer]:
    """Return the layers in the log of one build, without those that only order its streams.

    Raises:
        EngineError: if there is not one table, or a line of it is not as expected.

    """
    tables = [message for message in messages if message.startswith(HEAD)]
    if len(tables) != 1:
        raise EngineError(
            f"TensorRT for RTX told {len(tables)} tables of layers, not one; its version is not supported."
        )
    lines = [line for line in tables[0].splitlines() if line.startswith("Name: ")]
    layers = [layer for layer in map(_read, lines) if layer.kind not in _SYNCHRONISATION]
    if not layers:
        raise EngineError("TensorRT for RTX told a table without layers; its version is not supported.")
    return layers


def _read(line: str) -> Layer:
    match = _LINE.fullmatch(line.strip())
    parts = [_tensors(match[part]) for part in ("inputs", "constants", "outputs")] if match else []
    if match is None or None in parts:
        raise EngineError(f"TensorRT for RTX tells a layer otherwise than expected ({line[:80]}); report its version.")
    inputs, constants, outputs = (part or () for part in parts)
    nodes = tuple(_NODE.findall(match["metadata"]))
    return Layer(match["name"], match["kind"], inputs, constants, outputs, nodes)


def _tensors(text: str) -> tuple[LayerTensor, ...] | None:
    """Return the tensors of a list, None if one is not as expected."""
    found = [
        LayerTensor(name, dtype, tuple(map(int, filter(None, dims.split(",")))))
        for name, dims, dtype in _TENSOR.findall(text)
    ]
    return tuple(found) if len(found) == text.count("{") else None
