"""Where a trained run's SAMs look: arrows and heat maps for held-out outfits, and figures of how they look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from outfitgan.errors import RunError
from outfitgan.evaluation.correspondence_sheet import Looking, correspondence_sheet
from outfitgan.evaluation.metrics.arrays import slices
from outfitgan.evaluation.metrics.bootstrap import mean_interval, resample
from outfitgan.evaluation.table import Metric
from outfitgan.experiments.arms import Outcome, Settings
from outfitgan.experiments.experiment_report import rows_of, write_report
from outfitgan.files import partial_file
from outfitgan.items import ItemKind
from outfitgan.networks.architectures import OutfitGenerator, alignments_of
from outfitgan.training.batches import Batch, batch_of
from outfitgan.training.runs import Run
from outfitgan.training.train import open_split
from outfitgan.training.trained_networks import load_generator
from outfitgan.white_ground import ITEM_BELOW, signed

_SHEETS = 4
_CHUNK = 16  # outfits at a time
_LEAST = 2  # outfits that an interval takes
_METRICS = ("weight of the best match", "matches on the garment", "garment that is looked at")


_Match = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


class _Matching(Looking, Protocol):
    """What the figures need of a SAM besides."""

    def match(self, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the warped features, and per grid cell the best source cell (B, g, g) and its weight."""
        ...


def run(settings: Settings, trained: Run) -> None:
    """Draw sheets of `trained` and measure, over the garment's cells, how sharp and how faithful its matches are.

    The run's own config says of which outfits; of `settings` the output and the count alone are heeded.
    """
    config, generator = trained.config, load_generator(trained)
    alignments = {kind: cast(_Matching, module) for kind, module in alignments_of(generator).items()}
    if not alignments:
        raise RunError(f"{trained.folder} has no SAM; choose a run with one.")
    store = open_split(config, config.model.image_size, "test")
    count = min(settings.count or len(store), len(store))
    batch = batch_of(*store.gather(store.rows(range(count))))
    own = replace(settings, config=config, seeds=(config.training.seed,), count=count)
    sheets = _draw(batch.first(_SHEETS), generator, alignments, own)
    names, source = store.names[:count], batch.image(config.model.source)
    outcomes = [
        Outcome(kind, config.training.seed, _measure(module.match, source, batch.mask(kind), names), None, None)
        for kind, module in alignments.items()
    ]
    rows = rows_of(outcomes, _METRICS)
    if not any(row.intervals for row in rows):
        raise RunError(
            f"No silhouette of {trained.folder}'s outfits fills a cell of its SAMs' grid; choose other outfits."
        )
    notes = [f"{sheets} sheets show where single cells look: correspondence-0.png and on."]
    write_report("correspondence", "Where the SAMs look", rows, outcomes, notes, own)


def _draw(batch: Batch, generator: OutfitGenerator, alignments: Mapping[ItemKind, Looking], settings: Settings) -> int:
    """Draw a sheet of each outfit of a batch, and return how many there are."""
    model = settings.config.model
    source = batch.image(model.source)
    with torch.inference_mode():
        made = generator(source, batch.masks_of(model.targets))  # (n, T, 3, S, S)
    for number in range(len(source)):
        sheet = correspondence_sheet(
            dict(alignments),
            source[number],
            {kind: batch.mask(kind)[number] for kind in model.targets},
            {kind: made[number, index] for index, kind in enumerate(model.targets)},
            model.alignment_grid,
        )
        with partial_file(settings.output / f"correspondence-{number}.png") as partial:
            sheet.save(partial, format="PNG")
    return len(source)


def _measure(match: _Match, source: Tensor, masks: Tensor, names: Sequence[str]) -> list[Metric]:
    """Return one kind's figures of sources (N, 3, S, S) and masks (N, 1, S, S).

    Over the target's garment cells: the best match's mean weight, and how often it lies on the source's garment; and
    the share of the source's garment cells that are some target cell's best match. A silhouette too small to fill a
    cell has no match, and is left out.
    """
    weights, owners, hits, spread, measured = [], [], [], [], []
    for part in slices(len(names), _CHUNK):
        with torch.inference_mode():
            _, index, weight = match(source[part], masks[part])  # (n, g, g) both
        grid = weight.shape[-1]
        garment_pixels = (source[part].amin(dim=1, keepdim=True) < signed(ITEM_BELOW)).float()
        on_target, on_garment = _filled(masks[part], grid), _filled(garment_pixels, grid)  # (n, g, g)
        for row, name in enumerate(names[part]):
            cells = on_target[row]
            if not cells.any():
                continue
            chosen, garment = index[row][cells].numpy(), on_garment[row].flatten().numpy()
            weights.append(weight[row][cells])
            owners += [name] * len(chosen)
            hits.append(garment[chosen].mean())
            spread.append(garment[np.unique(chosen)].sum() / max(garment.sum(), 1))
            measured.append(name)
    if len(set(measured)) < _LEAST:
        note = f"{len(set(measured))} outfit(s) have a silhouette that fills a cell; it takes {_LEAST}."
        return [Metric(name, "all", None, "higher", note) for name in _METRICS]
    values = (torch.cat(weights).double().numpy(), owners), (np.array(hits), measured), (np.array(spread), measured)
    return [
        Metric(name, "all", mean_interval(figures, resample(units)), "higher")
        for name, (figures, units) in zip(_METRICS, values, strict=True)
    ]


def _filled(shapes: Tensor, grid: int) -> Tensor:
    """Return which cells of a grid shapes (N, 1, S, S) more than half fill: (N, g, g)."""
    return F.adaptive_avg_pool2d(shapes, grid)[:, 0] > 0.5
