"""The forms of a graph: what the exporter does with a trace to make each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx

from export import portable
from export.correlate_function import OPSET, correlate_function, correlate_nodes
from export.exported import FORMS
from outfitgan.contracts import MAX_BATCH, GraphContract
from outfitgan.errors import GraphError


@dataclass(frozen=True)
class Form:
    """How a form is made."""

    name: str  # one of `export.exported.FORMS`
    opset: int  # of the trace and of the graph
    max_batch: int  # the largest that a graph takes
    finish: Callable[[onnx.ModelProto], onnx.ModelProto]  # what becomes of an optimised trace's `Correlate` nodes

    def contract(self, contract: GraphContract) -> GraphContract:
        """Return a graph's contract in this form."""
        return replace(contract, max_batch=min(contract.max_batch, self.max_batch))


def form_of(name: str) -> Form:
    """Return the form called `name`; raise GraphError if there is none."""
    if name not in _FORMS:
        raise GraphError(f"There is no graph form '{name}'; choose from {', '.join(FORMS)}.")
    return _FORMS[name]


def _with_function(model: onnx.ModelProto) -> onnx.ModelProto:
    """Keep the nodes, and append their function."""
    if correlate_nodes(model):
        model.functions.append(correlate_function())
    return model


STANDARD = Form("standard", OPSET, MAX_BATCH, _with_function)
"""One node a correlation, with a function body: the plugin takes its place in TensorRT."""

PORTABLE = Form("portable", portable.OPSET, portable.MAX_BATCH, portable.write_out)
"""Standard operators alone, of an opset that older parsers read."""

_FORMS = {form.name: form for form in (STANDARD, PORTABLE)}
