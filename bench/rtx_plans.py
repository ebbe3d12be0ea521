"""What TensorRT for RTX makes of every preset's graphs, on a machine with or without a GPU: nothing is run.

python bench/rtx_plans.py                       every preset, FP16 and INT8
python bench/rtx_plans.py --preset small        one of them

Weights are untrained. Graphs of the target kinds are alike, so one stands for them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Annotated

import torch
import typer
from torch import nn

from engines.manifest import Profile
from engines.registry import load_runtime
from engines.settings import BuildSettings
from export.calibration import Samples, open_calibration
from export.exported import ExportedGraph, exported_precision
from export.exporter import export_graph
from export.modules import run_modules
from outfitgan.config import Config, DataConfig, load_preset, preset_names
from outfitgan.contracts import GraphContract
from outfitgan.model_graphs import contracts_of, item_graphs
from outfitgan.networks.architectures import build_generator
from outfitgan.networks.collocation import build_classifier
from outfitgan.networks.norms import convolution_of
from outfitgan.networks.pix2pix import MaskGenerator
from outfitgan.program import run_program
from outfitgan.progress import no_progress

RUNTIME, PRECISIONS = "tensorrt-rtx", ("fp16", "int8")


@dataclass(frozen=True)
class PlanRow:
    """One plan."""

    preset: str
    graph: str
    precision: str
    size: int  # bytes
    seconds: float  # of the build: a plan for each compute capability, and one for all of them
    activations: int  # bytes at the largest batch
    batch: int  # the largest
    kernels: int
    convolutions: int
    int8: int  # convolutions in INT8
    fused: int  # correlations that are one kernel
    capabilities: tuple[str, ...]


def main(
    preset: Annotated[list[str] | None, typer.Option(help="May be repeated; all by default.")] = None,
) -> None:
    """Print a row a plan as Markdown: bytes, seconds, memory of activations, kernels."""
    columns = ("preset", "graph", "precision", "bytes", "s", "activations")
    counts = ("kernels", "convolutions", "INT8", "fused correlations")
    print(f"| {' | '.join(columns + counts)} |")
    print("|---" * len(columns + counts) + "|")
    for name in preset or preset_names():
        for row in build_preset(name, PRECISIONS):
            memory = f"{row.activations / 1e6:.0f} MB at {row.batch}"
            layers = f"{row.kernels} | {row.convolutions} | {row.int8} | {row.fused}"
            print(
                f"| {row.preset} | `{row.graph}` | {row.precision} | {row.size:,} | {row.seconds:.1f} | {memory} "
                f"| {layers} |",
                flush=True,
            )


def build_preset(preset: str, precisions: Sequence[str]) -> Iterator[PlanRow]:
    """Build a plan of each graph of a preset in each precision, for all compute capabilities.

    Raises:
        EngineError: if one is not built, not in its precision, or its correlation not one kernel.

    """
    config, runtime = load_preset(preset), load_runtime(RUNTIME)
    options = runtime.options({})
    for name, module, contract in _graphs(config):
        samples = _samples(config, name) if "int8" in precisions else None
        for precision in precisions:
            graph_precision = exported_precision(name, runtime.graph_precisions[precision])
            if precision == "int8" and graph_precision == "fp16":
                continue  # it is not rounded
            with tempfile.TemporaryDirectory() as scratch:
                path = Path(scratch) / f"{name}.onnx"
                graph = export_graph(module, contract, graph_precision, path, samples)
                yield _build(preset, graph, precision, Path(scratch), options)


def _build(preset: str, graph: ExportedGraph, precision: str, folder: Path, options: dict[str, object]) -> PlanRow:
    runtime = load_runtime(RUNTIME)
    batch = runtime.largest_batch(graph.contract)
    settings = BuildSettings(Profile(1, 1, batch), options, folder, no_progress)
    began = perf_counter()
    details = runtime.build(graph, folder, precision, settings)
    return PlanRow(
        preset=preset,
        graph=graph.name,
        precision=precision,
        size=(folder / "model.plan").stat().st_size,
        seconds=perf_counter() - began,
        activations=details["activation_bytes"],
        batch=batch,
        kernels=sum(details["layers"].values()),
        convolutions=details["convolutions"],
        int8=details["int8_convolutions"],
        fused=details["fused_correlations"],
        capabilities=tuple(details["compute_capabilities"]),
    )


def _graphs(config: Config) -> Iterator[tuple[str, nn.Module, GraphContract]]:
    """Yield one graph of each role."""
    model = config.model
    torch.manual_seed(0)
    masks = {kind: MaskGenerator(model.mask_generator, convolution_of("instance")) for kind in model.targets}
    modules = run_modules(build_generator(model), build_classifier(model), masks)
    contracts = contracts_of(model, modules)
    seen = set()
    for name, module in modules.items():
        role = name.rpartition("_")[0] or name
        if role not in seen:
            seen.add(role)
            yield name, module, contracts[name]


def _samples(config: Config, name: str) -> Samples | None:
    """Return synthetic outfits to round a generator on; None for graphs that are not rounded."""
    drawn = replace(config, data=replace(DataConfig(), count=32))
    for item_graph in item_graphs(config.model):
        if item_graph.contract.name == name:
            return open_calibration(drawn, 4).samples(item_graph)
    return None


if __name__ == "__main__":
    run_program(lambda: typer.run(main))
