"""torch to ONNX: trace an architecture once, put each network's weights in, check, and write the file."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxscript import optimizer
from torch import nn

from export.contract import GraphContract
from export.correlate_function import DOMAIN, correlate_function
from export.exported import PRECISIONS, ExportedGraph, drop_index, graph_path, save_index, save_sidecar
from export.graphs import contracts_of
from export.modules import run_module, run_modules
from export.parity import Arrays, measure, parity_feeds, shortfalls
from export.traces import Traces
from export.types import check_types
from outfitgan.config import ModelConfig
from outfitgan.errors import GraphError
from outfitgan.files import partial_file, sha256_of
from outfitgan.items import ItemKind
from outfitgan.networks.architectures import OutfitGenerator
from outfitgan.networks.collocation import CollocationClassifier
from outfitgan.networks.pix2pix import MaskGenerator

Progress = Callable[[str, int, int], None]
"""Called with a graph's name, its number from 1 and how many there are, when the graph is written."""


def export_run(
    generator: OutfitGenerator,
    collocation: CollocationClassifier,
    mask_generators: Mapping[ItemKind, MaskGenerator],  # empty where the run has none
    model: ModelConfig,
    output: Path,
    precisions: Sequence[str] = PRECISIONS,
    progress: Progress | None = None,
    origin: str = "",
) -> list[ExportedGraph]:
    """Export every graph of a run into `output`: those of `export.graphs`.

    Raises:
        GraphError: if a graph is out of tolerance, or the networks are not those of `model`; the export then counts as
            unfinished.

    """
    if unknown := [precision for precision in precisions if precision not in PRECISIONS]:
        raise GraphError(f"There is no graph precision {', '.join(unknown)}; choose from {', '.join(PRECISIONS)}.")
    for precision in precisions:
        drop_index(output, precision)
    modules = run_modules(generator, collocation, mask_generators)
    contracts = contracts_of(model, modules)
    traces, exported = Traces(), []
    for name, contract in contracts.items():
        references = _references(modules[name], contract)
        for precision in precisions:
            path = graph_path(output, name, precision)
            exported.append(_export(modules[name], contract, precision, path, traces, references))
            if progress:
                progress(f"{name}.{precision}", len(exported), len(contracts) * len(precisions))
    for precision in precisions:
        save_index(output, precision, [graph for graph in exported if graph.precision == precision], origin)
    return exported


def export_graph(module: nn.Module, contract: GraphContract, precision: str, path: Path) -> ExportedGraph:
    """Export one boundary module (see `export.boundary`) to `path`, with its sidecar.

    Raises:
        GraphError: if the precision is unknown or the graph is out of tolerance; nothing is left behind.

    """
    return _export(module, contract, precision, path, Traces(), _references(module, contract))


def _export(
    module: nn.Module,
    contract: GraphContract,
    precision: str,
    path: Path,
    traces: Traces,
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
    return [run_module(module, contract, feeds) for feeds in parity_feeds(contract)]


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
