"""torch to ONNX: trace an architecture once, put each network's weights in, check, and write the file."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxscript import optimizer
from torch import nn

from export.boundary import AlignmentGraph, CollocationGraph, GeneratorGraph
from export.contract import GraphContract
from export.correlate_function import DOMAIN, OPSET, correlate_function
from export.exported import PRECISIONS, ExportedGraph, drop_index, graph_path, save_index, save_sidecar
from export.graphs import alignment_contract, collocation_contract, generator_contract
from export.parity import Arrays, measure, parity_feeds, shortfalls
from export.types import check_types
from outfitgan.config import ModelConfig
from outfitgan.errors import GraphError
from outfitgan.files import partial_file, sha256_of
from outfitgan.items import ItemKind
from outfitgan.networks.collocation import CollocationClassifier
from outfitgan.networks.generator import Generator

Progress = Callable[[str, int, int], None]
"""Called with a graph's name, its number from 1 and how many there are, when the graph is written."""

_EXAMPLE_BATCH = 2  # a batch of one would be taken for a constant


@dataclass
class _Traces:
    """Unoptimised graphs by architecture: tracing takes seconds, putting other weights in takes none."""

    models: dict[str, bytes] = field(default_factory=dict)

    def model_of(self, module: nn.Module, contract: GraphContract, precision: str) -> onnx.ModelProto:
        """Return the graph of `module` with its own weights."""
        key = _architecture(module, contract, precision)
        if key not in self.models:
            self.models[key] = _trace(module, contract).SerializeToString()
        model: onnx.ModelProto = onnx.ModelProto.FromString(self.models[key])
        _put_weights(model, module)
        return model


def export_run(
    generators: Mapping[ItemKind, Generator],
    collocation: CollocationClassifier,
    model: ModelConfig,
    output: Path,
    precisions: Sequence[str] = PRECISIONS,
    progress: Progress | None = None,
    origin: str = "",
) -> list[ExportedGraph]:
    """Export every graph of a run into `output`: per kind a generator and its alignment, and the collocation.

    Raises:
        GraphError: if a graph is out of tolerance; the export then counts as unfinished.

    """
    if unknown := [precision for precision in precisions if precision not in PRECISIONS]:
        raise GraphError(f"There is no graph precision {', '.join(unknown)}; choose from {', '.join(PRECISIONS)}.")
    for precision in precisions:
        drop_index(output, precision)
    kinds = [kind for kind in model.targets if kind in generators]
    jobs: list[tuple[nn.Module, GraphContract]] = [
        (GeneratorGraph(generators[kind]), generator_contract(kind, model)) for kind in kinds
    ]
    jobs += [(AlignmentGraph(generators[kind].alignment), alignment_contract(kind, model)) for kind in kinds]
    jobs.append((CollocationGraph(collocation), collocation_contract(model)))
    traces, exported = _Traces(), []
    for module, contract in jobs:
        references = _references(module, contract)
        for precision in precisions:
            path = graph_path(output, contract.name, precision)
            exported.append(_export(module, contract, precision, path, traces, references))
            if progress:
                progress(f"{contract.name}.{precision}", len(exported), len(jobs) * len(precisions))
    for precision in precisions:
        save_index(output, precision, [graph for graph in exported if graph.precision == precision], origin)
    return exported


def export_graph(module: nn.Module, contract: GraphContract, precision: str, path: Path) -> ExportedGraph:
    """Export one boundary module (see `export.boundary`) to `path`, with its sidecar.

    Raises:
        GraphError: if the precision is unknown or the graph is out of tolerance; nothing is left behind.

    """
    return _export(module, contract, precision, path, _Traces(), _references(module, contract))


