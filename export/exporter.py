"""torch to ONNX: trace an architecture once, put each network's weights in, check, and write the file."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnxruntime
import torch
from onnxscript import optimizer
from torch import nn

from export.calibration import Calibration, Samples
from export.exported import (
    BASES,
    FLOATS,
    PRECISIONS,
    ExportedGraph,
    drop_index,
    exported_precision,
    graph_path,
    save_index,
    save_sidecar,
)
from export.forms import STANDARD, Form
from export.graph_types import check_types
from export.modules import run_module, run_modules
from export.onnx_runner import onnx_runner
from export.parity import measure, parity_feeds, shortfalls
from export.qdq import check_quantised
from export.quantise import METHOD, quantise
from export.traces import Traces
from outfitgan.config import ModelConfig
from outfitgan.contracts import Arrays, GraphContract
from outfitgan.errors import GraphError
from outfitgan.files import partial_file, sha256_of
from outfitgan.items import ItemKind
from outfitgan.model_graphs import contracts_of, item_graphs
from outfitgan.networks.architectures import OutfitGenerator
from outfitgan.networks.collocation import CollocationClassifier
from outfitgan.networks.pix2pix import MaskGenerator
from outfitgan.progress import Progress, no_progress

FOLDED = 1 << 24
"""How many elements may be folded: weights that follow from others, as the SAM's centred ones, are computed here, once.
onnxscript's own limit of 8192 leaves those of wide networks in the graph."""


def export_run(
    generator: OutfitGenerator,
    collocation: CollocationClassifier,
    mask_generators: Mapping[ItemKind, MaskGenerator],  # empty where the run has none
    model: ModelConfig,
    output: Path,
    precisions: Sequence[str] = FLOATS,
    progress: Progress = no_progress,  # called when a graph is written
    origin: str = "",
    calibration: Calibration | None = None,  # what an INT8 export needs
    form: Form = STANDARD,
) -> list[ExportedGraph]:
    """Export every graph of a run into `output`: those of `outfitgan.model_graphs`.

    Raises:
        GraphError: if a graph is out of tolerance, or the networks are not those of `model`; the export then counts as
            unfinished.

    """
    if unknown := [precision for precision in precisions if precision not in PRECISIONS]:
        raise GraphError(f"There is no graph precision {', '.join(unknown)}; choose from {', '.join(PRECISIONS)}.")
    for precision in precisions:
        drop_index(output, precision)
    modules = run_modules(generator, collocation, mask_generators)
    contracts = {name: form.contract(contract) for name, contract in contracts_of(model, modules).items()}
    samples = (
        {item_graph.contract.name: calibration.samples(item_graph) for item_graph in item_graphs(model)}
        if calibration
        else {}
    )
    kept = {name: dict.fromkeys(exported_precision(name, precision) for precision in precisions) for name in contracts}
    traces, exported = Traces(form.opset), {}
    for name, contract in contracts.items():
        references = _references(modules[name], parity_feeds(contract), contract)
        for precision in kept[name]:
            path = graph_path(output, name, precision)
            graph = _export(modules[name], contract, precision, path, form, traces, references, samples.get(name))
            exported[name, precision] = graph
            progress(f"{name}.{precision}", len(exported), sum(map(len, kept.values())))
    for precision in precisions:
        save_index(
            output, precision, [exported[name, exported_precision(name, precision)] for name in contracts], origin
        )
    return list(exported.values())


def export_graph(
    module: nn.Module,
    contract: GraphContract,
    precision: str,
    path: Path,
    samples: Samples | None = None,
    form: Form = STANDARD,
) -> ExportedGraph:
    """Export one boundary module (see `export.boundary`) to `path`, with its sidecar; INT8 needs `samples`.

    Raises:
        GraphError: if the precision is unknown or the graph is out of tolerance; nothing is left behind.

    """
    contract = form.contract(contract)
    references = _references(module, parity_feeds(contract), contract)
    return _export(module, contract, precision, path, form, Traces(form.opset), references, samples)


def _export(
    module: nn.Module,
    contract: GraphContract,
    precision: str,
    path: Path,
    form: Form,
    traces: Traces,  # of the form's opset
    references: Sequence[Arrays],  # of parity_feeds
    samples: Samples | None,
) -> ExportedGraph:
    if precision not in PRECISIONS:
        raise GraphError(f"There is no graph precision '{precision}'; choose from {', '.join(PRECISIONS)}.")
    if precision in FLOATS:
        samples = None
    elif samples is None:
        raise GraphError(f"The {precision} graph {contract.name} needs outfits to calibrate on; give some.")
    module = copy.deepcopy(module).cpu().eval()
    weights = _sha256_of_weights(module)
    feeds, calibration = parity_feeds(contract), {}
    typed = module.half() if BASES[precision] == "fp16" else module.float()
    model = _finish(traces.model_of(typed, contract, BASES[precision]), contract, precision, form)
    if samples:
        model = quantise(model, samples.shown)
        check_quantised(model)
        references = [*references, *_references(module, samples.unseen, contract)]
        feeds, calibration = feeds + samples.unseen, {"method": METHOD, **samples.record}
    check_types(model, BASES[precision])
    with partial_file(path) as partial:
        onnx.save(model, partial)
        onnx.checker.check_model(partial, full_check=True)
        parity = _checked_parity(partial, contract, precision, feeds, references)
        digest = sha256_of(partial)
        path.with_suffix(".json").unlink(missing_ok=True)  # never a new file beside an old sidecar
    versions = {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    graph = ExportedGraph(path, contract, precision, digest, weights, parity, versions, calibration, form.name)
    save_sidecar(graph)
    return graph


def _finish(model: onnx.ModelProto, contract: GraphContract, precision: str, form: Form) -> onnx.ModelProto:
    """Fold constants, give the correlation its form, and say what the graph is."""
    model = form.finish(optimizer.optimize(model, input_size_limit=FOLDED, output_size_limit=FOLDED))
    _forget_origin(model)
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


def _references(module: nn.Module, feeds: Sequence[Arrays], contract: GraphContract) -> list[Arrays]:
    """Return torch's FP32 outputs for every feed."""
    module = copy.deepcopy(module).cpu().float().eval()
    return [run_module(module, contract, feed) for feed in feeds]


def _checked_parity(
    path: Path,
    contract: GraphContract,
    precision: str,
    feeds: Sequence[Arrays],
    references: Sequence[Arrays],
) -> dict[str, dict[str, float]]:
    figures = measure(references, onnx_runner(path, contract), feeds, contract)
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
