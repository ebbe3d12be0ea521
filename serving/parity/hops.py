"""Every way to run a whole outfit, each from a request to the same named arrays, so that two of them compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from engines.registry import open_engine
from export.exported import find_graphs
from export.modules import run_module, run_modules
from export.parity import Runner
from outfitgan.config import ModelConfig
from outfitgan.contracts import Arrays
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.model_graphs import (
    COLLOCATION,
    aligned_kinds,
    alignment_name,
    contracts_of,
    item_graphs,
    mask_generator_name,
)
from outfitgan.training.runs import Run
from outfitgan.training.trained_networks import load_classifier, load_generator, load_mask_generators
from serving.client.outfit_client import OutfitClient

Graphs = Mapping[str, Runner]
"""Graph name -> what maps its inputs to its outputs."""

Request = tuple[NDArray[np.uint8], dict[ItemKind, NDArray[np.uint8]]]  # source (S, S, 3), masks (S, S, 1)
Hop = Callable[[Request], dict[str, NDArray[Any]]]
"""Gives <kind>.IMAGE, <kind>.WARPED with a SAM, <kind>.MASK with mask generators, and COMPATIBILITY."""


def whole(graphs: Graphs, model: ModelConfig) -> Hop:
    """Return the hop that makes, aligns and scores an outfit, and generates its masks, with one way to run a graph."""

    def hop(request: Request) -> dict[str, NDArray[Any]]:
        source, masks = request
        made: dict[str, NDArray[Any]] = {}
        for item_graph in item_graphs(model):
            found = graphs[item_graph.contract.name](item_graph.feeds(source, masks))
            made |= {f"{kind}.IMAGE": images for kind, images in item_graph.items(found).items()}
        for kind in aligned_kinds(model):
            feeds = {"SOURCE": source[None], "MASK": masks[kind][None]}
            made[f"{kind}.WARPED"] = graphs[alignment_name(kind)](feeds)["WARPED"]
        for kind in model.targets:
            if mask_generator_name(kind) in graphs:
                made[f"{kind}.MASK"] = graphs[mask_generator_name(kind)]({"SOURCE": source[None]})["MASK"]
        outfit = {kind.name: made.get(f"{kind}.IMAGE", source[None]) for kind in COLLOCATION_ORDER}
        return made | {"COMPATIBILITY": graphs[COLLOCATION](outfit)["COMPATIBILITY"]}

    return hop


def served(client: OutfitClient) -> Hop:
    """Return the hop through a server's ensemble, its SAMs and its mask generators."""
    aligned, masked = client.aligned_kinds(), client.mask_kinds()

    def hop(request: Request) -> dict[str, NDArray[Any]]:
        source, masks = request
        answer = client.generate(source, masks, list(masks))
        made: dict[str, NDArray[Any]] = {f"{kind}.IMAGE": image[None] for kind, image in answer.images.items()}
        for kind in aligned:
            made[f"{kind}.WARPED"] = client.align(kind, source, masks[kind])["WARPED"][None]
        for kind in masked:
            made[f"{kind}.MASK"] = client.soft_mask(kind, source)[None]
        return made | {"COMPATIBILITY": np.array([[answer.compatibility]], np.float32)}

    return hop


def by_torch(run: Run, dtype: torch.dtype) -> Graphs:
    """Run the trained networks themselves."""
    modules = run_modules(load_generator(run), load_classifier(run), load_mask_generators(run))
    contracts = contracts_of(run.config.model, modules)

    def graph(name: str) -> Runner:
        module = modules[name].to(dtype).eval()
        return lambda feeds: run_module(module, contracts[name], feeds)

    return {name: graph(name) for name in modules}


def by_reference(folder: Path, precision: str) -> Graphs:
    """Run ONNX files with onnx's own evaluator."""

    def graph(path: Path) -> Runner:
        evaluator = ReferenceEvaluator(onnx.load(path))

        def run(feeds: Arrays) -> Arrays:
            with np.errstate(over="ignore"):  # its sigmoids overflow to the right answer, 0
                return dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))

        return run

    return {name: graph(exported.path) for name, exported in find_graphs(folder, precision).items()}


def by_engines(folders: Mapping[str, Path], stack: ExitStack) -> Graphs:
    """Run engines, which `stack` closes."""

    def graph(folder: Path) -> Runner:
        engine = stack.enter_context(open_engine(folder))
        return engine.run

    return {name: graph(folder) for name, folder in folders.items()}
