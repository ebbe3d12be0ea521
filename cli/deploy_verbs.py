"""`outfitgan export`, `build` and `assemble`: from a trained run to a Triton model repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.console import print_line, print_note, print_notes, progress_bar
from cli.shared_options import Precision, RunOption, RuntimeName, Threads
from outfitgan.errors import InputError

app = typer.Typer()


@app.command()
def export(
    run: RunOption,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp32, fp16, int8, int8-fp16; the first two if none.")
    ] = None,
    calibrate: Annotated[int | None, typer.Option(min=1, help="Outfits that int8 takes ranges from; 16.")] = None,
    form: Annotated[str, typer.Option(help="standard; portable for a TensorRT older than 10.15.")] = "standard",
) -> None:
    """Export each generator, SAM and mask generator and the CCM to ONNX, and check them against torch."""
    from export.calibration import OUTFITS, open_calibration
    from export.exported import CALIBRATED, FLOATS
    from export.exporter import export_run
    from export.forms import form_of
    from outfitgan.run_folder import RunFolder
    from outfitgan.training.runs import Run, unfinished_stages
    from outfitgan.training.trained_networks import load_classifier, load_generator, load_mask_generators

    made, precisions = form_of(form), precision or FLOATS
    rounded = bool({*precisions} & {*CALIBRATED})
    if calibrate and not rounded:
        raise InputError("--calibrate is for an INT8 export; say --precision int8 too, or leave it out.")
    opened = Run.open(run)
    networks = load_generator(opened), load_classifier(opened), load_mask_generators(opened)
    print_notes(unfinished_stages(opened))
    origin, calibration = RunFolder(run).weights(), None
    with progress_bar("export") as progress:
        if rounded:
            calibration = open_calibration(opened.config, calibrate or OUTFITS, progress)
        output = RunFolder(run).graphs_of(form)
        graphs = export_run(*networks, opened.config.model, output, precisions, progress, origin, calibration, made)
    print_line(f"Exported {len(graphs)} graphs to {output}, each within its tolerance of torch.")


@app.command()
def build(
    run: RunOption,
    runtime: RuntimeName = "openvino",
    precision: Precision = "fp32",
    fields: Annotated[
        list[str] | None,
        typer.Option("--set", help="OPTION=VALUE of the runtime, as refittable=true; kept for later; may be repeated."),
    ] = None,
) -> None:
    """Build an engine of each graph and check it against the graph."""
    from engines.engine_store import EngineStore
    from engines.manifest import parse_manifest
    from engines.registry import load_runtime
    from outfitgan.config import parse_fields
    from outfitgan.run_folder import RunFolder
    from serving.run_pipeline import engine_graphs

    load_runtime(runtime)
    graphs = engine_graphs(RunFolder(run), runtime, precision)
    store = EngineStore(RunFolder(run).engines)
    if fields:
        store.choose(runtime, parse_fields(fields))
    with progress_bar("build") as progress:
        folders = store.build_all(graphs, runtime, precision, progress)
    print_line(f"Built {len(graphs)} {runtime} {precision} engines in {run}/engines.")
    if any(not parse_manifest(folder).verified for folder in folders.values()):
        print_note(
            "note: they have not run, for want of such a GPU here: 'outfitgan verify' measures them where there is one."
        )


@app.command()
def assemble(
    run: RunOption,
    runtime: RuntimeName = "openvino",
    precision: Precision = "fp32",
    threads: Threads = 0,
    output: Annotated[Path | None, typer.Option(help="The repository; <run>/repository by default.")] = None,
    also: Annotated[
        list[Path] | None, typer.Option(help="Engines folder of the same graphs for another GPU; may be repeated.")
    ] = None,
    instances: Annotated[int, typer.Option(min=1, help="Of each engine on each GPU; each takes memory.")] = 1,
    cuda_graph: Annotated[
        list[int] | None,
        typer.Option(help="Batch size to record as a CUDA graph: spares the CPU, costs GPU memory; may be repeated."),
    ] = None,
    server_tensorrt: Annotated[str, typer.Option(help="The GPU server's TensorRT; plans of another are refused.")] = "",
) -> None:
    """Assemble a Triton model repository from a run's engines."""
    from engines.engine_folder import find_engines
    from outfitgan.run_folder import RunFolder
    from serving.repository.assemble import assemble as assemble_repository
    from serving.repository.gpu_config import GpuServing
    from serving.run_pipeline import run_engines

    folder, serving = RunFolder(run), GpuServing(instances, tuple(cuda_graph or ()), server_tensorrt)
    repository, model = output or folder.repository, folder.config().model
    engines = run_engines(folder, runtime, precision)
    others = [find_engines(root, runtime, precision) for root in also or ()]
    assemble_repository(model, engines, repository, threads, serving, others)
    here = f"serve it with 'outfitgan serve --repository {repository}'"
    there = "NVIDIA's Triton Inference Server, which has TensorRT, serves it (docs/tensorrt.md)"
    print_line(f"Assembled {repository}; {there if runtime == 'tensorrt' else here}.")
