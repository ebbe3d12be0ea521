"""`outfitgan <verb>`: the front door. Each verb imports what it needs when it is called."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from outfitgan.cli_kernel import app as kernel
from outfitgan.cli_study import app as study
from outfitgan.errors import InputError, sentence
from outfitgan.folders import RunFolder
from outfitgan.items import ItemKind

app = typer.Typer(
    help="OutfitGAN from training to Triton Inference Server: from one garment to a compatible outfit.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data = typer.Typer(help="Look at a data set, or write outfits of it as files.", no_args_is_help=True)
app.add_typer(data, name="data")
app.add_typer(study)
app.add_typer(kernel)
_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

RunOption = Annotated[Path, typer.Option("--run", help="The run's folder.", show_default=False)]
DataName = Annotated[str, typer.Option("--data", help="synthetic, fashion_mnist, ccp, polyvore, or folder (your own).")]
DataRoot = Annotated[str, typer.Option(help="Where the data set lies; not for synthetic.")]
DataSeed = Annotated[int, typer.Option("--seed", help="Which outfits synthetic and fashion_mnist compose.")]
Size = Annotated[int, typer.Option(min=32, max=1024, help="Side of the images in pixels.")]
Target = Annotated[str, typer.Option(help="What runs the engines: openvino, onnxruntime, tensorrt, ...")]
Precision = Annotated[str, typer.Option(help="fp32; int8; bf16 where the CPU computes it; fp16 on a GPU.")]
Threads = Annotated[int, typer.Option(min=0, help="Threads an engine; 0 takes every core.")]


@data.command("write")
def data_write(
    output: Annotated[Path, typer.Option(help="Folder to write.")],
    name: DataName = "synthetic",
    root: DataRoot = "",
    split: Annotated[str, typer.Option(help="train or test.")] = "test",
    count: Annotated[int, typer.Option(min=1, help="How many outfits.")] = 4,
    size: Size = 256,
    seed: DataSeed = 0,
) -> None:
    """Write outfits as images and masks, one folder an outfit, with a contact sheet to look at."""
    from outfitgan.config import load_preset, override
    from outfitgan.data.examples import write_examples

    config = override(load_preset("small"), {"data.name": name, "data.root": root})
    sheet = write_examples(config.data, size, split, seed, count, output)
    _say(f"Wrote {count} outfits to {output}; look at {sheet}.")


@data.command("inspect")
def data_inspect(
    output: Annotated[Path, typer.Option(help="The contact sheet to draw, a PNG.")],
    name: DataName = "synthetic",
    root: DataRoot = "",
    split: Annotated[str, typer.Option(help="What to draw: train or test. Both are counted.")] = "train",
    count: Annotated[int, typer.Option(min=1, help="How many outfits of each split to look at.")] = 100,
    size: Size = 256,
    seed: DataSeed = 0,
) -> None:
    """Count what a data set holds, measure its masks, and draw outfits with their masks outlined."""
    from outfitgan.config import load_preset, override
    from outfitgan.data.inspect import inspect_data

    config = override(load_preset("small"), {"data.name": name, "data.root": root})
    inspect_data(config.data, size, split, seed, count, output, _out)
    _say(f"Look at {output}.")


@app.command()
def train(
    run: RunOption,
    preset: Annotated[
        str | None, typer.Option(help="small if nothing is said; paper, photos, shared, hires, demo, study, tiny.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file instead of a preset.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run from its last checkpoint.")] = False,
    name: Annotated[
        str | None, typer.Option("--data", help="synthetic, fashion_mnist, ccp, polyvore or folder.")
    ] = None,
    root: Annotated[str | None, typer.Option(help="Where the data set lies; not for synthetic.")] = None,
    source: Annotated[str | None, typer.Option(help="The kind that is given: upper, bag, lower or shoes.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the images in pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Generator steps.")] = None,
    collocation_steps: Annotated[int | None, typer.Option(help="CCM steps, which come first.")] = None,
    batch: Annotated[int | None, typer.Option(help="Outfits a step.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, data and batches.")] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE of the config, as training.rate=0.0005; may be repeated."),
    ] = None,
) -> None:
    """Train the CCM, then the generators against it. Ctrl-C leaves a checkpoint."""
    from outfitgan.config import parse_fields
    from outfitgan.training.runs import Run
    from outfitgan.training.train import chosen_config, train_run

    changes: dict[str, Any] = {
        "data.name": name,
        "data.root": None if root is None else str(Path(root).resolve()),  # a resume may start elsewhere
        "model.source": None if source is None else ItemKind.parse(source),
        "model.image_size": image_size,
        "training.steps": steps,
        "training.collocation_steps": collocation_steps,
        "training.batch": batch,
        "training.seed": seed,
        **parse_fields(fields or []),
    }
    if resume and (preset or config or any(value is not None for value in changes.values())):
        raise InputError("--resume continues the run with its own config; leave the other options out.")
    opened = Run.open(run) if resume else Run.create(run, chosen_config(preset, config, changes))
    if opened.config.losses.perceptual == 0:
        _say("The perceptual (VGG-16) loss has weight 0 in this config.", style="dim")
    train_run(opened, goes_on=f"continue with --resume --run {run}")
    _say(f"Trained: {run}/checkpoints, {run}/samples, {run}/stats.jsonl.")


@app.command()
def train_masks(run: RunOption) -> None:
    """Train a run's mask generators, which make reference masks from the photo alone; goes on where it stood."""
    from outfitgan.training.runs import Run
    from outfitgan.training.train import train_masks as train_mask_generators

    train_mask_generators(Run.open(run))
    _say(f"Trained: {run}/checkpoints, {run}/stats.jsonl. Export and build the run to use its mask generators.")


