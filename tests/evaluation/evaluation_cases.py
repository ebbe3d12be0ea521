"""What the tests of evaluation share: a small config, a classifier whose answer is known, and metrics by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from outfitgan.config import Config, load_preset, override
from outfitgan.data.synthetic import SyntheticOutfits
from outfitgan.evaluation.metrics.bootstrap import Interval
from outfitgan.evaluation.table import Kind, Metric
from outfitgan.items import ItemKind

KINDS = (ItemKind.BAG, ItemKind.LOWER, ItemKind.SHOES)
COLUMNS: tuple[Kind, ...] = (*KINDS, "all")
OUTFITS = 5


def small(**changes: Any) -> Config:
    """Return the tiny preset at 32 pixels with a handful of outfits; keywords are fields with __ for the dot."""
    fields: dict[str, Any] = {"model.image_size": 32, "data.count": OUTFITS}
    return override(load_preset("tiny"), fields | {name.replace("__", "."): value for name, value in changes.items()})


TRAINED = small(training__collocation_steps=3, training__steps=2, training__tensorboard=False)


class Slots(nn.Module):
    """Weighs the mean brightness of each slot by its place, so that every slot and their order tell."""

    def forward(self, outfits: Tensor) -> Tensor:
        """Return logits (N,) of outfits (N, 4, 3, S, S)."""
        weights = torch.tensor([3.0, -2.0, 1.0, 0.5])
        return outfits.mean(dim=(2, 3, 4)) @ weights


def table(metrics: Sequence[Metric]) -> dict[str, dict[Kind, Interval | None]]:
    """Return each metric's intervals by kind."""
    found: dict[str, dict[Kind, Interval | None]] = {}
    for metric in metrics:
        row = found.setdefault(metric.name, {})
        assert metric.kind not in row
        row[metric.kind] = metric.interval
    return found


def values(metrics: Sequence[Metric], name: str) -> dict[Kind, float]:
    """Return one metric's values by kind, of a metric that was measured."""
    row = table(metrics)[name]
    return {kind: interval.value for kind, interval in row.items() if interval is not None}


def write_outfits(root: Path, one_bag: bool = False) -> None:
    """Write three held-out outfits; one bag's pixels in files of different bytes, so of different groups."""
    outfits = SyntheticOutfits(3, 64, 0, "test")
    for number in range(3):
        folder = root / "test" / str(number)
        folder.mkdir(parents=True)
        for kind, item in outfits[number].items.items():
            image = outfits[0].items[kind].image if kind == "bag" and one_bag else item.image
            Image.fromarray(image).save(folder / f"{kind}.png", compress_level=number)
