"""Where a trained run's SAMs look: arrows and heat maps for held-out outfits, and figures of how they look."""

from __future__ import annotations

import json
from typing import cast

import numpy as np
import torch
from torch import Tensor

from outfitgan.errors import RunError
from outfitgan.evaluation.correspondence import Looking, correspondence_sheet
from outfitgan.experiments.arms import Settings
from outfitgan.files import atomic_write, partial_file
from outfitgan.networks.architectures import alignments_of
from outfitgan.training.batches import batch_of
from outfitgan.training.networks import load_generator
from outfitgan.training.runs import Run
from outfitgan.training.train import open_split

_SHEETS = 4


def run(settings: Settings, trained: Run) -> None:
    """Draw sheets of `trained` and measure, over the garment's cells, how sharp and how faithful its matches are."""
    config, generator = trained.config, load_generator(trained)
    alignments = alignments_of(generator)
    if not alignments:
        raise RunError(f"{trained.folder} has no SAM; choose a run with one.")
    store = open_split(config, config.model.image_size, "test")
    count = min(settings.count or len(store), len(store))
    batch = batch_of(*store.gather(store.rows(range(count))))
    source, targets = batch.image(config.model.source), config.model.targets
    with torch.inference_mode():
        made = generator(source[:_SHEETS], batch.masks_of(targets)[:_SHEETS])  # (n, T, 3, S, S)
    for number in range(min(_SHEETS, count)):
        sheet = correspondence_sheet(
            {kind: cast(Looking, module) for kind, module in alignments.items()},
            source[number],
            {kind: batch.mask(kind)[number] for kind in targets},
            {kind: made[number, index] for index, kind in enumerate(targets)},
            config.model.alignment_grid,
        )
        with partial_file(settings.output / f"correspondence-{number}.png") as partial:
            sheet.save(partial, format="PNG")
    figures = {str(k): _figures(m, source, batch.mask(k)) for k, m in alignments.items()}
    atomic_write(settings.output / "report.json", (json.dumps(figures, indent=1) + "\n").encode())
    for kind, values in figures.items():
        listed = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
        settings.console.print(f"{kind}: {listed}")
    settings.console.print(f"Wrote {min(_SHEETS, count)} sheets and report.json to {settings.output}.")


def _figures(alignment: torch.nn.Module, source: Tensor, mask: Tensor) -> dict[str, float]:
    """Return, over the target's garment cells: the best match's mean weight, how often it lies on the garment, spread.

    The spread is the share of the source's garment cells that are some cell's best match.
    """
    with torch.inference_mode():
        _, index, weight = alignment.match(source, mask)  # type: ignore[operator]
    grid = weight.shape[-1]
    on_target = torch.nn.functional.adaptive_avg_pool2d(mask, grid)[:, 0] > 0.5  # (N, g, g)
    ink = torch.nn.functional.adaptive_avg_pool2d((source.amin(dim=1, keepdim=True) < 0.92).float(), grid)[:, 0] > 0.5
    hits, spread = [], []
    for row in range(len(index)):
        chosen = index[row][on_target[row]]
        garment = ink[row].flatten()
        hits.append(float(garment[chosen].float().mean()))
        spread.append(float(garment[chosen.unique()].sum() / garment.sum().clamp(min=1)))
    return {
        "weight of the best match": float(weight[on_target].mean()),
        "matches on the garment": float(np.mean(hits)),
        "garment that is looked at": float(np.mean(spread)),
    }
