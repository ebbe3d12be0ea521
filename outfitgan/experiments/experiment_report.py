"""How an experiment ends: a table in the terminal and as Markdown, a plot, and a JSON of every figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from outfitgan.evaluation.metrics.bootstrap import Interval
from outfitgan.experiments.arms import Outcome, Settings
from outfitgan.files import atomic_write, partial_file

mpl.use("Agg")  # no screen is needed, and none is asked for

from matplotlib import pyplot as plt


@dataclass(frozen=True)
class Row:
    """One arm over all seeds."""

    arm: str
    intervals: dict[str, Interval]  # metric -> over all seeds; a missing metric is left out
    seeds: dict[str, list[Interval]]  # metric -> each seed's
    parameters: int | None  # as of an `Outcome`
    step_seconds: float | None


def hull(intervals: Sequence[Interval]) -> Interval:
    """Return the mean of several seeds' values between the lowest and the highest of their bounds.

    Wider than any seed's own: two hulls that do not overlap differ in every seed.
    """
    mean = sum(interval.value for interval in intervals) / len(intervals)
    low, high = min(interval.low for interval in intervals), max(interval.high for interval in intervals)
    return Interval(mean, low, high, sum(interval.n for interval in intervals))


def rows_of(outcomes: Sequence[Outcome], metrics: Sequence[str], kind: str = "all") -> list[Row]:
    """Return one row an arm, of metrics of one kind."""
    rows = []
    for arm in dict.fromkeys(outcome.arm for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.arm == arm]
        seeds = {name: [i for o in mine if (i := o.interval(name, kind)) is not None] for name in metrics}
        seeds = {name: intervals for name, intervals in seeds.items() if intervals}
        times = [outcome.step_seconds for outcome in mine if outcome.step_seconds is not None]
        rows.append(
            Row(
                arm,
                {name: hull(intervals) for name, intervals in seeds.items()},
                seeds,
                mine[0].parameters,
                sum(times) / len(times) if times else None,
            )
        )
    return rows


def write_report(
    name: str, title: str, rows: Sequence[Row], outcomes: Sequence[Outcome], notes: Sequence[str], settings: Settings
) -> Path:
    """Print the table; write report.md, report.json and report.png; return the folder."""
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.intervals))
    _show(title, rows, metrics, settings.console)
    for note in notes:
        settings.console.print(Text(note))
    facts = facts_of(settings)
    content = {"experiment": name, "facts": facts, "notes": list(notes), "outcomes": [asdict(o) for o in outcomes]}
    atomic_write(settings.output / "report.json", (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    atomic_write(settings.output / "report.md", _markdown(title, rows, metrics, notes, facts).encode())
    with partial_file(settings.output / "report.png") as partial:
        plot_rows(title, rows, metrics, partial)
    settings.console.print(f"Wrote {settings.output}/report.md, report.json and report.png.")
    return settings.output


def facts_of(settings: Settings) -> dict[str, Any]:
    """Return what a figure is worth nothing without."""
    training, data = settings.config.training, settings.config.data
    return {
        "data": data.name,
        "outfits": data.count if data.name in ("synthetic", "fashion_mnist") else "all",
        "image_size": settings.config.model.image_size,
        "seeds": list(settings.seeds),
        "measured_outfits": settings.count or "all",
        "ccm_steps": training.collocation_steps,
        "steps": training.steps,
        "batch": training.batch,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def apart(metric: str, one: Row, other: Row) -> str:
    """Return a sentence that compares two arms in one metric."""
    first, second = one.intervals[metric], other.intervals[metric]
    verdict = "the intervals overlap" if first.overlaps(second) else "the intervals do not overlap"
    return f"{metric}: {one.arm} {first}, {other.arm} {second}; {verdict}."


def _show(title: str, rows: Sequence[Row], metrics: Sequence[str], console: Console) -> None:
    table = Table(title=Text(title), caption="in brackets: the widest of the seeds' bootstrap intervals")
    table.add_column("arm")
    for metric in metrics:
        table.add_column(metric, justify="right")
    for row in rows:
        table.add_row(row.arm, *(str(row.intervals.get(metric, "")) for metric in metrics))
    console.print(table)


def _markdown(
    title: str, rows: Sequence[Row], metrics: Sequence[str], notes: Sequence[str], facts: dict[str, Any]
) -> str:
    columns = {metric: [str(row.intervals.get(metric, "")) for row in rows] for metric in metrics}
    columns["parameters"] = ["" if row.parameters is None else f"{row.parameters:,}" for row in rows]
    columns["s a step"] = ["" if row.step_seconds is None else f"{row.step_seconds:.2f}" for row in rows]
    columns = {head: cells for head, cells in columns.items() if any(cells)}  # what no arm has is no column
    lines = [f"# {title}", "", "| " + " | ".join(["arm", *columns]) + " |", "|---" * (1 + len(columns)) + "|"]
    for place, row in enumerate(rows):
        lines.append("| " + " | ".join([row.arm, *(cells[place] for cells in columns.values())]) + " |")
    lines += ["", *(f"- {note}" for note in notes), "", "; ".join(f"{key}: {value}" for key, value in facts.items())]
    return "\n".join(lines) + "\n"


def plot_rows(title: str, rows: Sequence[Row], metrics: Sequence[str], path: Path) -> None:
    """Draw one panel a metric: each seed's value with its interval, arm by arm."""
    columns = min(4, len(metrics))
    lines = -(-len(metrics) // columns)
    many = len(rows) > 8  # names then stand upright, each with room
    width, height, turned = (0.24 * len(rows), 3.6, 90) if many else (3.4, 2.6, 20)
    figure, panels = plt.subplots(lines, columns, figsize=(width * columns, 1.1 + height * lines), squeeze=False)
    colours = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
    for panel, metric in zip(panels.flat, metrics, strict=False):
        for place, row in enumerate(rows):
            intervals = row.seeds.get(metric, [])
            for number, interval in enumerate(intervals):
                x = place + 0.12 * (number - (len(intervals) - 1) / 2)
                ends = [[max(interval.value - interval.low, 0)], [max(interval.high - interval.value, 0)]]
                colour = colours[place % len(colours)]
                panel.errorbar([x], [interval.value], yerr=ends, fmt="o", color=colour, markersize=4, capsize=2)
        panel.set_title(metric, fontsize=9)
        panel.set_xticks(range(len(rows)), [row.arm for row in rows], fontsize=8, rotation=turned)
        if not many:
            plt.setp(panel.get_xticklabels(), ha="right")
        panel.tick_params(axis="y", labelsize=8)
        panel.grid(axis="y", alpha=0.3)
        panel.margins(x=0.03 if many else 0.15)
    for panel in list(panels.flat)[len(metrics) :]:
        panel.axis("off")
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    figure.savefig(path, format="png", dpi=110)
    plt.close(figure)
