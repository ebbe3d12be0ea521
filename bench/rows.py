"""The rows of the benchmark: each opens one way to run a generator, an outfit or a training, and names its boundary.

A row is a function (spec) -> context manager that yields a call; the call returns the arrays that parity is
measured on. Every row runs in a process of its own (`bench.worker`), which alone loads what the row needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from bench.spec import Images, Spec, images_of
from outfitgan.items import ItemKind
from outfitgan.model_graphs import item_graphs

if TYPE_CHECKING:
    from outfitgan.config import Config
    from outfitgan.generated_outfit import GeneratedOutfit

Call = Callable[[], Images]
Opener = Callable[[Spec], AbstractContextManager[Call]]

ONE_GRAPH, PROCESS = "engine, {items}", "process, 3 items"
"""Boundaries; a generator's graph makes one item, or all three where one generator serves all kinds."""


@contextmanager
def torch_eager(spec: Spec) -> Iterator[Call]:
    """The averaged network itself in FP32, one graph; boundary: engine (arrays in, arrays out)."""
    import torch

    from export.modules import generator_modules, run_module
    from outfitgan.training.runs import Run
    from outfitgan.training.trained_networks import load_generator

    if spec.threads:
        torch.set_num_threads(spec.threads)
    run = Run.open(spec.run)
    item_graph = item_graphs(run.config.model)[0]
    module, feeds = generator_modules(load_generator(run))[item_graph.contract.name], spec.feeds(item_graph)
    yield lambda: images_of(item_graph, run_module(module, item_graph.contract, feeds))


def engine(runtime: str, precision: str) -> Opener:
    """Return the row of one engine, one graph; boundary: engine."""

    @contextmanager
    def row(spec: Spec) -> Iterator[Call]:
        from engines.registry import open_engine
        from outfitgan.run_folder import RunFolder
        from serving.run_pipeline import run_engines

        run = RunFolder(spec.run)
        item_graph = item_graphs(run.config().model)[0]
        feeds = spec.feeds(item_graph)
        with open_engine(run_engines(run, runtime, precision)[item_graph.contract.name], spec.threads) as opened:
            yield lambda: images_of(item_graph, opened.run(feeds))

    return row


@contextmanager
def outfit_in_process(spec: Spec) -> Iterator[Call]:
    """Three items and the compatibility with the ensemble's own steps; boundary: process (arrays, no server)."""
    from outfitgan.run_folder import RunFolder
    from serving.run_pipeline import run_pipeline

    source, masks = spec.source(), spec.masks()
    with run_pipeline(RunFolder(spec.run), "openvino", "fp32", spec.threads) as pipeline:
        yield lambda: _images(pipeline.generate(source, masks, list(masks)))


def served_arrays(protocol: str, *kinds: ItemKind) -> Opener:
    """Return the row of the ensemble `outfit`, for `kinds` or all; boundary: client (arrays out to arrays in)."""

    @contextmanager
    def row(spec: Spec) -> Iterator[Call]:
        from serving.client.outfit_client import OutfitClient

        source, masks = spec.source(), {k: mask for k, mask in spec.masks().items() if not kinds or k in kinds}
        with OutfitClient(spec.server if protocol == "grpc" else spec.server_http, protocol) as client:
            yield lambda: _images(client.generate(source, masks, list(masks)))

    return row


@contextmanager
def served_files(spec: Spec) -> Iterator[Call]:
    """The ensemble `outfit_encoded` over gRPC; boundary: client (files out to decoded images in)."""
    from outfitgan.images import encode_png
    from serving.client.outfit_client import OutfitClient

    file, files = encode_png(spec.source()), {kind: encode_png(mask) for kind, mask in spec.masks().items()}
    with OutfitClient(spec.server) as client:
        yield lambda: _images(client.generate_encoded(file, files, list(files)))


def training(name: str) -> Opener:
    """Return a row of bench.training_rows, which needs torch and accelerate."""

    def row(spec: Spec) -> AbstractContextManager[Call]:
        opener: Opener = getattr(import_module("bench.training_rows"), name)
        return opener(spec)

    return row


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    title: str
    boundary: str
    open: Opener
    needs: tuple[str, str] | None = ("openvino", "fp32")  # runtime and precision of the engines it runs
    served: bool = False
    preset: str | None = None  # measured on an untrained run of its own, and not on the benchmark's
    outfits: Callable[[Config], int] | None = None  # that a call goes through, where that is what is asked


def _engine_row(runtime: str, precision: str) -> Row:
    return Row(f"{runtime} {precision}", ONE_GRAPH, engine(runtime, precision), needs=(runtime, precision))


def _batch(config: Config) -> int:
    return config.training.batch


ROWS: Mapping[str, Row] = {
    "torch": Row("torch eager fp32", ONE_GRAPH, torch_eager, needs=None),
    "onnxruntime": _engine_row("onnxruntime", "fp32"),
    "openvino": _engine_row("openvino", "fp32"),
    "openvino-bf16": _engine_row("openvino", "bf16"),
    "onnxruntime-int8": _engine_row("onnxruntime", "int8"),
    "openvino-int8": _engine_row("openvino", "int8"),
    "outfit": Row("openvino fp32, ensemble's steps", PROCESS, outfit_in_process),
    "outfit-shared": Row("the same, one generator for all kinds", PROCESS, outfit_in_process, preset="shared"),
    "served-grpc": Row("tritonserver, tensors, gRPC", "client, 3 items", served_arrays("grpc"), served=True),
    "served-http": Row("tritonserver, tensors, HTTP", "client, 3 items", served_arrays("http"), served=True),
    "served-png": Row("tritonserver, PNG files, gRPC", "client, 3 items", served_files, served=True),
    "served-shoes": Row(
        "tritonserver, shoes alone, gRPC", "client, 1 item", served_arrays("grpc", ItemKind.SHOES), served=True
    ),
    "train-step": Row("torch, a whole step", "training step", training("step"), needs=None, outfits=_batch),
    "train-passes": Row("torch, its passes alone", "training step", training("passes"), needs=None, outfits=_batch),
    "data-store": Row(
        "batches of 8 from the store", "data store", training("gathering"), needs=None, outfits=lambda _: 8
    ),
    "data-augmented": Row(
        "the same, flipped and shifted", "data store", training("augmenting"), needs=None, outfits=lambda _: 8
    ),
}


def _images(made: GeneratedOutfit) -> Images:
    return {kind.name: image for kind, image in made.images.items()}