@app.command()
def export(
    run: RunOption,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp32, fp16, int8, int8-fp16; the first two if none.")
    ] = None,
    calibrate: Annotated[int | None, typer.Option(min=1, help="Outfits that int8 takes ranges from; 16.")] = None,
) -> None:
    """Export each generator, SAM and mask generator and the CCM to ONNX, and check them against torch."""
    from export.calibration import OUTFITS, open_calibration
    from export.exported import CALIBRATED, FLOATS
    from export.exporter import export_run
    from outfitgan.training.networks import load_classifier, load_generator, load_mask_generators
    from outfitgan.training.runs import Run

    precisions = precision or FLOATS
    rounded = bool({*precisions} & {*CALIBRATED})
    if calibrate and not rounded:
        raise InputError("--calibrate is for an INT8 export; say --precision int8 too, or leave it out.")
    opened = Run.open(run)
    networks = load_generator(opened), load_classifier(opened), load_mask_generators(opened)
    training = opened.config.training
    for what, stage, steps in (
        ("the training", "outfit", training.steps),
        ("the mask generators' training", "masks", training.mask_steps),
    ):
        if 0 < (done := opened.step(stage)) < steps:
            _notes([f"{what} stands at step {done} of {steps}"])
    origin, calibration = RunFolder(run).weights(), None
    with _progress("export") as show:
        if rounded:
            shown = calibrate or OUTFITS
            calibration = open_calibration(opened.config, shown, lambda *done: show("outfits decoded", *done))
        output = run / "graphs"
        graphs = export_run(*networks, opened.config.model, output, precisions, show, origin, calibration)
    _say(f"Exported {len(graphs)} graphs to {run}/graphs, each within its tolerance of torch.")


@app.command()
def build(
    run: RunOption,
    target: Target = "openvino",
    precision: Precision = "fp32",
    fields: Annotated[
        list[str] | None,
        typer.Option("--set", help="OPTION=VALUE of the target, as refittable=true; kept for later; may be repeated."),
    ] = None,
) -> None:
    """Build an engine of each graph and check it against the graph."""
    from engines.store import EngineStore, load_target
    from outfitgan.config import parse_fields
    from serving.pipeline import engine_graphs

    load_target(target)
    graphs = engine_graphs(RunFolder(run), target, precision)
    store = EngineStore(RunFolder(run).engines)
    if fields:
        store.choose(target, parse_fields(fields))
    with _progress("build") as show:
        store.build_all(graphs, target, precision, show)
    _say(f"Built {len(graphs)} {target} {precision} engines in {run}/engines.")


