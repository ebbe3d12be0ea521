"""Results as a person reads them, one row a metric, and as a program does; what is missing is a row as well."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from outfitgan.evaluation.metrics.bootstrap import Interval
from outfitgan.files import atomic_write
from outfitgan.items import COLLOCATION_ORDER, ItemKind

Better = Literal["higher", "lower", "near 1"]
Kind = ItemKind | Literal["all"]
_ARROWS: dict[Better, str] = {"higher": "↑", "lower": "↓", "near 1": "→1"}


@dataclass(frozen=True)
class Metric:
    """One result, of the items of one kind or of all."""

    name: str  # with its feature network, as in "FID (EfficientNet-Lite0)"
    kind: Kind
    interval: Interval | None  # None where it could not be measured: `note` says what is missing
    better: Better
    note: str = ""  # one sentence


def show_metrics(metrics: Sequence[Metric], title: str, console: Console) -> None:
    """Print one row a metric and one column a kind, in collocation order with "all" last, then the notes."""
    present = {metric.kind for metric in metrics}
    order: tuple[Kind, ...] = (*COLLOCATION_ORDER, "all")
    columns = [kind for kind in order if kind in present]
    table = Table(title=Text(title))
    table.add_column("metric")
    for kind in columns:
        table.add_column(kind, justify="right")
    for name in dict.fromkeys(metric.name for metric in metrics):
        row = {metric.kind: metric for metric in metrics if metric.name == name}
        arrow = _ARROWS[next(iter(row.values())).better]
        table.add_row(Text(f"{name} {arrow}"), *(_cell(row.get(kind)) for kind in columns))
    console.print(table)
    if (caption := _caption(metrics)) is not None:
        console.print(caption)
    for note in dict.fromkeys((metric.name, metric.note) for metric in metrics if metric.note):
        console.print(Text(": ".join(note), style="yellow"))


def write_metrics(metrics: Sequence[Metric], facts: Mapping[str, Any], path: Path) -> Path:
    """Write the results as JSON, a missing one with a null interval, beside what they are of; return the path."""
    content = {"facts": dict(facts), "metrics": [asdict(metric) for metric in metrics]}
    atomic_write(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    return path


def _cell(metric: Metric | None) -> Text:
    if metric is None:
        return Text("")
    return Text("missing", style="yellow") if metric.interval is None else Text(str(metric.interval))


def _caption(metrics: Sequence[Metric]) -> Text | None:
    counts = sorted({metric.interval.n for metric in metrics if metric.interval is not None})
    if not counts:
        return None
    over = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return Text(f"↑ higher is better, ↓ lower, →1 near 1; in brackets the bootstrap interval over {over} outfits")
