"""`outfitgan serve`, `generate` and `demo`: outfits, from a server or in this process."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from cli.console import print_line, print_notes
from cli.shared_options import Precision, RuntimeName, Threads
from outfitgan.errors import InputError

app = typer.Typer()


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
    from serving.server.triton_server import TritonServer

    def interrupt(signum: int, frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # one is enough: the server is then given its time to stop
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        with TritonServer(repository, http_port, grpc_port, metrics_port, host, log) as server:
            urls = f"gRPC {server.grpc_url}, HTTP {server.http_url}, metrics {server.metrics_url}"
            print_line(f"Ready: {urls}. Ctrl-C stops it.")
            while True:
                server.check()
                time.sleep(0.2)
    except KeyboardInterrupt:
        print_line("Stopped.")


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
    runtime: RuntimeName = "openvino",
    precision: Precision = "fp32",
    threads: Threads = 0,
) -> None:
    """Generate the rest of an outfit from one garment and silhouette masks."""
    if (run is None) == (server is None):
        raise InputError("Say where to generate: --run FOLDER for this process, or --server HOST:PORT.")
    from outfitgan.items import ItemKind
    from serving.generation import check_output, generate_here, generate_served, summary
    from serving.request import parse_masks, read_request

    masks, kinds = parse_masks(mask or []), [ItemKind.parse(kind) for kind in only or []]
    check_output(output)
    if run is not None:
        from outfitgan.run_folder import RunFolder
        from serving.run_pipeline import run_pipeline

        with run_pipeline(RunFolder(run), runtime, precision, threads) as pipeline:
            request = read_request(source, masks, kinds, pipeline)
            print_notes(request.notes)
            result = generate_here(pipeline, request, output)
    else:
        from serving.client.outfit_client import OutfitClient

        with OutfitClient(str(server), protocol) as client:
            client.wait_until_ready(wait)
            request = read_request(source, masks, kinds, client)
            print_notes(request.notes)
            result = generate_served(client, request, output)
    print_line(summary(request, result, output))


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="The run's folder; made anew.")] = Path("runs/demo"),
    preset: Annotated[str, typer.Option(help="What to train.")] = "demo",
) -> None:
    """Everything once: train, export, build, assemble, serve, generate, and a picture."""
    from serving.demo import run_demo

    run_demo(output, preset, print_line)
