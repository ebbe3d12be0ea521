"""Latency and parity of every way to run the generators: one table, one JSON.

python bench/run.py                     the default width, untrained weights, in runs/bench-<preset>
python bench/run.py --run runs/demo     a run of yours
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from bench.rows import PROCESS, ROWS
from outfitgan.errors import RunError
from outfitgan.model_graphs import item_graphs
from outfitgan.program import run_program

if TYPE_CHECKING:
    from outfitgan.config import Config
    from outfitgan.training.runs import Run

_WIDTH = 170  # columns of the table in a file or a pipe
_console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else _WIDTH)


def main(
    run: Annotated[Path | None, typer.Option(help="A trained run; without it an untrained one is made.")] = None,
    preset: Annotated[str, typer.Option(help="Width of the untrained run.")] = "small",
    row: Annotated[list[str] | None, typer.Option(help=f"Only these of: {', '.join(ROWS)}.")] = None,
    requests: Annotated[int, typer.Option(min=1, help="Calls a repeat.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats; their spread is shown.")] = 3,
    threads: Annotated[int, typer.Option(min=0, help="Threads an engine; 0 takes every core.")] = 0,
    output: Annotated[Path | None, typer.Option(help="The JSON; <run>/bench.json by default.")] = None,
) -> None:
    """Measure every row in a process of its own and compare its images with torch's."""
    from bench.latency_report import show_latency
    from bench.subject import untrained_run
    from outfitgan.files import atomic_write
    from outfitgan.training.runs import Run

    names = row or list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        raise RunError(f"There is no row {', '.join(unknown)}; choose from {', '.join(ROWS)}.")
    opened = Run.open(run) if run else untrained_run(Path("runs") / f"bench-{preset}", preset)
    settings = {"threads": threads, "requests": requests, "repeats": repeats}
    results: dict[str, dict[str, Any]] = {}
    refused: list[str] = []
    for other in dict.fromkeys(ROWS[name].preset for name in names):
        subject = untrained_run(Path("runs") / f"bench-{other}", other) if other else opened
        results |= _measure_run(subject, [name for name in names if ROWS[name].preset == other], settings, refused)
    results = {name: results[name] for name in names if name in results}
    facts = _facts(opened, threads, refused)
    path = output or opened.folder / "bench.json"
    atomic_write(path, (json.dumps({"facts": facts, "rows": results}, indent=2) + "\n").encode())
    show_latency(results, facts, _console)
    _console.print(f"Wrote {path}.")
    if failed := [name for name in results if "error" in results[name]]:
        raise RunError(f"The rows {', '.join(failed)} failed; their sentences stand above.")


def _measure_run(run: Run, names: list[str], settings: dict[str, Any], refused: list[str]) -> dict[str, dict[str, Any]]:
    """Return the results of rows of one run; add to `refused` the engines that this machine cannot run."""
    if engines := [needs for name in names if (needs := ROWS[name].needs)]:
        from serving.complete_run import complete_run

        absent = complete_run(run, settings["threads"], _print_dim, engines, ("fp32",))
        refused += [f"{' '.join(engine)}: {reason}" for engine, reason in absent.items()]
        names = [name for name in names if ROWS[name].needs not in absent]
    with tempfile.TemporaryDirectory() as scratch:
        return _measure(run, names, settings | {"run": str(run.folder)}, Path(scratch))


def _measure(run: Run, names: list[str], settings: dict[str, Any], scratch: Path) -> dict[str, dict[str, Any]]:
    import numpy as np

    from bench.subject import write_inputs
    from serving.complete_run import measured_repository
    from serving.server.triton_server import TritonServer

    write_inputs(run, inputs := scratch / "inputs.npz", reference := scratch / "reference.npz")
    settings = settings | {"inputs": str(inputs), "server": "", "server_http": ""}
    results = {name: _row(run.config, name, settings, scratch) for name in names if not ROWS[name].served}
    served = [name for name in names if ROWS[name].served]
    if served:
        _print_dim("starting tritonserver ...")
        with TritonServer(measured_repository(run)) as server:
            settings = settings | {"server": server.grpc_url, "server_http": server.http_url}
            results |= {name: _row(run.config, name, settings, scratch) for name in served}
    _add_parity(results, dict(np.load(reference)), scratch)
    return results


def _row(config: Config, name: str, settings: dict[str, Any], scratch: Path) -> dict[str, Any]:
    row = ROWS[name]
    items = len(item_graphs(config.model)[0].images)
    boundary = row.boundary.format(items=f"{items} item{'s' if items > 1 else ''}")
    _print_dim(f"measuring {row.title} ({boundary}) ...")
    spec = scratch / f"{name}.json"
    spec.write_text(json.dumps(settings | {"row": name}), encoding="utf-8")
    environment = {"GOMP_SPINCOUNT": "1000", **os.environ}  # as `outfitgan` sets it, and for its reason
    done = subprocess.run([sys.executable, "-m", "bench.worker", str(spec)], env=environment, check=False)
    if done.returncode:
        answer: dict[str, Any] = {"error": f"its process ended with status {done.returncode}"}
    else:
        answer = json.loads(spec.with_suffix(".out.json").read_text(encoding="utf-8"))
    if row.served:
        answer.pop("peak_rss_mib", None)  # it would be the client's
    if row.boundary == PROCESS:
        from bench.subject import parameter_count

        answer["parameters"] = parameter_count(config.model)["generators"]
    if row.outfits and "per_second" in answer:
        answer["outfits_per_s"] = round(answer["per_second"] * row.outfits(config), 1)
    return {"title": row.title, "boundary": boundary, **answer}


def _add_parity(results: dict[str, dict[str, Any]], reference: dict[str, Any], scratch: Path) -> None:
    import numpy as np

    from export.parity import psnr

    for name, result in results.items():
        if (path := scratch / f"{name}.npz").exists():
            made = np.load(path)
            result["psnr_db"] = round(min(psnr(reference[kind], made[kind]) for kind in made), 1)


def _facts(run: Run, threads: int, refused: list[str]) -> dict[str, Any]:
    import onnxruntime
    import openvino
    import torch

    from bench.subject import parameter_count
    from engines.host import cpu_name

    return {
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "openvino": openvino.__version__,
        "threads": threads,
        "image_size": run.config.model.image_size,
        "parameters": parameter_count(run.config.model),
        "not_built": refused,
    }


def _print_dim(text: str) -> None:
    _console.print(text, style="dim")


if __name__ == "__main__":
    run_program(lambda: typer.run(main))
