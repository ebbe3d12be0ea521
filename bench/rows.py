"""The rows of the benchmark: each opens one way to run a generator or an outfit, and names its boundary.

A row is a function (spec) -> context manager that yields a call; the call returns the arrays that parity is
measured on. Every row runs in a process of its own (`bench.worker`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outfitgan.folders import RunFolder
from outfitgan.images import encode_png
from outfitgan.items import ItemKind
from serving.client import OutfitClient
from serving.outfit import GeneratedOutfit
from serving.pipeline import OutfitPipeline, run_engines

Images = dict[str, NDArray[np.uint8]]
Call = Callable[[], Images]


@dataclass(frozen=True)
class Spec:
    """What a row needs to know."""

    run: Path
    inputs: Path  # .npz: SOURCE (S, S, 3), MASK_<KIND> (S, S, 1)
    threads: int
    server: str = ""  # host:port of gRPC
    server_http: str = ""

    def source(self) -> NDArray[np.uint8]:
        """Return the source item (S, S, 3)."""
        return np.load(self.inputs)["SOURCE"]  # type: ignore[no-any-return]

    def masks(self) -> dict[ItemKind, NDArray[np.uint8]]:
        """Return the reference masks (S, S, 1)."""
        arrays = np.load(self.inputs)
        return {kind: arrays[f"MASK_{kind.name}"] for kind in ItemKind if f"MASK_{kind.name}" in arrays}


@contextmanager
def torch_eager(spec: Spec) -> Iterator[Call]:
    """The trained network itself in FP32, one item; boundary: engine (arrays in, arrays out)."""
    import torch

    from export.boundary import GeneratorGraph
    from outfitgan.training.runs import Run
    from outfitgan.training.train import load_generators

    if spec.threads:
        torch.set_num_threads(spec.threads)
    kind, mask = next(iter(spec.masks().items()))
    module = GeneratorGraph(load_generators(Run.open(spec.run))[kind]).eval()
    feeds = [torch.from_numpy(array[None]) for array in (spec.source(), mask)]
    with torch.inference_mode():
        yield lambda: {kind.name: module(*feeds)[0].numpy()}


def engine(target: str, precision: str) -> Callable[[Spec], Any]:
    """Return the row of one engine, one item; boundary: engine."""

    @contextmanager
    def row(spec: Spec) -> Iterator[Call]:
        from engines.store import open_engine

        kind, mask = next(iter(spec.masks().items()))
        feeds = {"SOURCE": spec.source()[None], "MASK": mask[None]}
        folder = run_engines(RunFolder(spec.run), target, precision)[f"generator_{kind}"]
        with open_engine(folder, spec.threads) as opened:
            yield lambda: {kind.name: opened.run(feeds)["IMAGE"][0]}

    return row


@contextmanager
def outfit_in_process(spec: Spec) -> Iterator[Call]:
    """Three items and the compatibility with the ensemble's own steps; boundary: process (arrays, no server)."""
    source, masks = spec.source(), spec.masks()
    with OutfitPipeline(run_engines(RunFolder(spec.run), "openvino", "fp32"), spec.threads) as pipeline:
        yield lambda: _images(pipeline.generate(source, masks, list(masks)))


def served_arrays(protocol: str, *kinds: ItemKind) -> Callable[[Spec], Any]:
    """Return the row of the ensemble `outfit`, for `kinds` or all; boundary: client (arrays out to arrays in)."""

    @contextmanager
    def row(spec: Spec) -> Iterator[Call]:
        source, masks = spec.source(), {k: mask for k, mask in spec.masks().items() if not kinds or k in kinds}
        with OutfitClient(spec.server if protocol == "grpc" else spec.server_http, protocol) as client:
            yield lambda: _images(client.generate(source, masks, list(masks)))

    return row


@contextmanager
def served_files(spec: Spec) -> Iterator[Call]:
    """The ensemble `outfit_encoded` over gRPC; boundary: client (files out to decoded images in)."""
    file, files = encode_png(spec.source()), {kind: encode_png(mask) for kind, mask in spec.masks().items()}
    with OutfitClient(spec.server) as client:
        yield lambda: _images(client.generate_encoded(file, files, list(files)))


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    title: str
    boundary: str
    open: Callable[[Spec], Any]
    needs: tuple[str, str] | None = ("openvino", "fp32")  # target and precision of the engines it runs
    served: bool = False


def _engine_row(target: str, precision: str) -> Row:
    return Row(f"{target} {precision}", "engine, 1 item", engine(target, precision), needs=(target, precision))


ROWS: Mapping[str, Row] = {
    "torch": Row("torch eager fp32", "engine, 1 item", torch_eager, needs=None),
    "onnxruntime": _engine_row("onnxruntime", "fp32"),
    "openvino": _engine_row("openvino", "fp32"),
    "openvino-bf16": _engine_row("openvino", "bf16"),
    "outfit": Row("openvino fp32, ensemble's steps", "process, 3 items", outfit_in_process),
    "served-grpc": Row("tritonserver, tensors, gRPC", "client, 3 items", served_arrays("grpc"), served=True),
    "served-http": Row("tritonserver, tensors, HTTP", "client, 3 items", served_arrays("http"), served=True),
    "served-png": Row("tritonserver, PNG files, gRPC", "client, 3 items", served_files, served=True),
    "served-shoes": Row(
        "tritonserver, shoes alone, gRPC", "client, 1 item", served_arrays("grpc", ItemKind.SHOES), served=True
    ),
}


def _images(made: GeneratedOutfit) -> Images:
    return {kind.name: image for kind, image in made.images.items()}