def _export(
    module: nn.Module,
    contract: GraphContract,
    precision: str,
    path: Path,
    traces: _Traces,
    references: Sequence[Arrays],
) -> ExportedGraph:
    if precision not in PRECISIONS:
        raise GraphError(f"There is no graph precision '{precision}'; choose from {', '.join(PRECISIONS)}.")
    module = copy.deepcopy(module).cpu().eval()
    weights = _sha256_of_weights(module)
    typed = module.half() if precision == "fp16" else module.float()
    model = _finish(traces.model_of(typed, contract, precision), contract, precision)
    check_types(model, precision)
    with partial_file(path) as partial:
        onnx.save(model, partial)
        onnx.checker.check_model(partial, full_check=True)
        parity = _checked_parity(partial, contract, precision, references)
        digest = sha256_of(partial)
        path.with_suffix(".json").unlink(missing_ok=True)  # never a new file beside an old sidecar
    versions = {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    graph = ExportedGraph(path, contract, precision, digest, weights, parity, versions)
    save_sidecar(graph)
    return graph


def _trace(module: nn.Module, contract: GraphContract) -> onnx.ModelProto:
    example = tuple(torch.zeros(_EXAMPLE_BATCH, *spec.shape, dtype=torch.uint8) for spec in contract.inputs)
    batch = torch.export.Dim("batch", min=1, max=contract.max_batch)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            opset_version=OPSET,
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


def _architecture(module: nn.Module, contract: GraphContract, precision: str) -> str:
    """Name everything a trace depends on: the modules with their settings, the weights' shapes, the boundary."""
    settings = [
        (name, type(part).__qualname__, part.extra_repr(), _plain(part)) for name, part in module.named_modules()
    ]
    shapes = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in module.state_dict().items()]
    boundary = {**contract.to_json(), "name": ""}
    return repr((settings, shapes, boundary, precision))


def _plain(module: nn.Module) -> list[tuple[str, Any]]:
    """Return a module's own plain attributes, as `temperature`, which end as constants in the graph."""
    return sorted((k, v) for k, v in vars(module).items() if isinstance(v, int | float | str | tuple))


def _put_weights(model: onnx.ModelProto, module: nn.Module) -> None:
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


def _finish(model: onnx.ModelProto, contract: GraphContract, precision: str) -> onnx.ModelProto:
    """Fold constants, keep the Correlate node, and append its function."""
    model = optimizer.optimize(model)
    _forget_origin(model)
    if any(node.domain == DOMAIN for node in model.graph.node):
        model.functions.append(correlate_function())
    model.producer_name, model.producer_version = "outfitgan", ""
    model.graph.name = contract.name
    facts = {"outfitgan.precision": precision, "outfitgan.contract": json.dumps(contract.to_json())}
    onnx.helper.set_model_props(model, facts)
    return model


def _forget_origin(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes on each node: they hold source paths, and would change the file's hash."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def _references(module: nn.Module, contract: GraphContract) -> list[Arrays]:
    """Return torch's FP32 outputs for every parity feed."""
    module = copy.deepcopy(module).cpu().float().eval()
    names = [spec.name for spec in contract.outputs]
    references: list[Arrays] = []
    for feeds in parity_feeds(contract):
        with torch.no_grad():
            found = module(*(torch.from_numpy(feeds[spec.name]) for spec in contract.inputs))
        tensors = found if isinstance(found, tuple) else (found,)
        references.append({name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)})
    return references


def _checked_parity(
    path: Path, contract: GraphContract, precision: str, references: Sequence[Arrays]
) -> dict[str, dict[str, float]]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [spec.name for spec in contract.outputs]

    def run(feeds: dict[str, np.ndarray[Any, Any]]) -> Arrays:
        return dict(zip(names, session.run(names, feeds), strict=True))

    figures = measure(references, run, parity_feeds(contract), contract)
    missed = shortfalls(figures, contract, precision)
    if missed:
        raise GraphError(f"The {precision} graph {contract.name} is out of tolerance against torch: {missed}.")
    return {name: figure.to_json() for name, figure in figures.items()}


def _sha256_of_weights(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
