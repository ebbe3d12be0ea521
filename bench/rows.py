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

from outfitgan.images import encode_png
from outfitgan.items import ItemKind
from serving.client import OutfitClient, ServedOutfit
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
        folder = run_engines(spec.run, target, precision)[f"generator_{kind}"]
        with open_engine(folder, spec.threads) as opened:
            yield lambda: {kind.name: opened.run(feeds)["IMAGE"][0]}

    return row


@contextmanager
def outfit_in_process(spec: Spec) -> Iterator[Call]:
    """Three items and the compatibility with the ensemble's own steps; boundary: process (arrays, no server)."""
    source, masks = spec.source(), spec.masks()
    with OutfitPipeline(run_engines(spec.run, "openvino", "fp32"), spec.threads) as pipeline:
        yield lambda: _images(pipeline.generate(source, masks, list(masks)))


def outfit_served(protocol: str, encoded: bool, shoes_alone: bool = False) -> Callable[[Spec], Any]:
    """Return the row of the served ensemble; boundary: client (request sent to answer decoded)."""

    @contextmanager
    def row(spec: Spec) -> Iterator[Call]:
        source, masks = spec.source(), spec.masks()
        if shoes_alone:
            masks = {kind: mask for kind, mask in masks.items() if kind == ItemKind.SHOES}
        with OutfitClient(spec.server if protocol == "grpc" else spec.server_http, protocol) as client:
            if encoded:
                file, files = encode_png(source), {kind: encode_png(mask) for kind, mask in masks.items()}
                yield lambda: _images(client.generate_encoded(file, files, list(files)))
            else:
                yield lambda: _images(client.generate(source, masks, list(masks)))

    return row


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
    "served-grpc": Row("tritonserver, tensors, gRPC", "client, 3 items", outfit_served("grpc", False), served=True),
    "served-http": Row("tritonserver, tensors, HTTP", "client, 3 items", outfit_served("http", False), served=True),
    "served-png": Row("tritonserver, PNG files, gRPC", "client, 3 items", outfit_served("grpc", True), served=True),
    "served-shoes": Row(
        "tritonserver, shoes alone, gRPC", "client, 1 item", outfit_served("grpc", False, True), served=True
    ),
}


def _images(made: ServedOutfit) -> Images:
    return {kind.name: image for kind, image in made.images.items()}
