"""The parity table: torch -> ONNX -> onnxruntime -> openvino -> served, whole outfits on the same requests.

Each hop makes every item, aligns it, and scores the outfit of its own items, so a hop's error reaches its score.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.parity import psnr
from outfitgan.contracts import Arrays
from outfitgan.data.open_outfits import open_outfits
from outfitgan.run_folder import RunFolder
from outfitgan.training.runs import Run
from serving.client.outfit_client import OutfitClient
from serving.complete_run import measured_repository
from serving.parity.hops import Hop, Request, by_engines, by_reference, by_torch, served, whole
from serving.run_pipeline import run_engines
from serving.server.triton_server import TritonServer

ENGINES = (
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("onnxruntime", "int8"),
)
"""Runtime and precision of the engines that are hops, a chain a precision."""


@dataclass(frozen=True)
class HopParity:
    """One line of the table: the worst over all requests and items."""

    chain: str  # fp32, fp16, bf16 or int8
    hop: str
    image_psnr_db: float  # against the hop before
    image_psnr_torch_db: float  # against torch in FP32
    image_levels: float  # largest difference from torch in FP32, of 255
    warped_psnr_db: float | None  # the SAM's features, against torch in FP32; None without a SAM
    mask_psnr_db: float | None  # generated masks, against torch in FP32; None without mask generators
    compatibility: float  # largest difference from torch in FP32
    nan_count: int


def parity_table(run: Run, refused: Collection[tuple[str, str]]) -> list[HopParity]:
    """Measure every hop of a run whose graphs, engines and repository exist; start and stop the server for it.

    Args:
        run: a run that `complete_run` completed with ENGINES.
        refused: those of ENGINES that it could not build.

    """
    requests = list(_requests(run))
    with ExitStack() as stack:
        chains = _chains(run, refused, stack)
        first = [chains["fp32"]["torch"](request) for request in requests]
        table = []
        for chain, hops in chains.items():
            before = first
            for name, hop in hops.items():
                outcomes = first if (chain, name) == ("fp32", "torch") else [hop(request) for request in requests]
                table.append(_compare(chain, name, before, first, outcomes))
                before = outcomes
    return table


def _chains(run: Run, refused: Collection[tuple[str, str]], stack: ExitStack) -> dict[str, dict[str, Hop]]:
    model, folder = run.config.model, RunFolder(run.folder)
    server = stack.enter_context(TritonServer(measured_repository(run)))
    client = stack.enter_context(OutfitClient(server.grpc_url))
    chains: dict[str, dict[str, Hop]] = {
        "fp32": {
            "torch": whole(by_torch(run, torch.float32), model),
            "ONNX reference": whole(by_reference(folder.graphs, "fp32"), model),
        },
        "fp16": {"ONNX reference": whole(by_reference(folder.graphs, "fp16"), model)},
        "bf16": {"torch": whole(by_torch(run, torch.bfloat16), model)},
        "int8": {},
    }
    for runtime, precision in ENGINES:
        if (runtime, precision) not in refused:
            engines = by_engines(run_engines(folder, runtime, precision), stack)
            chains[precision][runtime] = whole(engines, model)
    chains["fp32"]["tritonserver"] = served(client)
    if chains["int8"]:
        graphs = by_reference(folder.graphs, "int8")
        chains["int8"] = {"ONNX reference": whole(graphs, model), **chains["int8"]}
    return chains


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


def _compare(chain: str, name: str, before: list[Arrays], first: list[Arrays], outcomes: list[Arrays]) -> HopParity:
    def pairs(references: list[Arrays], suffix: str) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        return [(r[key], o[key]) for r, o in zip(references, outcomes, strict=True) for key in r if suffix in key]

    def worst_psnr(references: list[Arrays], suffix: str) -> float:
        return min(psnr(r, o, 255 if r.dtype == np.uint8 else np.abs(r).max()) for r, o in pairs(references, suffix))

    def worst_difference(suffix: str) -> float:
        return max(float(np.abs(r.astype(np.float64) - o).max()) for r, o in pairs(first, suffix))

    nan = sum(int(np.isnan(array).sum()) for outcome in outcomes for array in outcome.values())
    return HopParity(
        chain=chain,
        hop=name,
        image_psnr_db=round(worst_psnr(before, "IMAGE"), 1),
        image_psnr_torch_db=round(worst_psnr(first, "IMAGE"), 1),
        image_levels=worst_difference("IMAGE"),
        warped_psnr_db=round(worst_psnr(first, "WARPED"), 1) if pairs(first, "WARPED") else None,
        mask_psnr_db=round(worst_psnr(first, "MASK"), 1) if pairs(first, "MASK") else None,
        compatibility=worst_difference("COMPATIBILITY"),
        nan_count=nan,
    )
