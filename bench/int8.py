"""What INT8 costs and what it gains on this CPU: the tables of docs/quantisation.md, as Markdown.

python bench/int8.py                    latency at the default width, untrained weights, in runs/bench-small
python bench/int8.py --run runs/demo    a run of yours, whose items' accuracy means something
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from bench.subject import untrained_run
from engines.engine import Engine
from engines.registry import open_engine
from export.parity import psnr
from outfitgan.contracts import Arrays
from outfitgan.data.open_outfits import open_outfits
from outfitgan.errors import UnsupportedError
from outfitgan.evaluation.metrics.ssim import ssim
from outfitgan.model_graphs import item_graphs
from outfitgan.program import print_error, run_program
from outfitgan.run_folder import RunFolder
from outfitgan.training.runs import Run
from serving.complete_run import complete_run
from serving.run_pipeline import run_engines

RUNTIMES = ("openvino", "onnxruntime")
PRECISIONS = ("fp32", "int8")
_WARM = 3  # calls before the clock is read

Requests = dict[str, list[Arrays]]
"""Graph name -> its inputs for each outfit."""


def main(
    run: Annotated[Path | None, typer.Option(help="A trained run; without it an untrained one is made.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Held-out outfits to compare items of.")] = 40,
    repeats: Annotated[int, typer.Option(min=2, help="Calls of each engine; the two precisions take turns.")] = 40,
    threads: Annotated[int, typer.Option(min=0, help="Threads an engine; 0 takes every core.")] = 0,
) -> None:
    """Compare INT8 engines with FP32 ones: PSNR and SSIM of items, and the latency of the first graph."""
    opened = Run.open(run) if run else untrained_run(Path("runs") / "bench-small", "small")
    wanted = [(runtime, precision) for runtime in RUNTIMES for precision in PRECISIONS]
    absent = complete_run(opened, threads, print_error, wanted, ("fp32",))
    runtimes, requests = measurable(absent), held_out(opened, count)
    print("| runtime | items | PSNR dB: mean | worst | SSIM: mean | worst | ms fp32 | ms int8 | ratio | middle half |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for runtime in runtimes:
        print(_line(opened, runtime, threads, requests, repeats), flush=True)
    for (runtime, precision), reason in absent.items():
        print_error(f"{runtime} {precision}: {reason}")


def measurable(absent: Mapping[tuple[str, str], str]) -> list[str]:
    """Return the runtimes of which both precisions are there.

    Args:
        absent: why an engine of a runtime in a precision is not.

    Raises:
        UnsupportedError: if there is no such runtime.

    """
    found = [runtime for runtime in RUNTIMES if not any((runtime, precision) in absent for precision in PRECISIONS)]
    if not found:
        reasons = "; ".join(f"{runtime} {precision}: {reason}" for (runtime, precision), reason in absent.items())
        raise UnsupportedError(f"No runtime here has both {' and '.join(PRECISIONS)} engines: {reasons}")
    return found


def held_out(run: Run, count: int) -> Requests:
    """Return what every generator's graph takes of `count` outfits of the test split, or of as many as there are."""
    model = run.config.model
    outfits = open_outfits(run.config.data, model.image_size, "test", run.config.training.seed)
    requests: Requests = {item_graph.contract.name: [] for item_graph in item_graphs(model)}
    for items in (outfits[index].items for index in range(min(count, len(outfits)))):
        masks = {kind: items[kind].mask[..., None] for kind in model.targets}
        for item_graph in item_graphs(model):
            requests[item_graph.contract.name].append(item_graph.feeds(items[model.source].image, masks))
    return requests


def agreement(pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> tuple[NDArray[np.float64], ...]:
    """Return the PSNR in dB and the SSIM of each pair of images (1, S, S, 3)."""
    first, second = (
        torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2) / 127.5 - 1 for images in zip(*pairs, strict=True)
    )  # (N, 3, S, S)
    return np.array([psnr(one, other) for one, other in pairs]), ssim(second, first)


def in_turns(engines: dict[str, Engine], feeds: Arrays, repeats: int) -> dict[str, NDArray[np.float64]]:
    """Return each engine's latencies in milliseconds (repeats,): what else the machine does then meets all alike."""
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(_WARM + repeats):
        for name, engine in engines.items():
            began = perf_counter()
            engine.run(feeds)
            if number >= _WARM:
                taken[name].append((perf_counter() - began) * 1000)
    return {name: np.array(times) for name, times in taken.items()}


def _line(run: Run, runtime: str, threads: int, requests: Requests, repeats: int) -> str:
    pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []
    times: dict[str, NDArray[np.float64]] = {}
    for graph, feeds in requests.items():
        with ExitStack() as stack:
            folders = {precision: run_engines(RunFolder(run.folder), runtime, precision) for precision in PRECISIONS}
            engines = {name: stack.enter_context(open_engine(found[graph], threads)) for name, found in folders.items()}
            for feed in feeds:
                exact, rounded = (engines[precision].run(feed) for precision in PRECISIONS)
                pairs += [(exact[name], rounded[name]) for name in exact]
            times = times or in_turns(engines, feeds[0], repeats)  # of the first graph alone: the others are like it
    decibels, similarity = agreement(pairs)
    accuracy = f"{decibels.mean():.1f} | {decibels.min():.1f} | {similarity.mean():.4f} | {similarity.min():.4f}"
    fp32, int8 = (float(np.median(times[precision])) for precision in PRECISIONS)
    low, high = np.percentile(times["fp32"] / times["int8"], [25, 75])
    latency = f"{fp32:.1f} | {int8:.1f} | {fp32 / int8:.2f} | {low:.2f} to {high:.2f}"
    return f"| {runtime} | {len(pairs)} | {accuracy} | {latency} |"


if __name__ == "__main__":
    run_program(lambda: typer.run(main))
