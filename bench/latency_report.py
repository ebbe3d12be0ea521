"""The latency table as a person reads it, and the goals that a training is held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from serving.parity.parity_report import decibel, show_refused

MOST_STALL, MOST_GIB = 1.3, 6
"""Goals of a training: how many times its passes a step may take, and the memory of its process in GiB."""


def show_latency(results: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any], console: Console) -> None:
    """Print the latency table and what could not be measured here."""
    size, millions = facts["image_size"], facts["parameters"]["generators"] / 1e6
    table = Table(title=f"{size}x{size}, {millions:.2f} M parameters of generators, batch 1, {facts['cpu']}")
    for column in ("row", "boundary"):
        table.add_column(column, no_wrap=True)
    for column in (
        "p50 ms",
        "p90",
        "p99",
        "p50 spread",
        "first ms",
        "load s",
        "RSS MiB",
        "PSNR dB",
        "M params",
        "outfits/s",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for result in results.values():
        table.add_row(result["title"], result["boundary"], *_cells(result))
    console.print(table)
    for sentence in training_goals(results):
        console.print(sentence)
    show_refused(facts["not_built"], console)
    show_refused([f"{r['title']}: {r['error']}" for r in results.values() if "error" in r], console)


def training_goals(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each goal of a training that was measured: the figure, and whether it keeps to the goal."""
    sentences = []
    if ratio := stall(results):
        sentences.append(f"A training step takes {ratio:.2f} of its passes alone (p50): {_verdict(ratio, MOST_STALL)}.")
    if mebibytes := results.get("train-step", {}).get("peak_rss_mib"):
        gibibytes = mebibytes / 1024
        sentences.append(f"Its process takes {gibibytes:.2f} GiB of memory: {_verdict(gibibytes, MOST_GIB)} GiB.")
    return sentences


def _verdict(value: float, most: float) -> str:
    return f"within {most}" if value <= most else f"above {most}"


def stall(results: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return how many times a training step's passes the whole step takes, None unless both were measured."""
    step, passes = (results.get(name, {}).get("p50_ms") for name in ("train-step", "train-passes"))
    return step / passes if step and passes else None


def _cells(result: Mapping[str, Any]) -> list[str]:
    if "error" in result:
        return ["not here"] + [""] * 9
    return [
        *(f"{result[name]:.1f}" for name in ("p50_ms", "p90_ms", "p99_ms")),
        f"{result['p50_low_ms']:.1f}-{result['p50_high_ms']:.1f}",
        f"{result['first_ms']:.0f}",
        f"{result['load_s']:.1f}",
        f"{result['peak_rss_mib']:.0f}" if "peak_rss_mib" in result else "",
        decibel(result.get("psnr_db")),
        f"{result['parameters'] / 1e6:.2f}" if "parameters" in result else "",
        f"{result['outfits_per_s']:.1f}" if "outfits_per_s" in result else "",
    ]