@app.command()
def assemble(
    run: RunOption,
    target: Target = "openvino",
    precision: Precision = "fp32",
    threads: Threads = 0,
    output: Annotated[Path | None, typer.Option(help="The repository; <run>/repository if nothing is said.")] = None,
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
    from engines.folder import find_engines
    from serving.gpu_config import GpuServing
    from serving.pipeline import run_engines
    from serving.repository import assemble as assemble_repository

    folder, serving = RunFolder(run), GpuServing(instances, tuple(cuda_graph or ()), server_tensorrt)
    repository, model = output or folder.repository, folder.config().model
    engines = run_engines(folder, target, precision)
    others = [find_engines(root, target, precision) for root in also or ()]
    assemble_repository(model, engines, repository, threads, serving, others)
    here = f"serve it with 'outfitgan serve --repository {repository}'"
    there = "NVIDIA's Triton Inference Server, which has TensorRT, serves it (docs/tensorrt.md)"
    _say(f"Assembled {repository}; {there if target == 'tensorrt' else here}.")


@app.command()
def serve(
    repository: Annotated[Path, typer.Option(help="What 'outfitgan assemble' wrote.")],
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8001,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8002,
    host: Annotated[str, typer.Option(help="Address to listen on; anything but loopback is open to others.")] = (
        "127.0.0.1"
    ),
    log: Annotated[Path | None, typer.Option(help="Where the server's own log goes.")] = None,
) -> None:
    """Start the Triton Inference Server over a repository, until Ctrl-C."""
    from serving.server import TritonServer

    def interrupt(signum: int, frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # one is enough: the server is then given its time to stop
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        with TritonServer(repository, http_port, grpc_port, metrics_port, host, log) as server:
            urls = f"gRPC {server.grpc_url}, HTTP {server.http_url}, metrics {server.metrics_url}"
            _say(f"Ready: {urls}. Ctrl-C stops it.")
            while True:
                server.check()
                time.sleep(0.2)
    except KeyboardInterrupt:
        _say("Stopped.")


@app.command()
def generate(
    source: Annotated[Path, typer.Option(help="A picture of the garment you have.")],
    output: Annotated[Path, typer.Option(help="Folder for the outfit's pictures.")],
    mask: Annotated[
        list[str] | None,
        typer.Option(help="KIND=FILE, white silhouette on black, or KIND=auto; once an item. None: all are generated."),
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Generate here, with this run's engines ...")] = None,
    server: Annotated[str | None, typer.Option(help="... or on the server at HOST:PORT.")] = None,
    protocol: Annotated[str, typer.Option(help="What --server speaks: grpc or http.")] = "grpc",
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for --server to be ready.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="Make this kind only; may be repeated.")] = None,
    target: Target = "openvino",
    precision: Precision = "fp32",
    threads: Threads = 0,
) -> None:
    """Make the rest of an outfit from one garment and silhouette masks."""
    if (run is None) == (server is None):
        raise InputError("Say where to generate: --run FOLDER for this process, or --server HOST:PORT.")
    from serving.generation import check_output, generate_here, generate_served, told
    from serving.request import parse_masks, read_request

    masks, kinds = parse_masks(mask or []), [ItemKind.parse(kind) for kind in only or []]
    check_output(output)
    if run is not None:
        from serving.pipeline import run_pipeline

        with run_pipeline(RunFolder(run), target, precision, threads) as pipeline:
            request = read_request(source, masks, kinds, pipeline)
            _notes(request.notes)
            result = generate_here(pipeline, request, output)
    else:
        from serving.client import OutfitClient

        with OutfitClient(str(server), protocol) as client:
            client.wait_until_ready(wait)
            request = read_request(source, masks, kinds, client)
            _notes(request.notes)
            result = generate_served(client, request, output)
    _say(told(request, result, output))


@app.command()
def parity(run: RunOption) -> None:
    """Compare every hop from torch to the served ensemble: one table, and <run>/parity.json."""
    from bench.parity import ENGINES, parity_table
    from bench.report import show_parity, write_parity
    from bench.subject import complete
    from outfitgan.training.runs import Run

    opened = Run.open(run)
    absent = complete(opened, 0, lambda text: _say(text, style="dim"), ENGINES)
    table, refused = parity_table(opened, absent), [f"{' '.join(engine)}: {why}" for engine, why in absent.items()]
    show_parity(table, refused, _out)
    _say(f"Wrote {write_parity(table, refused, run / 'parity.json')}.")


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="The run's folder; made anew.")] = Path("runs/demo"),
    preset: Annotated[str, typer.Option(help="What to train.")] = "demo",
) -> None:
    """Everything once: train, export, build, assemble, serve, generate, and a picture."""
    from serving.demo import run_demo

    run_demo(output, preset, _say)


def main() -> None:
    """Run a verb; an expected error is one sentence on stderr and exit code 2."""
    # torch's threads wait for each other by spinning; beside another busy program that makes a small network's training
    # many times slower (0.6 s a step became 8 s). Read when torch is loaded, so it is set here.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        app()
    except Exception as error:
        if (said := sentence(error)) is None:
            raise
        _err.print(f"error: {said}", style="red", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


class _progress:  # noqa: N801 - reads as a function
    """A progress bar for steps that have names."""

    def __init__(self, title: str) -> None:
        columns = (TextColumn(f"{title:<12}"), BarColumn(bar_width=24), MofNCompleteColumn())
        self._progress = Progress(*columns, TextColumn("{task.description}", style="dim"), console=_err)

    def __enter__(self) -> Any:
        self._progress.start()
        self._task = self._progress.add_task("", total=None)
        return self._show

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _show(self, name: str, number: int, total: int) -> None:
        self._progress.update(self._task, description=name, completed=number, total=total)


def _notes(notes: Iterable[str]) -> None:
    for note in notes:
        _err.print(f"note: {note}", style="dim", markup=False)


def _say(text: str, style: str | None = None) -> None:
    _out.print(text, style=style, markup=False)
