"""The parity table: torch -> ONNX -> onnxruntime -> openvino -> served, whole outfits on the same requests.

Each hop makes every item, aligns it, and scores the outfit of its own items, so a hop's error reaches its score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from torch import nn

from bench.subject import measured_repository
from engines.store import EngineStore, open_engine
from export.boundary import AlignmentGraph, CollocationGraph, GeneratorGraph
from export.exported import find_graphs
from export.graphs import run_contracts
from export.parity import IDENTICAL_DB
from outfitgan.data.outfits import open_outfits
from outfitgan.errors import UnsupportedError
from outfitgan.folders import RunFolder
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.training.runs import Run
from outfitgan.training.train import load_classifier, load_generators
from serving.client import OutfitClient
from serving.pipeline import run_engines
from serving.server import TritonServer

Arrays = Mapping[str, NDArray[Any]]
Graphs = Callable[[str, Arrays], Arrays]  # graph name, feeds -> outputs
Request = tuple[NDArray[np.uint8], dict[ItemKind, NDArray[np.uint8]]]  # source (S, S, 3), masks (S, S, 1)
Hop = Callable[[Request], dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class HopParity:
    """One line of the table: the worst over all requests and items."""

    chain: str  # fp32, fp16 or bf16
    hop: str
    image_psnr_db: float  # against the hop before
    image_psnr_torch_db: float  # against torch in FP32
    image_levels: float  # largest difference from torch in FP32, of 255
    warped_psnr_db: float  # the SAM's features, against torch in FP32
    compatibility: float  # largest difference from torch in FP32
    nan_count: int


def psnr(reference: NDArray[Any], actual: NDArray[Any], peak: float = 255) -> float:
    """Return the peak signal-to-noise ratio in dB; IDENTICAL_DB if the arrays are equal."""
    error = float(np.mean((reference.astype(np.float64) - actual.astype(np.float64)) ** 2))
    return IDENTICAL_DB if error == 0 else float(10 * np.log10(peak**2 / error))


def parity_table(run: Run) -> tuple[list[HopParity], list[str]]:
    """Measure every hop of a run whose graphs, engines and repository exist; start and stop the server for it.

    Returns the table and, a sentence each, the hops that cannot run on this machine.
    """
    requests = list(_requests(run))
    with ExitStack() as stack:
        chains, refused = _chains(run, stack)
        first = [chains["fp32"]["torch"](request) for request in requests]
        table = []
        for chain, hops in chains.items():
            before = first
            for name, hop in hops.items():
                outcomes = first if (chain, name) == ("fp32", "torch") else [hop(request) for request in requests]
                table.append(_compare(chain, name, before, first, outcomes))
                before = outcomes
    return table, refused


def _chains(run: Run, stack: ExitStack) -> tuple[dict[str, dict[str, Hop]], list[str]]:
    targets = run.config.model.targets
    server = stack.enter_context(TritonServer(measured_repository(run)))
    client = stack.enter_context(OutfitClient(server.grpc_url))
    reference = _reference(run.folder / "graphs", "fp32")
    fp32 = {
        "torch": _whole(_torch(run, torch.float32), targets),
        "ONNX reference": _whole(reference, targets),
        "onnxruntime": _whole(_engines(run_engines(RunFolder(run.folder), "onnxruntime", "fp32"), stack), targets),
        "openvino": _whole(_engines(run_engines(RunFolder(run.folder), "openvino", "fp32"), stack), targets),
        "tritonserver": _served(client),
    }
    fp16 = {"ONNX reference": _whole(_reference(run.folder / "graphs", "fp16"), targets)}
    bf16 = {"torch": _whole(_torch(run, torch.bfloat16), targets)}
    refused: list[str] = []
    try:
        store, graphs = EngineStore(run.folder / "engines"), find_graphs(run.folder / "graphs", "fp32")
        bf16["openvino"] = _whole(_engines(store.build_all(graphs, "openvino", "bf16"), stack), targets)
    except UnsupportedError as error:
        refused.append(f"openvino bf16: {error}")
    return {"fp32": fp32, "fp16": fp16, "bf16": bf16}, refused


def _requests(run: Run) -> Iterator[Request]:
    """Yield held-out outfits and what a careless client sends: black, white, a full mask, a one-pixel mask."""
    model = run.config.model
    outfits = open_outfits(run.config.data, model.image_size, "test", run.config.training.seed)
    for index in range(3):
        items = outfits[index].items
        yield items[model.source].image, {kind: items[kind].mask[..., None] for kind in model.targets}
    size = model.image_size
    full = np.full((size, size, 1), 255, np.uint8)
    pixel = np.zeros_like(full)
    pixel[size // 2, size // 2] = 255
    yield np.zeros((size, size, 3), np.uint8), dict.fromkeys(model.targets, full)
    yield np.full((size, size, 3), 255, np.uint8), dict.fromkeys(model.targets, pixel)


def _whole(graphs: Graphs, targets: tuple[ItemKind, ...]) -> Hop:
    """Return the hop that makes, aligns and scores an outfit with one way of running a graph."""

    def hop(request: Request) -> dict[str, NDArray[Any]]:
        source, masks = request
        made: dict[str, NDArray[Any]] = {}
        for kind in targets:
            feeds = {"SOURCE": source[None], "MASK": masks[kind][None]}
            made[f"{kind}.IMAGE"] = graphs(f"generator_{kind}", feeds)["IMAGE"]
            made[f"{kind}.WARPED"] = graphs(f"alignment_{kind}", feeds)["WARPED"]
        outfit = {kind.name: made.get(f"{kind}.IMAGE", source[None]) for kind in COLLOCATION_ORDER}
        return made | {"COMPATIBILITY": graphs("collocation", outfit)["COMPATIBILITY"]}

    return hop


def _served(client: OutfitClient) -> Hop:
    def hop(request: Request) -> dict[str, NDArray[Any]]:
        source, masks = request
        answer = client.generate(source, masks, list(masks))
        made: dict[str, NDArray[Any]] = {f"{kind}.IMAGE": image[None] for kind, image in answer.images.items()}
        for kind, mask in masks.items():
            made[f"{kind}.WARPED"] = client.align(kind, source, mask)["WARPED"][None]
        return made | {"COMPATIBILITY": np.array([[answer.compatibility]], np.float32)}

    return hop


def _torch(run: Run, dtype: torch.dtype) -> Graphs:
    generators = load_generators(run)
    modules: dict[str, nn.Module] = {f"generator_{kind}": GeneratorGraph(g) for kind, g in generators.items()}
    modules |= {f"alignment_{kind}": AlignmentGraph(g.alignment) for kind, g in generators.items()}
    modules["collocation"] = CollocationGraph(load_classifier(run))
    contracts = run_contracts(run.config.model)
    modules = {name: module.to(dtype).eval() for name, module in modules.items()}

    def graphs(name: str, feeds: Arrays) -> Arrays:
        contract = contracts[name]
        with torch.inference_mode():
            found = modules[name](*(torch.from_numpy(feeds[spec.name]) for spec in contract.inputs))
        tensors = found if isinstance(found, tuple) else (found,)
        return {spec.name: tensor.numpy() for spec, tensor in zip(contract.outputs, tensors, strict=True)}

    return graphs


def _reference(folder: Path, precision: str) -> Graphs:
    evaluators = {name: ReferenceEvaluator(onnx.load(g.path)) for name, g in find_graphs(folder, precision).items()}

    def graphs(name: str, feeds: Arrays) -> Arrays:
        evaluator = evaluators[name]
        with np.errstate(over="ignore"):  # its LSTM's sigmoid overflows to the right answer, 0
            return dict(zip(evaluator.output_names, evaluator.run(None, dict(feeds)), strict=True))

    return graphs


def _engines(folders: Mapping[str, Path], stack: ExitStack) -> Graphs:
    engines = {name: stack.enter_context(open_engine(folder)) for name, folder in folders.items()}
    return lambda name, feeds: engines[name].run(dict(feeds))


def _compare(
    chain: str,
    name: str,
    before: list[dict[str, NDArray[Any]]],
    first: list[dict[str, NDArray[Any]]],
    outcomes: list[dict[str, NDArray[Any]]],
) -> HopParity:
    def worst_psnr(references: list[dict[str, NDArray[Any]]], suffix: str) -> float:
        pairs = [(r[key], o[key]) for r, o in zip(references, outcomes, strict=True) for key in r if suffix in key]
        return min(psnr(r, o, 255 if suffix == "IMAGE" else float(np.abs(r).max())) for r, o in pairs)

    def worst_difference(suffix: str) -> float:
        pairs = [(r[key], o[key]) for r, o in zip(first, outcomes, strict=True) for key in r if suffix in key]
        return max(float(np.abs(r.astype(np.float64) - o).max()) for r, o in pairs)

    nan = sum(int(np.isnan(array).sum()) for outcome in outcomes for array in outcome.values())
    return HopParity(
        chain=chain,
        hop=name,
        image_psnr_db=round(worst_psnr(before, "IMAGE"), 1),
        image_psnr_torch_db=round(worst_psnr(first, "IMAGE"), 1),
        image_levels=worst_difference("IMAGE"),
        warped_psnr_db=round(worst_psnr(first, "WARPED"), 1),
        compatibility=worst_difference("COMPATIBILITY"),
        nan_count=nan,
    )
